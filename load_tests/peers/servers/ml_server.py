"""Starts MLServer, LightGBM runtime, adaptive batching: ``ml_server.py FOLDER PORT SCRATCH [grpc]``."""

import json
import os
import sys
from pathlib import Path

START = "from mlserver.cli import main; main()"


def main(folder: Path, port: int, scratch: Path, asked_over: str = "http") -> None:
    http_port, grpc_port = (port + 1, port) if asked_over == "grpc" else (port, port + 1)
    settings = {"host": "127.0.0.1", "http_port": http_port, "grpc_port": grpc_port, "parallel_workers": 0}
    settings |= {"metrics_endpoint": None, "metrics_port": port + 2, "debug": False}
    model = {
        "name": "late",
        "implementation": "mlserver_lightgbm.LightGBMModel",
        "max_batch_size": 64,
        "max_batch_time": 0.002,
        "parameters": {"uri": str(folder / "model.txt")},
    }
    (scratch / "settings.json").write_text(json.dumps(settings))
    (scratch / "model-settings.json").write_text(json.dumps(model))
    os.execv(sys.executable, [sys.executable, "-c", START, "start", str(scratch)])


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), *sys.argv[4:])
