"""Bundles of ONNX graphs: read, checked against their schema, and put on a device."""

import onnxruntime

from engine.backends.device import NO_GPU
from engine.backends.onnx_cuda import CUDA, cuda_backend
from engine.backends.onnx_ports import input_ports, output_port
from engine.backends.onnx_session import RUNTIME_ERRORS, OnnxBackend, in_one_line, session_options
from engine.bundle import Bundle
from engine.config import Device
from engine.errors import Failed, InvalidBundle
from kernels.gpu.device import gpu_is_available

FILE = "model.onnx"


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
        if device == "cuda" and all(port.words is None for port in inputs):
            return cuda_backend(model, inputs, output)
        return OnnxBackend(session, inputs, output)
    except KeyError as error:
        raise InvalidBundle(f"expected '{FILE}' in bundle {bundle.label}") from error
    except RUNTIME_ERRORS as error:
        reason = in_one_line(error)
        raise InvalidBundle(f"ONNX Runtime does not read the graph of {bundle.label}: {reason}") from error


def gpu_is_usable() -> bool:
    """Whether this build of ONNX Runtime and this machine can bring a graph to a GPU."""
    return CUDA in onnxruntime.get_available_providers() and gpu_is_available()
