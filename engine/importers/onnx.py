"""ONNX graphs: features from their inputs, the score from one of their outputs.

The graph is cut down to what the score needs: label outputs go, and so do ZipMaps, which wrap each row
in a dictionary. How rows of other batch sizes score is tried and written into the notes.
"""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from msgspec import UNSET
from numpy.typing import NDArray

from engine.backends import onnx as backend
from engine.backends.onnx_session import OnnxBackend
from engine.bundle import Bundle, Link, Manifest, Provenance, npz
from engine.errors import InvalidBundle, InvalidModel, ScoringFailed, UnsupportedModel
from engine.importers.features import Options
from engine.importers.imported import FOREST, ONNX, Imported
from engine.importers.onnx_inputs import block_of, features_of
from engine.importers.onnx_lifting import lift
from engine.importers.onnx_soundness import check_graph, check_scores
from engine.importers.trees import MAX_OUTPUTS
from engine.schema import Output, Schema

FLOATS: dict[int, Literal["float32", "float64"]] = {
    onnx.TensorProto.FLOAT: "float32",
    onnx.TensorProto.DOUBLE: "float64",
    onnx.TensorProto.FLOAT16: "float64",
}
BATCH_SIZES = (1, 2, 3, 5, 12, 64, 768, 1024)
LIFTED = (
    "The graph is one tree ensemble and was lifted onto the forest kernels: margins have the bits of ONNX"
    " Runtime on one thread, tried on rows around every threshold."
)


def is_graph(source: bytes) -> bool:
    """Whether the bytes are an ONNX model with at least one node."""
    try:
        model = onnx.load_model_from_string(source)
    except DecodeError:
        return False
    return model.ir_version > 0 and len(model.graph.node) > 0


def import_graph(source: bytes, options: Options) -> Imported:
    """Read a serialized ONNX model; raises ``InvalidModel``, ``UnsupportedModel``."""
    model = onnx.load_model_from_string(source)
    check_graph(model)
    score, labels = _score(model.graph, options)
    _prune(model.graph, score)
    if not model.graph.node:
        raise UnsupportedModel(f"no node of the graph makes the score '{score.name}'; wrap it in an Identity")
    features = features_of(model.graph, options)
    schema = Schema(features, block_of(model.graph), Output(type=FLOATS[score.type.tensor_type.elem_type]))
    n_outputs = _load(model, schema).n_outputs
    check_scores(model)
    if not 0 < n_outputs <= MAX_OUTPUTS:
        raise InvalidModel(f"expected 1 to {MAX_OUTPUTS} scores a row of the graph, got {n_outputs}")
    fitting = labels if len(labels) == n_outputs else tuple(str(number) for number in range(n_outputs))
    kind, files, link, note = _content(model, schema)
    return Imported(
        kind=kind,
        files=files,
        features=features,
        block=schema.block,
        output=Output(type=schema.output.type, labels=() if n_outputs == 1 else fitting),
        link=link,
        library="onnx",
        notes=(*_origin(model), note),
    )


def import_object(model: Any, options: Options) -> tuple[bytes, Imported]:
    """Read an ``onnx.ModelProto``."""
    if not isinstance(model, onnx.ModelProto):
        raise InvalidModel(f"expected an onnx.ModelProto, got {type(model).__name__}")
    source = model.SerializeToString(deterministic=True)
    return source, import_graph(source, options)


def _score(graph: onnx.GraphProto, options: Options) -> tuple[onnx.ValueInfoProto, tuple[str, ...]]:
    """The output that is the score, looked for behind ZipMaps, and the labels such a ZipMap knew."""
    maps = {node.output[0]: node for node in graph.node if node.op_type == "ZipMap" and node.input}
    found: dict[str, tuple[onnx.ValueInfoProto, tuple[str, ...]]] = {}
    for output in graph.output:
        if output.name in maps:
            found[output.name] = _behind(maps[output.name])
        elif output.type.tensor_type.elem_type in FLOATS:
            found[output.name] = output, ()
    wanted = options.output.tensor
    if wanted is not UNSET and wanted in found:
        return found[wanted]
    likely = [name for name in found if "prob" in name.lower()]
    chosen = likely if len(found) > 1 else list(found)
    if wanted is UNSET and len(chosen) == 1:
        return found[chosen[0]]
    raise UnsupportedModel(
        f"expected one output of floats as the score, the graph has {sorted(found) or 'none'}"
        f"{'' if wanted is UNSET else f', not {wanted!r}'}; name it in a features file:"
        " output: {tensor: NAME}"
    )


def _behind(node: onnx.NodeProto) -> tuple[onnx.ValueInfoProto, tuple[str, ...]]:
    labels = [
        value.decode() if isinstance(value, bytes) else str(value)
        for attribute in node.attribute
        for value in onnx.helper.get_attribute_value(attribute)
    ]
    tensor = onnx.helper.make_tensor_value_info(node.input[0], onnx.TensorProto.FLOAT, [None, len(labels)])
    return tensor, tuple(labels)


def _prune(graph: onnx.GraphProto, score: onnx.ValueInfoProto) -> None:
    """Leave only the score among the outputs, and only the nodes it needs."""
    needed = {score.name}
    kept = []
    for node in reversed(graph.node):
        if needed & set(node.output):
            kept.append(node)
            needed |= set(node.input) | _captured(node)
    nodes, output = list(reversed(kept)), onnx.ValueInfoProto.FromString(score.SerializeToString())
    del graph.node[:], graph.output[:]
    # CatBoost writes [rows] where the runtime gives [rows, 1], and then takes no buffer of either shape.
    output.type.tensor_type.ClearField("shape")
    graph.node.extend(nodes)
    graph.output.append(output)


def _captured(node: onnx.NodeProto) -> set[str]:
    """Names that the branches and bodies inside a node take from around it."""
    graphs = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return {name for graph in graphs for inner in graph.node for name in {*inner.input, *_captured(inner)}}


def _content(
    model: onnx.ModelProto, schema: Schema
) -> tuple[Literal["forest", "onnx"], dict[str, bytes], Link, str]:
    """The payload: a forest where the graph is one and scores the same bits, else the graph."""

    def score(graph: onnx.ModelProto, X: NDArray[Any]) -> NDArray[Any]:
        return _scores(_load(graph, schema), X, len(X))

    if lifted := lift(model, schema, score):
        forest, link = lifted
        return "forest", {FOREST: npz(forest.arrays())}, link, LIFTED
    graph = {ONNX: model.SerializeToString(deterministic=True)}
    return "onnx", graph, Link(), _batch_note(_load(model, schema), schema)


def _load(model: onnx.ModelProto, schema: Schema) -> OnnxBackend:
    manifest = Manifest("graph", "onnx", schema, Link(), Provenance("onnx"))
    try:
        return backend.load(Bundle(manifest, "", {ONNX: model.SerializeToString(deterministic=True)}))
    except InvalidBundle as error:
        raise InvalidModel(f"the ONNX graph cannot be scored: {error}") from error


def _origin(model: onnx.ModelProto) -> Iterator[str]:
    if model.producer_name:
        yield f"Written by {model.producer_name} {model.producer_version}".strip() + "."


def _batch_note(scorer: OnnxBackend, schema: Schema) -> str:
    """Whether a row's score depends on how many rows are scored with it, tried on random rows."""
    X = backend.random_rows(schema, max(BATCH_SIZES))
    sizes = ", ".join(str(size) for size in BATCH_SIZES)
    try:
        alone = _scores(scorer, X, 1)
        differing = [size for size in BATCH_SIZES if not _same(_scores(scorer, X, size), alone)]
    except ScoringFailed as error:
        return f"Whether scores depend on the batch size could not be tried on random rows: {error}"
    if differing:
        return (
            f"Scores depend on the batch size: on random rows, those of {differing} differ from those of 1."
        )
    return f"Scores do not depend on the batch size: the same bits in batches of {sizes} random rows."


def _scores(scorer: OnnxBackend, X: NDArray[Any], size: int) -> NDArray[Any]:
    out = np.empty((len(X), scorer.n_outputs), scorer.margin_dtype)
    n_rows = min(len(X), 64 * size)
    for start in range(0, n_rows, size):
        scorer.score_rows(X[start : start + size], out[start : start + size])
    return out[:n_rows]


def _same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    n_rows = min(len(one), len(other))
    return np.array_equal(one[:n_rows], other[:n_rows], equal_nan=True)
