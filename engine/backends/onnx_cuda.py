"""ONNX graphs on a GPU: one bucket, its input and output at fixed addresses, so that it is one CUDA graph.

A CUDA graph replays the bucket's kernels with a single launch. It needs every node on the GPU, and kernels
that do not wait for it; where a model has others, ONNX Runtime moves rows to and fro in each call. TF32 is
off: it would round inputs to ten bits. Scores are those of CUDA's kernels, which differ from the CPU's in the
last bits.

All of it happens in one thread of the process. ONNX Runtime keeps a captured graph with the thread that
captured it, another one would capture its own in the middle of a request; and while one session captures,
another one may not touch the device.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from engine.backends.onnx_ports import InputPort, OutputPort
from engine.backends.onnx_session import (
    RUNTIME_ERRORS,
    Bucket,
    HostBucket,
    OnnxBackend,
    failed,
    session_options,
)
from engine.errors import Failed, ScoringFailed

CUDA = "CUDAExecutionProvider"
CAPACITY = 1024
"""Rows of the bucket. There is one, for CUDA's libraries add up in another order for another number of rows:
with a bucket for each power of two, all rows of a perceptron had other last bits in another batch."""
PLAIN_OPTIONS = {"use_tf32": "0"}
GRAPH_OPTIONS = {**PLAIN_OPTIONS, "enable_cuda_graph": "1"}
GPU_THREAD = ThreadPoolExecutor(1, thread_name_prefix="onnx-cuda")
"""Runs every session on a GPU; it starts with the first one."""

MakeBucket = Callable[[Any, Sequence[InputPort], OutputPort, int], Bucket]


class CudaOnnxBackend(OnnxBackend):
    """A graph on a GPU; its bucket is made, and captured if it can be, when the backend is.

    Raises ``ScoringFailed`` if that fails.
    """

    name = "ONNX Runtime (CUDA)"

    def __init__(
        self, session: Any, inputs: Sequence[InputPort], output: OutputPort, make_bucket: MakeBucket
    ) -> None:
        super().__init__(session, inputs, output, capacities=(CAPACITY,))
        (capacity,) = self.capacities
        self._bucket = GPU_THREAD.submit(make_bucket, session, inputs, output, capacity).result()

    def score_rows(self, X: NDArray[Any], out: NDArray[Any]) -> None:
        """Write the scores of a block [n, F] to ``out`` [n, K]; raises ``ScoringFailed``."""
        GPU_THREAD.submit(super().score_rows, X, out).result()

    def score_columns(self, columns: Sequence[NDArray[Any]], out: NDArray[Any]) -> None:
        """The same for F columns of n values."""
        GPU_THREAD.submit(super().score_columns, columns, out).result()

    def bucket(self, capacity: int) -> Bucket:  # noqa: ARG002 there is no other
        """The only one."""
        return self._bucket


class DeviceBucket:
    """Buffers for a number of rows in a device's memory, their twins in the host's, and the CUDA graph.

    ONNX Runtime would copy an input that a node of the CPU takes when it is bound, and not again when its
    buffer changes: so this is for graphs with all nodes on the device, which capturing makes sure of.

    Args:
        session: The graph's.
        inputs: Its inputs, none of strings.
        output: The output that is the score.
        capacity: Rows.
        place: ONNX Runtime's name for the device, ``cuda`` or ``cpu``.
    """

    def __init__(
        self,
        session: Any,
        inputs: Sequence[InputPort],
        output: OutputPort,
        capacity: int,
        place: str = "cuda",
    ) -> None:
        host = [np.zeros(port.shape(capacity), port.dtype) for port in inputs]
        self.inputs: list[tuple[NDArray[Any], InputPort]] = [
            (buffer.reshape(capacity, -1), port) for buffer, port in zip(host, inputs, strict=True)
        ]
        self._session = session
        self._binding = session.io_binding()
        self._sent = [(onnxruntime.OrtValue.ortvalue_from_numpy(buffer, place, 0), buffer) for buffer in host]
        for (value, _), port in zip(self._sent, inputs, strict=True):
            self._binding.bind_ortvalue_input(port.name, value)
        shape = list(output.shape(capacity))
        self._scores = onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, output.graph_dtype, place, 0)
        self._binding.bind_ortvalue_output(output.name, self._scores)
        self.score(np.empty((capacity, output.n_outputs), output.dtype))

    def score(self, out: NDArray[Any]) -> None:
        """Send the rows filled in, run the graph and copy the scores to ``out`` [n, K]."""
        try:
            for value, buffer in self._sent:
                value.update_inplace(buffer)
            self._session.run_with_iobinding(self._binding)
            scores = self._scores.numpy()
        except RUNTIME_ERRORS as error:
            raise failed(error) from error
        out[...] = scores.reshape(len(scores), -1)[: len(out)]


def cuda_backend(model: bytes, inputs: Sequence[InputPort], output: OutputPort) -> CudaOnnxBackend:
    """The backend of a graph on a GPU, with a CUDA graph if it allows one; raises ``Failed`` without CUDA."""
    onnxruntime.preload_dlls()
    try:
        session = cuda_session(model, (CUDA, GRAPH_OPTIONS))
        return CudaOnnxBackend(session, inputs, output, DeviceBucket)
    except (*RUNTIME_ERRORS, ScoringFailed):
        session = cuda_session(model, (CUDA, PLAIN_OPTIONS), "CPUExecutionProvider")
        return CudaOnnxBackend(session, inputs, output, partial(HostBucket, bound=False))


def cuda_session(model: bytes, *providers: object) -> Any:
    """A session with these providers; raises ``Failed`` where ONNX Runtime leaves CUDA out."""
    session = onnxruntime.InferenceSession(model, session_options(), providers=list(providers))
    if CUDA not in session.get_providers():
        raise Failed("ONNX Runtime cannot use the GPU; install tandem-scoring[gpu] or use device cpu")
    return session
