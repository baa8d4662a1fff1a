"""Starts Triton's own server with its Python backend: ``triton_server.py FOLDER PORT SCRATCH [grpc]``.

The binary lies in the nvidia-pytriton wheel; it wants a backend directory with the stub of the
running Python, and a model repository.
"""

import os
import shutil
import sys
import sysconfig
from pathlib import Path

CONFIG = """
name: "late"
backend: "python"
max_batch_size: 64
input [{ name: "input", data_type: TYPE_FP32, dims: [23] }]
output [{ name: "score", data_type: TYPE_FP32, dims: [1] }]
dynamic_batching { }
instance_group [{ kind: KIND_CPU, count: 1 }]
"""


def main(folder: Path, port: str, scratch: Path, asked_over: str = "http") -> None:
    site = Path(sysconfig.get_paths()["purelib"])
    triton = site / "pytriton" / "tritonserver"
    repository, backends = scratch / "repository", scratch / "backends"
    (repository / "late" / "1").mkdir(parents=True)
    (repository / "late" / "config.pbtxt").write_text(CONFIG)
    shutil.copy(Path(__file__).parent / "triton_model.py", repository / "late" / "1" / "model.py")
    shutil.copytree(triton / "backends", backends)
    stub = f"{sys.version_info.major}.{sys.version_info.minor}"
    shutil.copytree(triton / "python_backend_stubs" / stub, backends / "python", dirs_exist_ok=True)
    libraries = [site / "nvidia_pytriton.libs", sysconfig.get_config_var("LIBDIR")]
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries)),
        "LATE_MODEL": str(folder / "model.onnx"),
        "PEER_PATH": os.pathsep.join([str(site), *sys.path[1:]]),
    }
    command = [
        str(triton / "bin" / "tritonserver"),
        f"--model-repository={repository}",
        f"--backend-directory={backends}",
        f"--{asked_over}-address=127.0.0.1",
        f"--{asked_over}-port={port}",
        f"--allow-{'http' if asked_over == 'grpc' else 'grpc'}=false",
        "--allow-metrics=false",
        "--log-info=false",
    ]
    os.execve(command[0], command, environment)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), *sys.argv[4:])
