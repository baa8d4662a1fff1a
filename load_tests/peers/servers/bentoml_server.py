"""Starts BentoML's server: ``bentoml_server.py FOLDER PORT SCRATCH``."""

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    folder, port, scratch = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    environment = {**os.environ, "LATE_MODEL": str(folder / "model.onnx"), "BENTOML_HOME": scratch}
    environment["BENTOML_DO_NOT_TRACK"] = "True"
    command = [sys.executable, "-m", "bentoml", "serve", "bento_service:Late"]
    options = ["--host", "127.0.0.1", "--port", port, "--working-dir", str(Path(__file__).parent)]
    os.execve(command[0], [*command, *options], environment)
