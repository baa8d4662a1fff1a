"""What the demonstration found out, as one value for the terminal and the page."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score, roc_curve

from engine.demo.flights import FLIGHT_KEY, LABEL
from engine.errors import Failed
from load_tests.results.result import LoadResult

SCORE = "score"


@dataclass(frozen=True, slots=True, eq=False)
class BatchScores:
    """Scores of the held-out flights from Parquet, beside the truth.

    Attributes:
        scores: float64[n], in the order of the flights.
        late: bool[n], whether each arrived late.
        seconds: The whole command, start of Ray included.
    """

    scores: NDArray[np.float64]
    late: NDArray[np.bool_]
    seconds: float

    @property
    def auc(self) -> float:
        """Area under the ROC curve."""
        return float(roc_auc_score(self.late, self.scores))

    def roc(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """False and true positive rates, one point per threshold that matters."""
        false_positives, true_positives, _ = roc_curve(self.late, self.scores)
        step = max(1, len(false_positives) // 400)
        return false_positives[::step], true_positives[::step]


@dataclass(frozen=True, slots=True, eq=False)
class Lane:
    """One way to the engine, and what came back by it.

    Attributes:
        name: ``direct`` or ``ingress``.
        n_rows: Rows sent.
        n_differing: Rows whose online score differs from the batch's in any bit.
        rows_per_s: Over one connection.
    """

    name: str
    n_rows: int
    n_differing: int
    rows_per_s: float


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """Everything the page shows."""

    n_trained: int
    train_s: float
    bundle: Path
    batch: BatchScores
    start_s: float
    lanes: tuple[Lane, ...]
    load: LoadResult
    total_s: float

    @property
    def n_differing(self) -> int:
        """Rows whose batch and online scores differ in any bit, on any lane."""
        return sum(lane.n_differing for lane in self.lanes)


def read_scores(folder: Path, *, seconds: float) -> BatchScores:
    """The scores that the batch wrote, in the order of the flights."""
    table = pl.read_parquet(folder / "**/*.parquet", columns=[FLIGHT_KEY, LABEL, SCORE]).sort(FLIGHT_KEY)
    if table[SCORE].null_count():
        raise Failed(
            f"expected a score for every flight, got {table[SCORE].null_count()} nulls - in {folder}"
        )
    scores = table[SCORE].cast(pl.Float64).to_numpy()
    return BatchScores(scores, table[LABEL].to_numpy(), seconds)
