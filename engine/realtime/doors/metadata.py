"""What the server and its models say of themselves, by the Open Inference Protocol."""

import importlib.metadata
from typing import Any

from engine.realtime.serving.served import Revision

EXTENSIONS = ("binary_tensor_data", "feature_matrix", "json_rows", "arrow_stream")
PLATFORM = "tandem"


def server_metadata() -> dict[str, Any]:
    """The body of ``GET /v2``."""
    return {
        "name": PLATFORM,
        "version": importlib.metadata.version("tandem-scoring"),
        "extensions": list(EXTENSIONS),
    }


def model_metadata(revision: Revision) -> dict[str, Any]:
    """The body of ``GET /v2/models/{model}``: one tensor per feature, one for the score."""
    inputs = [
        {"name": name, "datatype": datatype, "shape": [-1]} for name, datatype in revision.datatypes.items()
    ]
    shape = [-1, revision.n_outputs] if revision.output.labels else [-1]
    output = {"name": revision.output.name, "datatype": revision.output_datatype, "shape": shape}
    return {
        "name": revision.name,
        "versions": [revision.id],
        "platform": PLATFORM,
        "inputs": inputs,
        "outputs": [output],
    }


def index_entry(revision: Revision) -> dict[str, str]:
    """One model in the answer of ``POST /v2/repository/index``."""
    return {"name": revision.name, "version": revision.id, "state": "READY", "reason": ""}
