"""The engine's own numbers of a run are the difference of two looks at its metrics."""

import pytest

from load_tests.server_view import parse_metrics, view

BEFORE = """\
# HELP tandem_request_seconds From the request's first line to its answer.
# TYPE tandem_request_seconds histogram
tandem_request_seconds_bucket{model="late",le="0.001"} 100
tandem_request_seconds_bucket{model="late",le="0.01"} 100
tandem_request_seconds_bucket{model="late",le="+Inf"} 100
tandem_shed_total{model="late",reason="overloaded"} 7
"""
AFTER = """\
tandem_request_seconds_bucket{model="late",le="0.001"} 150
tandem_request_seconds_bucket{model="late",le="0.01"} 200
tandem_request_seconds_bucket{model="late",le="+Inf"} 200
tandem_request_seconds_bucket{model="other",le="+Inf"} 9000
tandem_batch_rows_bucket{model="late",le="1"} 10
tandem_batch_rows_bucket{model="late",le="2"} 10
tandem_batch_rows_bucket{model="late",le="4"} 25
tandem_batch_rows_bucket{model="late",le="+Inf"} 25
tandem_stage_seconds_sum{model="late",stage="queue"} 0.2
tandem_stage_seconds_count{model="late",stage="queue"} 100
tandem_shed_total{model="late",reason="overloaded"} 9
tandem_shed_total{model="late",reason="expired"} 0
"""


def test_only_what_this_run_added_for_this_model_counts() -> None:
    seen = view(parse_metrics(BEFORE), parse_metrics(AFTER), "late")
    assert seen is not None
    assert (seen.requests, seen.shed) == (100, {"overloaded": 2})
    assert seen.cdf == ((0.001, 0.5), (0.01, 1.0))
    assert seen.p50_s == pytest.approx(0.001)
    assert seen.p99_s == pytest.approx(0.001 + 0.009 * 0.98)
    assert seen.batch_rows == ((1.0, 10), (4.0, 15))
    assert seen.stages_s == {"queue": pytest.approx(0.002)}


def test_an_engine_without_metrics_has_no_view() -> None:
    assert view(None, parse_metrics(AFTER), "late") is None
    assert view(parse_metrics(AFTER), parse_metrics(AFTER), "late") is None
