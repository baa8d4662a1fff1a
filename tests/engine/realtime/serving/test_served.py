"""A served model learns what its batches cost before anybody asks."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from engine.realtime.counting.counters import ModelCounters
from engine.realtime.serving.served import ServedModel
from engine.scorer import Scorer


class Dear:
    """A scorer of which any batch takes twelve milliseconds; notes their sizes."""

    def __init__(self, scorer: Scorer) -> None:
        self.revision, self.schema, self.preparer = scorer.revision, scorer.schema, scorer.preparer
        self.tabulate = scorer.tabulate
        self.sizes: set[int] = set()

    def score_rows(self, X: Any) -> Any:
        self.sizes.add(len(X))
        ends_s = time.perf_counter() + 0.012
        while time.perf_counter() < ends_s:
            pass
        return np.zeros((len(X), 1))


def test_all_sizes_of_a_dear_model_that_keep_the_promise_are_timed(scorers: Mapping[str, Scorer]) -> None:
    dear = Dear(scorers["numeric"])
    served = ServedModel("numeric", dear, slo_s=0.05, max_batch_rows=32, counters=ModelCounters())
    served.learn_costs()
    assert dear.sizes == {1, 2, 4, 8, 16, 32}
    assert served.batcher.admission.max_rows == 32


def test_sizes_that_break_the_promise_are_not_timed_further(scorers: Mapping[str, Scorer]) -> None:
    dear = Dear(scorers["numeric"])
    served = ServedModel("numeric", dear, slo_s=0.01, max_batch_rows=32, counters=ModelCounters())
    served.measured_costs(dear, budget_s=60.0)
    assert dear.sizes == {1}


def test_a_revision_that_is_swapped_in_brings_its_own_costs(scorers: Mapping[str, Scorer]) -> None:
    quick, dear = scorers["numeric"], Dear(scorers["numeric"])
    served = ServedModel("numeric", quick, slo_s=0.05, max_batch_rows=32, counters=ModelCounters())
    served.learn_costs()
    assert not served.batcher.is_dear
    served.swap(dear, served.measured_costs(dear))
    assert served.batcher.is_dear
    assert served.batcher.admission.typical_s >= 0.012
