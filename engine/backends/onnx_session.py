"""ONNX graphs in ONNX Runtime: one thread, no spinning, buffers bound once per bucket of rows.

A bucket is a number of rows with its own input and output buffers. A call fills the smallest that fits,
padded with its last row; more rows than the largest holds go bucket by bucket. Each thread has buckets of
its own.
"""

import threading
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as state

from engine.backends.onnx_ports import InputPort, OutputPort
from engine.errors import ScoringFailed

CAPACITIES = tuple(sorted([2 << power for power in range(10)] + [3 << power for power in range(9)]))
"""Powers of two, and what lies in the middle between them: a third of a batch is padding at most. None of one
row: alone, it takes the runtime's matrix-vector route, which adds up in another order: other bits."""
RUNTIME_ERRORS = (
    state.Fail,
    state.InvalidArgument,
    state.InvalidGraph,
    state.InvalidProtobuf,
    state.NotImplemented,
    state.RuntimeException,
    RuntimeError,
)
"""What ONNX Runtime raises; they have no base of their own."""


class Bucket(Protocol):
    """Buffers for a number of rows. ``inputs`` are to be filled, then ``score`` is called."""

    inputs: list[tuple[NDArray[Any], InputPort]]

    def score(self, out: NDArray[Any]) -> None:
        """Run the graph on the rows filled in and copy their scores to ``out`` [n, K]."""


class OnnxBackend:
    """A graph in an inference session. It answers scores: its link is the identity.

    Args:
        session: The graph's.
        inputs: Its inputs, with the features that each takes.
        output: The output that is the score.
        capacities: Rows of the buckets, rising.
    """

    name: str = "ONNX Runtime (CPU)"

    def __init__(
        self,
        session: Any,
        inputs: Sequence[InputPort],
        output: OutputPort,
        *,
        capacities: Sequence[int] = CAPACITIES,
    ) -> None:
        self._session = session
        self._inputs = inputs
        self._output = output
        self.capacities = (output.fixed_rows,) if output.fixed_rows else tuple(capacities)
        self._local = threading.local()
        self.n_outputs = output.n_outputs
        self.margin_dtype = output.dtype

    def score_rows(self, X: NDArray[Any], out: NDArray[Any]) -> None:
        """Write the scores of a block [n, F] to ``out`` [n, K]; raises ``ScoringFailed``."""
        for start, stop, bucket in self._pieces(len(X)):
            for view, port in bucket.inputs:
                port.fill_rows(view, X[start:stop, port.columns])
            bucket.score(out[start:stop])

    def score_columns(self, columns: Sequence[NDArray[Any]], out: NDArray[Any]) -> None:
        """The same for F columns of n values."""
        for start, stop, bucket in self._pieces(len(out)):
            for view, port in bucket.inputs:
                for place, column in enumerate(columns[port.columns]):
                    port.fill_column(view, place, column[start:stop])
            bucket.score(out[start:stop])

    def bucket(self, capacity: int) -> "Bucket":
        """This thread's bucket of that capacity, made when it is first asked for."""
        try:
            buckets = self._local.buckets
        except AttributeError:
            buckets = self._local.buckets = {}
        if capacity not in buckets:
            buckets[capacity] = HostBucket(self._session, self._inputs, self._output, capacity)
        bucket: Bucket = buckets[capacity]
        return bucket

    def _pieces(self, n_rows: int) -> Iterator[tuple[int, int, "Bucket"]]:
        largest = self.capacities[-1]
        for start in range(0, n_rows, largest):
            stop = min(start + largest, n_rows)
            yield start, stop, self.bucket(self.capacities[bisect_left(self.capacities, stop - start)])


class HostBucket:
    """Buffers for a number of rows, bound to the session where their types allow it.

    With ``bound`` false they are handed over in each call, for sessions that have to copy them.
    """

    def __init__(
        self,
        session: Any,
        inputs: Sequence[InputPort],
        output: OutputPort,
        capacity: int,
        *,
        bound: bool = True,
    ) -> None:
        buffers = {port.name: np.zeros(port.shape(capacity), port.dtype) for port in inputs}
        self.inputs = [(buffers[port.name].reshape(capacity, -1), port) for port in inputs]
        self._session = session
        self._feed = buffers
        self._output = output
        self._scores = np.zeros(output.shape(capacity), output.graph_dtype)
        self._matrix = self._scores.reshape(capacity, -1)
        strings = any(port.words is not None for port in inputs)
        self._binding = self._bind() if bound and not strings else None

    def score(self, out: NDArray[Any]) -> None:
        """Run the graph on the rows filled in and copy their scores to ``out`` [n, K]."""
        try:
            if self._binding is not None:
                self._session.run_with_iobinding(self._binding)
            else:
                (scores,) = self._session.run([self._output.name], self._feed)
                if scores.shape != self._scores.shape:
                    raise RuntimeError(f"expected {self._scores.shape} scores, got {scores.shape}")
                self._scores[...] = scores
        except RUNTIME_ERRORS as error:
            raise failed(error) from error
        out[...] = self._matrix[: len(out)]

    def _bind(self) -> Any:
        binding = self._session.io_binding()
        for name, buffer in self._feed.items():
            binding.bind_input(name, "cpu", 0, buffer.dtype, buffer.shape, buffer.ctypes.data)
        scores = self._scores
        binding.bind_output(self._output.name, "cpu", 0, scores.dtype, scores.shape, scores.ctypes.data)
        return binding


def failed(error: Exception) -> ScoringFailed:
    """ONNX Runtime's error as the engine's own."""
    return ScoringFailed(f"ONNX Runtime failed on rows that keep the schema: {in_one_line(error)}")


def in_one_line(error: Exception) -> str:
    """ONNX Runtime's own words, which it sets on several lines."""
    return " ".join(str(error).split())


def session_options() -> Any:
    """One thread, sequential, and no thread that spins between calls."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options
