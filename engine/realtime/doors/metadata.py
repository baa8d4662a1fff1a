"""What the server and its models say of themselves, by the Open Inference Protocol."""

import importlib.metadata
from collections.abc import Mapping
from typing import Any

from engine.realtime.serving.served import Revision

EXTENSIONS = (
    "binary_tensor_data", "statistics", "model_configuration", "model_repository",
    "feature_matrix", "json_rows", "arrow_stream",
)  # fmt: skip
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


def model_config(revision: Revision) -> dict[str, Any]:
    """The body of ``GET /v2/models/{model}/config``, in the words of Triton's ``ModelConfig``.

    ``max_batch_size`` is 0 there for a model whose shapes are whole, as ours are in the metadata: rows
    of many requests are batched nevertheless, which no client needs to know of.
    """
    metadata = model_metadata(revision)
    return {
        "name": revision.name,
        "platform": PLATFORM,
        "backend": PLATFORM,
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": 0,
        "input": [_config_tensor(tensor) for tensor in metadata["inputs"]],
        "output": [_config_tensor(tensor) for tensor in metadata["outputs"]],
        "parameters": {"revision": {"string_value": revision.scorer.revision}},
    }


def _config_tensor(tensor: Mapping[str, Any]) -> dict[str, Any]:
    datatype = "STRING" if tensor["datatype"] == "BYTES" else tensor["datatype"]
    return {"name": tensor["name"], "data_type": f"TYPE_{datatype}", "dims": tensor["shape"]}


def index_entry(revision: Revision) -> dict[str, str]:
    """One model in the answer of ``POST /v2/repository/index``."""
    return {"name": revision.name, "version": revision.id, "state": "READY", "reason": ""}
