"""Percentiles are within a bucket's width of the truth, and histograms add."""

import math

import numpy as np
import pytest

from load_tests.fast.run import histogram_of
from load_tests.results.histogram import STEP, LatencyHistogram, bucket_of, edge_of


@pytest.mark.parametrize("percent", [1, 50, 90, 99, 99.9, 100])
def test_a_percentile_is_within_one_percent_of_the_exact_one(percent: float) -> None:
    latencies = np.random.default_rng(1).lognormal(-6, 1, 20_000)
    histogram = histogram_of(latencies)
    exact = float(np.percentile(latencies, percent, method="inverted_cdf"))
    assert histogram.percentile(percent) == pytest.approx(exact, rel=STEP - 1)


def test_adding_one_by_one_equals_adding_all_at_once() -> None:
    latencies = np.random.default_rng(2).exponential(0.01, 500)
    one_by_one = LatencyHistogram()
    for latency in latencies:
        one_by_one.add(float(latency))
    at_once = histogram_of(latencies)
    assert one_by_one.counts == at_once.counts
    assert one_by_one.n == at_once.n
    assert one_by_one.total_s == pytest.approx(at_once.total_s)


def test_merging_equals_counting_together() -> None:
    first, second = LatencyHistogram(), LatencyHistogram()
    first.add(0.001)
    second.add(0.1)
    second.add(0.2)
    first.merge(second)
    assert (first.n, first.highest_s, first.percentile(100)) == (3, 0.2, 0.2)


def test_an_empty_histogram_knows_no_latency() -> None:
    empty = LatencyHistogram()
    assert math.isnan(empty.percentile(50))
    assert math.isnan(empty.mean_s)
    assert empty.cdf() == []


def test_a_latency_lies_between_the_edges_of_its_bucket() -> None:
    for latency_s in (1e-6, 3.7e-5, 0.02, 12.0):
        bucket = bucket_of(latency_s)
        assert edge_of(bucket) * (1 - 1e-12) <= latency_s < edge_of(bucket + 1) * (1 + 1e-12)


def test_the_cdf_climbs_to_one_at_the_highest_latency() -> None:
    histogram = histogram_of(np.array([0.001, 0.002, 0.002, 0.5]))
    shares = [share for _, share in histogram.cdf()]
    assert shares == sorted(shares)
    assert histogram.cdf()[-1] == (0.5, 1.0)


def test_the_share_within_a_limit_counts_its_bucket() -> None:
    histogram = histogram_of(np.array([0.001, 0.002, 0.03, 0.5]))
    assert histogram.fraction_within(0.03) == 0.75
