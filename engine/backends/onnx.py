"""Bundles of ONNX graphs: read, checked against their schema, and put on a device."""

import onnxruntime

from engine.backends.device import NO_GPU, Device
from engine.backends.onnx_cuda import CUDA, CudaOnnxBackend, cuda_session
from engine.backends.onnx_ports import input_ports, output_port
from engine.backends.onnx_session import RUNTIME_ERRORS, OnnxBackend, session_options
from engine.bundle import Bundle
from engine.errors import Failed, InvalidBundle
from kernels.gpu.device import gpu_is_available

FILE = "model.onnx"


def load(bundle: Bundle, device: Device = "cpu") -> OnnxBackend:
    """The backend of a bundle of kind ``onnx``; raises ``InvalidBundle``, ``Failed`` without the device.

    Graphs that take strings stay on the CPU.
    """
    wants_gpu = uses_gpu(device)
    schema = bundle.manifest.schema
    try:
        model = bundle.files[FILE]
        session = onnxruntime.InferenceSession(model, session_options(), providers=["CPUExecutionProvider"])
        inputs = input_ports(session, schema)
        output = output_port(session, inputs, schema)
        if wants_gpu and all(port.words is None for port in inputs):
            return CudaOnnxBackend(cuda_session(model), inputs, output)
        return OnnxBackend(session, inputs, output)
    except KeyError as error:
        raise InvalidBundle(f"expected '{FILE}' in bundle {bundle.label}") from error
    except RUNTIME_ERRORS as error:
        raise InvalidBundle(f"ONNX Runtime does not read the graph of {bundle.label}: {error}") from error


def uses_gpu(device: Device) -> bool:
    """Whether a graph goes to a GPU; raises ``Failed`` if it was asked for and is not there."""
    if device != "cpu" and CUDA in onnxruntime.get_available_providers() and gpu_is_available():
        return True
    if device == "cuda":
        raise Failed(NO_GPU)
    return False
