"""A scorer that counts bins counts the rows it scored, in whatever way they came, and scores as without."""

import lightgbm
import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LinearRegression

from engine.errors import InvalidConfig
from engine.packing import pack
from engine.scorer import Scorer
from kernels.forests.bin_counts import SEEN, STRIDE


@pytest.fixture(scope="module")
def counting(late_bundle) -> Scorer:
    scorer = Scorer.load(late_bundle, count_bins=True)
    scorer.warm_up()
    return scorer


def test_a_scorer_counts_the_rows_it_scores_and_nothing_before(counting, late, some_flights: pl.DataFrame):
    bins = counting.bin_counts.bins
    assert not counting.bin_counts.counts().any()

    scores = counting.score(some_flights)

    assert scores.equals(late.score(some_flights))
    counts = counting.bin_counts.counts()
    assert counts[SEEN] == len(some_flights)
    names = [counting.schema.features[feature].name for feature in bins.features]
    wind = names.index("wind_speed")
    sampled = some_flights["wind_speed"][::STRIDE]
    assert bins.of_column(counts, wind).sum() == len(sampled)
    assert bins.missing(counts)[wind] == sampled.null_count()


def test_rows_and_tables_are_counted_alike(late_bundle, some_flights: pl.DataFrame):
    by_rows, by_table = (Scorer.load(late_bundle, count_bins=True) for _ in range(2))
    X, _ = by_rows.preparer.rows(some_flights.head(1000).to_dicts())

    by_rows.score_rows(X)
    by_table.score(some_flights.head(1000))

    assert by_rows.bin_counts.counts().tolist() == by_table.bin_counts.counts().tolist()


def test_a_scorer_counts_nothing_unless_asked(late):
    assert late.bin_counts is None


def test_bins_are_counted_where_they_are_made_only(tmp_path, late_bundle):
    X = np.random.default_rng(0).normal(size=(50, 2))
    linear = pack(LinearRegression().fit(X, X[:, 0]), name="line", out=tmp_path)
    with pytest.raises(InvalidConfig, match=r"expected a forest on device cpu .* of kind linear"):
        Scorer.load(linear, count_bins=True)
    with pytest.raises(InvalidConfig, match="on device auto"):
        Scorer.load(late_bundle, device="auto", count_bins=True)


def test_an_outlier_of_a_feature_is_seen(tmp_path):
    X = np.random.default_rng(0).normal(size=(500, 2))
    booster = lightgbm.train(
        {"verbosity": -1, "num_threads": 1}, lightgbm.Dataset(X, X.sum(axis=1)), num_boost_round=20
    )
    scorer = Scorer.load(pack(booster, name="sum", out=tmp_path), count_bins=True)

    scorer.score_rows(np.tile(np.array([[-9.0, np.inf]], scorer.schema.dtype), (STRIDE * 7, 1)))

    assert scorer.bin_counts.bins.out_of_range(scorer.bin_counts.counts()).tolist() == [[7, 0], [0, 7]]
