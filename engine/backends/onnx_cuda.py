"""ONNX graphs on a GPU: input and output stay at fixed addresses per bucket, so that each is one CUDA graph.

A CUDA graph replays a bucket's kernels with a single launch. It needs every node on the GPU, and kernels
that do not wait for it; where a model has others, the session does without. TF32 is off: it would round
inputs to ten bits. Scores are those of CUDA's kernels, which differ from the CPU's in the last bits.

All of it happens in one thread of the process. ONNX Runtime keeps a captured graph with the thread that
captured it, another one would capture its own in the middle of a request; and while one session captures,
another one may not touch the device.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from engine.backends.onnx_ports import InputPort, OutputPort
from engine.backends.onnx_session import RUNTIME_ERRORS, OnnxBackend, failed, session_options
from engine.errors import Failed, ScoringFailed

CUDA = "CUDAExecutionProvider"
CAPACITIES = tuple(2 << power for power in range(14))
PLAIN_OPTIONS = {"use_tf32": "0"}
GRAPH_OPTIONS = {**PLAIN_OPTIONS, "enable_cuda_graph": "1"}
GPU_THREAD = ThreadPoolExecutor(1, thread_name_prefix="onnx-cuda")
"""Runs every session on a GPU; it starts with the first one."""


class CudaOnnxBackend(OnnxBackend):
    """A graph on a GPU; every bucket is captured when the backend is made, none in a request.

    Raises ``ScoringFailed`` if that fails.
    """

    name = "ONNX Runtime (CUDA)"

    def __init__(
        self, session: Any, inputs: Sequence[InputPort], output: OutputPort, place: str = "cuda"
    ) -> None:
        super().__init__(session, inputs, output, capacities=CAPACITIES)
        self._buckets: dict[int, DeviceBucket] = {}

        def capture() -> None:
            for capacity in self.capacities:
                bucket = DeviceBucket(session, inputs, output, capacity, place)
                bucket.score(np.empty((capacity, output.n_outputs), output.dtype))
                self._buckets[capacity] = bucket

        GPU_THREAD.submit(capture).result()

    def score_rows(self, X: NDArray[Any], out: NDArray[Any]) -> None:
        """Write the scores of a block [n, F] to ``out`` [n, K]; raises ``ScoringFailed``."""
        GPU_THREAD.submit(super().score_rows, X, out).result()

    def score_columns(self, columns: Sequence[NDArray[Any]], out: NDArray[Any]) -> None:
        """The same for F columns of n values."""
        GPU_THREAD.submit(super().score_columns, columns, out).result()

    def bucket(self, capacity: int) -> "DeviceBucket":
        """The bucket of that capacity, made and captured before."""
        return self._buckets[capacity]


class DeviceBucket:
    """Buffers for a number of rows in a device's memory, and their twins in the host's.

    Args:
        session: The graph's.
        inputs: Its inputs, none of strings.
        output: The output that is the score.
        capacity: Rows; the number of the bucket's CUDA graph, too.
        place: ONNX Runtime's name for the device, ``cuda`` or ``cpu``.
    """

    def __init__(
        self, session: Any, inputs: Sequence[InputPort], output: OutputPort, capacity: int, place: str
    ) -> None:
        host = [np.zeros(port.shape(capacity), port.dtype) for port in inputs]
        self.inputs = [
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
        self._options = onnxruntime.RunOptions()
        self._options.add_run_config_entry("gpu_graph_id", str(capacity))

    def score(self, out: NDArray[Any]) -> None:
        """Send the rows filled in, run the graph and copy the scores to ``out`` [n, K]."""
        try:
            for value, buffer in self._sent:
                value.update_inplace(buffer)
            self._session.run_with_iobinding(self._binding, self._options)
            scores = self._scores.numpy()
        except RUNTIME_ERRORS as error:
            raise failed(error) from error
        out[...] = scores.reshape(len(scores), -1)[: len(out)]


def cuda_backend(model: bytes, inputs: Sequence[InputPort], output: OutputPort) -> CudaOnnxBackend:
    """The backend of a graph on a GPU, with CUDA graphs if it allows them; raises ``Failed`` without CUDA."""
    onnxruntime.preload_dlls()
    try:
        return CudaOnnxBackend(cuda_session(model, (CUDA, GRAPH_OPTIONS)), inputs, output)
    except (*RUNTIME_ERRORS, ScoringFailed):
        session = cuda_session(model, (CUDA, PLAIN_OPTIONS), "CPUExecutionProvider")
        return CudaOnnxBackend(session, inputs, output)


def cuda_session(model: bytes, *providers: object) -> Any:
    """A session with these providers; raises ``Failed`` where ONNX Runtime leaves CUDA out."""
    session = onnxruntime.InferenceSession(model, session_options(), providers=list(providers))
    if CUDA not in session.get_providers():
        raise Failed("ONNX Runtime cannot use the GPU; install tandem-scoring[gpu] or use device cpu")
    return session
