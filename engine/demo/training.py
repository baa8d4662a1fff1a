"""Trains the demonstration's model: will this flight arrive more than fifteen minutes late?"""

from pathlib import Path

import lightgbm
import polars as pl

from engine.demo.flights import CATEGORIES, FEATURES, LABEL

N_TREES = 100
N_LEAVES = 31


def train(table: pl.DataFrame, path: Path) -> Path:
    """Fit LightGBM on flights and write its text file, the same bytes each time; returns ``path``.

    The strings go in as pandas categoricals, whose values LightGBM keeps in the file.
    """
    frame = table.select(FEATURES).to_pandas()
    frame = frame.astype(dict.fromkeys(CATEGORIES, "category"))
    data = lightgbm.Dataset(frame, label=table[LABEL].to_numpy(), free_raw_data=True)
    booster = lightgbm.train(_parameters(), data, num_boost_round=N_TREES)
    booster.save_model(path)
    return path


def _parameters() -> dict[str, object]:
    return {
        "objective": "binary",
        "num_leaves": N_LEAVES,
        "learning_rate": 0.1,
        "min_data_in_leaf": 100,
        "cat_smooth": 50.0,
        "seed": 20131101,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "verbosity": -1,
    }
