"""A model as it is served: its scorer, its batcher, its promise, and what its answers have in common."""

import time
from collections.abc import Mapping
from typing import Any, Protocol

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.errors import BadRow, Overloaded, ScoringFailed
from engine.prepare.preparer import Preparer
from engine.realtime.batching.admission import Admission, CostModel
from engine.realtime.batching.batcher import Batcher
from engine.realtime.batching.waiting import Result
from engine.realtime.counting.counters import ModelCounters
from engine.realtime.doors.answers import Answer, error_answer
from engine.realtime.doors.calls import Asked
from engine.realtime.doors.tensors import datatype_of
from engine.realtime.threads import thread_behind_the_loop
from engine.schema import Schema

_encode = msgspec.json.encode
REVISION_DIGITS = 12
"""Digits of a revision in answers and paths."""
TIMING = b"server-timing"
TOO_LATE = (
    "not in time: others are ahead, an answer would come after its deadline; "
    "try again later, or with a later deadline"
)
MAX_REASONS = 10
"""Bad rows that an answer explains; it names them all."""


class Scores(Protocol):
    """What the real-time path asks of a scorer."""

    @property
    def revision(self) -> str:
        """Digest of the bundle."""

    @property
    def schema(self) -> Schema:
        """Features and output."""

    @property
    def preparer(self) -> Preparer:
        """Data to numbers."""

    def score_rows(self, X: Any) -> Any:
        """Scores ``[n, K]`` of a prepared block."""

    def tabulate(self, scores: Any, bad: Mapping[int, str]) -> pa.Table:
        """Scores as a table, null in bad rows."""


class Revision:
    """One revision of a model, and what depends on nothing else: decoders, names, rendered text."""

    def __init__(self, name: str, scorer: Scores) -> None:
        self.name = name
        self.scorer = scorer
        self.id = scorer.revision[:REVISION_DIGITS]
        self.schema = scorer.schema
        self.preparer = scorer.preparer
        self.output = scorer.schema.output
        self.n_outputs = len(self.output.columns)
        self.output_dtype = np.dtype(self.output.type)
        self.output_datatype = "FP32" if self.output.type == "float32" else "FP64"
        self.datatypes = {feature.name: datatype_of(feature) for feature in self.schema.features}
        self.is_numeric = "BYTES" not in self.datatypes.values()
        self.infer_head = b'{"model_name":%b,"model_version":%b,' % (_encode(name), _encode(self.id))
        self.infer_output = b'"outputs":[{"name":%b,"datatype":"%b","shape":' % (
            _encode(self.output.name),
            self.output_datatype.encode(),
        )
        labels = b'"labels":%b,' % _encode(self.output.labels) if self.output.labels else b""
        self.score_head = b'{"model":%b,"revision":%b,%b"scores":' % (_encode(name), _encode(self.id), labels)
        self.header = (b"tandem-revision", self.id.encode())
        rows = list[self.preparer.row_type]  # type: ignore[name-defined]
        body = msgspec.defstruct("Rows", [("rows", rows)], forbid_unknown_fields=True)
        self.rows_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(body)
        self.some_rows_decoder: msgspec.json.Decoder[list[Any]] = msgspec.json.Decoder(rows)

    def is_version(self, version: str) -> bool:
        """Whether a version in a path means this revision: its digest, or twelve digits of it or more."""
        return len(version) >= REVISION_DIGITS and self.scorer.revision.startswith(version)


class ServedModel:
    """A name, its current revision and its batcher.

    Args:
        name: The model's name.
        scorer: Warmed up.
        slo_s: The promise.
        max_batch_rows: Most rows of one call.
        counters: Where its work is counted.

    Attributes:
        aside: One thread for what large requests take beside the model.
    """

    def __init__(
        self, name: str, scorer: Scores, *, slo_s: float, max_batch_rows: int, counters: ModelCounters
    ) -> None:
        self.name = name
        self.revision = Revision(name, scorer)
        self.slo_s = slo_s
        self.counters = counters
        self.batcher = Batcher(Admission(slo_s, max_batch_rows), counters)
        error = Overloaded(TOO_LATE)
        error.retry_after_s = slo_s
        self._refusal = error_answer(error)
        self.aside = thread_behind_the_loop("aside")

    def learn_costs(self) -> None:
        """Measure what batches cost, so that admission knows what it promises."""
        self.batcher.adopt(self.measured_costs(self.revision.scorer))

    def measured_costs(self, scorer: Scores, budget_s: float = 1.0) -> CostModel:
        """Time batches of one row, two, four and so on, as far as one keeps the promise; for any thread.

        Args:
            scorer: Warmed up; this model's or one that is to be.
            budget_s: No more is begun after that.
        """
        costs, schema = CostModel(), scorer.schema
        most_rows, ends_s = self.batcher.admission.most_rows, time.perf_counter() + budget_s
        rows, cost_s = 1, 0.0
        while rows <= most_rows and cost_s < self.slo_s and time.perf_counter() < ends_s:
            X = np.zeros((rows, len(schema.features)), schema.dtype)
            cost_s = min(_timed(scorer, X) for _ in range(4))
            costs.observe(rows, cost_s)
            rows *= 2
        return costs

    def swap(self, scorer: Scores, costs: CostModel) -> None:
        """Serve another revision from the next request on; what waits is scored by the one it came for."""
        self.revision = Revision(self.name, scorer)
        self.batcher.adopt(costs)

    def refusal(self) -> Answer:
        """What a request is answered of which nothing was read; made beforehand, for there are many."""
        ready = self._refusal
        return Answer(ready.status, [*ready.headers], ready.body)

    def close(self) -> None:
        """Let the threads end."""
        self.batcher.close()
        self.aside.shutdown(wait=False)


def needs_no_model(revision: Revision, asked: Asked) -> Result:
    """The result of a request without a good row: nothing for no rows, else raises ``BadRow``."""
    if asked.bad:
        raise BadRow(explain(asked.bad))
    return Result(np.empty((0, revision.n_outputs), revision.output_dtype), asked.bad, 0.0, 0.0)


def settled(asked: Asked, result: Result) -> Result:
    """A batcher's result with the rows that were bad before; raises ``ScoringFailed`` where all failed."""
    if not (result.bad or asked.bad):
        return result
    if len(result.bad) == len(asked.X) > 0:
        raise ScoringFailed(f"the model raised: {explain(result.bad)}")
    return Result(result.scores, result.bad | asked.bad, result.queue_s, result.score_s)


def _timed(scorer: Scores, X: NDArray[Any]) -> float:
    started_s = time.perf_counter()
    scorer.score_rows(X)
    return time.perf_counter() - started_s


def server_timing(queue_s: float, score_s: float, total_s: float) -> tuple[bytes, bytes]:
    """The ``Server-Timing`` header, in milliseconds as its standard demands."""
    value = b"queue;dur=%.3f, score;dur=%.3f, total;dur=%.3f" % (queue_s * 1e3, score_s * 1e3, total_s * 1e3)
    return TIMING, value


def explain(bad: dict[int, str]) -> str:
    """What is wrong with bad rows, in a sentence."""
    rows = sorted(bad)
    text = "; ".join(f"row {row}: {bad[row]}" for row in rows[:MAX_REASONS])
    return text if len(rows) <= MAX_REASONS else f"{text}; and {len(rows) - MAX_REASONS} rows more"
