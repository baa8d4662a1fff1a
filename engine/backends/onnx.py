"""Bundles of ONNX graphs: read, checked against their schema, and put on a device."""

from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from engine.backends.device import NO_GPU
from engine.backends.onnx_cuda import CUDA, cuda_backend
from engine.backends.onnx_ports import input_ports, output_port
from engine.backends.onnx_session import RUNTIME_ERRORS, OnnxBackend, in_one_line, session_options
from engine.bundle import Bundle, Device
from engine.errors import Failed, InvalidBundle, ScoringFailed
from engine.schema import Schema
from kernels.gpu.device import gpu_is_available

FILE = "model.onnx"
TRIED_ROWS, TOLERANCE, MOST = 128, 0.01, 0.9
"""Rows of a batch where devices are compared; how far scores may differ, and how many must not."""


def load(bundle: Bundle, device: Device = "cpu") -> OnnxBackend:
    """The backend of a bundle of kind ``onnx``; raises ``InvalidBundle``, ``Failed`` without the device.

    Only ``cuda`` brings a graph to a GPU: ``auto`` shall change no score, and CUDA's differ in the last
    bits. Graphs that take strings stay on the CPU.
    """
    if device == "cuda" and not gpu_is_usable():
        raise Failed(NO_GPU)
    schema = bundle.manifest.schema
    try:
        model = bundle.files[FILE]
        session = onnxruntime.InferenceSession(model, session_options(), providers=["CPUExecutionProvider"])
        inputs = input_ports(session, schema)
        output = output_port(session, inputs, schema)
        cpu = OnnxBackend(session, inputs, output)
        if device == "cuda" and all(port.words is None for port in inputs):
            gpu = cuda_backend(model, inputs, output)
            compare(cpu, gpu, schema)
            return gpu
        return cpu
    except KeyError as error:
        raise InvalidBundle(f"expected '{FILE}' in bundle {bundle.label}") from error
    except RUNTIME_ERRORS as error:
        reason = in_one_line(error)
        raise InvalidBundle(f"ONNX Runtime does not read the graph of {bundle.label}: {reason}") from error


def gpu_is_usable() -> bool:
    """Whether this build of ONNX Runtime and this machine can bring a graph to a GPU."""
    return CUDA in onnxruntime.get_available_providers() and gpu_is_available()


def compare(cpu: OnnxBackend, gpu: OnnxBackend, schema: Schema) -> None:
    """Raise ``Failed`` if the scores of random rows are not about the same on both devices.

    They come in two batches: a device that were not told of new rows would answer the first ones' scores.
    """
    X = random_rows(schema, 2 * TRIED_ROWS)
    batches = (X[:TRIED_ROWS], X[TRIED_ROWS:])
    try:
        expected, found = (np.concatenate([scores_of(one, batch) for batch in batches]) for one in (cpu, gpu))
    except ScoringFailed:
        return  # random rows mean nothing to this graph
    tolerance = TOLERANCE * (np.nanmax(expected, axis=0) - np.nanmin(expected, axis=0))
    near = np.isclose(found, expected, rtol=TOLERANCE, atol=tolerance, equal_nan=True).all(axis=1)
    if near.mean() < MOST:
        raise Failed(
            f"ONNX Runtime's scores of {np.sum(~near)} of {len(near)} random rows differ by more than"
            f" {TOLERANCE:.0%} between the GPU and the CPU; use device cpu"
        )


def scores_of(backend: OnnxBackend, X: NDArray[Any]) -> NDArray[Any]:
    """The scores [n, K] of a batch [n, F]."""
    out = np.empty((len(X), backend.n_outputs), backend.margin_dtype)
    backend.score_rows(X, out)
    return out


def random_rows(schema: Schema, n_rows: int) -> NDArray[Any]:
    """Rows to try a graph on: codes of categories, zeros and ones for whole numbers, else normal ones."""
    random = np.random.default_rng(0)
    X = random.normal(scale=3.0, size=(n_rows, len(schema.features)))
    for column, feature in enumerate(schema.features):
        if feature.categories:
            X[:, column] = random.integers(0, len(feature.categories), n_rows)
        elif not feature.type.startswith("float"):
            X[:, column] = random.integers(0, 2, n_rows)
    return X.astype(schema.dtype)
