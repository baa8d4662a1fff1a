"""The servers compared: how each is started, asked, and read."""

import math
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from load_tests.environments import interpreter
from load_tests.peers.model import NAME, SharedModel

SERVERS = Path(__file__).parent / "servers"
INFER = f"/v2/models/{NAME}/infer"
Row = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Contender:
    """One server.

    Attributes:
        name: As it stands in the table.
        peer: Its environment, by the name of a requirements file; empty for ours.
        program: The file under ``servers/`` that starts it; empty for our own command.
        options: Further arguments of our own command; ``PORT`` stands for the port.
        environment: Variables it needs.
        path: The route to ask.
        encode: A row as the body of a request.
        decode: The score in the JSON of an answer.
        packages: Packages whose versions are quoted.
        grpc: Whether it is asked over gRPC, by ``ModelInfer``, at its port.
    """

    name: str
    peer: str = ""
    program: str = ""
    options: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    path: str = INFER
    encode: "Callable[[Row], bytes]" = field(default=lambda row: oip(row))
    decode: "Callable[[Any], float]" = field(default=lambda answer: float(answer["outputs"][0]["data"][0]))
    packages: tuple[str, ...] = ()
    grpc: bool = False

    def command(self, model: SharedModel, port: int, scratch: Path) -> list[str]:
        """How to start it; raises ``PeerUnavailable`` where its environment cannot be made."""
        python = str(interpreter(self.peer))
        if self.program:
            return [
                python,
                str(SERVERS / self.program),
                str(model.folder.absolute()),
                str(port),
                str(scratch),
                *(["grpc"] if self.grpc else []),
            ]
        ours = [sys.executable, "-m", "engine.cli", "serve"]
        options = [option.replace("PORT", str(port)) for option in self.options]
        return [*ours, "--model", f"{NAME}={model.bundle}", "--jobs-port", "0", *options]

    def variables(self) -> dict[str, str]:
        """The environment of its process."""
        return {**os.environ, **self.environment}


def oip(row: Row) -> bytes:
    """One row as an infer request of the Open Inference Protocol."""
    tensor = {"name": "input", "shape": [1, len(row)], "datatype": "FP32", "data": numbers(row)}
    return msgspec.json.encode({"inputs": [tensor]})


def bento(row: Row) -> bytes:
    """One row as BentoML's route takes it."""
    return msgspec.json.encode({"rows": [numbers(row)]})


def numbers(row: Row) -> list[float]:
    """float32 as short decimal numbers that read back as the same float32."""
    return [float(str(value)) for value in row]


def first_number(answer: Any) -> float:
    """The first number of nested lists."""
    while isinstance(answer, list):
        answer = answer[0]
    return float(answer)


def is_same(score: float, truth: float) -> bool:
    """Whether a server's answer is the model's, up to float32."""
    return math.isclose(score, truth, rel_tol=0, abs_tol=2e-6)


HAPROXY = {"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}
CONTENDERS = {
    "tandem": Contender(
        "Tandem, direct lane of a Ray Serve replica",
        options=("--port", "PORT", "--ingress-port", "0"),
    ),
    "tandem-ingress": Contender(
        "Tandem through Ray Serve's ingress", options=("--port", "0", "--ingress-port", "PORT")
    ),
    "tandem-local": Contender("Tandem, --local", options=("--port", "PORT", "--local")),
    "triton": Contender(
        "NVIDIA Triton, Python backend + ONNX Runtime",
        peer="triton",
        program="triton_server.py",
        packages=("nvidia-pytriton", "onnxruntime"),
    ),
    "mlserver": Contender(
        "MLServer, LightGBM runtime",
        peer="mlserver",
        program="ml_server.py",
        environment={"OMP_NUM_THREADS": "1"},
        packages=("mlserver", "lightgbm"),
    ),
    "ray-serve": Contender(
        "Ray Serve, defaults", program="stock_ray_serve.py", packages=("ray", "onnxruntime-gpu")
    ),
    "ray-serve-haproxy": Contender(
        "Ray Serve, HAProxy + throughput settings",
        program="stock_ray_serve.py",
        environment=HAPROXY,
        packages=("ray", "onnxruntime-gpu"),
    ),
    "tandem-grpc": Contender(
        "Tandem gRPC, direct lane of a Ray Serve replica",
        options=("--port", "0", "--ingress-port", "0", "--grpc-port", "PORT"),
        grpc=True,
    ),
    "tandem-local-grpc": Contender(
        "Tandem gRPC, --local", options=("--port", "0", "--local", "--grpc-port", "PORT"), grpc=True
    ),
    "triton-grpc": Contender(
        "NVIDIA Triton gRPC, Python backend + ONNX Runtime",
        peer="triton",
        program="triton_server.py",
        packages=("nvidia-pytriton", "onnxruntime"),
        grpc=True,
    ),
    "mlserver-grpc": Contender(
        "MLServer gRPC, LightGBM runtime",
        peer="mlserver",
        program="ml_server.py",
        environment={"OMP_NUM_THREADS": "1"},
        packages=("mlserver", "lightgbm"),
        grpc=True,
    ),
    "bentoml": Contender(
        "BentoML, adaptive batching",
        peer="bentoml",
        program="bentoml_server.py",
        path="/infer",
        encode=bento,
        decode=first_number,
        packages=("bentoml", "onnxruntime"),
    ),
    "litserve": Contender(
        "LitServe, batching",
        peer="litserve",
        program="lit_serve.py",
        path="/predict",
        packages=("litserve", "onnxruntime"),
    ),
}
"""By the name that ``--only`` takes, ours first."""
