"""The features of an ONNX graph, from the types and shapes of its inputs."""

from collections.abc import Iterator
from typing import Literal

import onnx

from engine.errors import UnsupportedModel
from engine.importers.features import Options
from engine.schema import Feature, FeatureType

Element = onnx.TensorProto
TYPES: dict[int, FeatureType] = {
    Element.FLOAT: "float32",
    Element.FLOAT16: "float32",
    Element.DOUBLE: "float64",
    Element.BOOL: "bool",
    Element.INT8: "int8",
    Element.INT16: "int16",
    Element.INT32: "int32",
    Element.INT64: "int64",
    Element.UINT8: "uint8",
    Element.UINT16: "uint16",
    Element.UINT32: "uint32",
    Element.UINT64: "uint64",
}
WIDE = frozenset({Element.DOUBLE, Element.INT32, Element.INT64, Element.UINT32, Element.UINT64})
"""Types with values that no float32 holds."""


def features_of(graph: onnx.GraphProto, options: Options) -> tuple[Feature, ...]:
    """The features in order: one input of F columns gives ``x0``, ``x1``, …, others bear their input's name.

    Raises:
        UnsupportedModel: An input is no [rows] or [rows, features] tensor, its width is unknown, or
            nothing tells the categories of a string input.
    """
    inputs = _inputs(graph)
    if len(inputs) == 1 and _width(inputs[0]) == 0:
        return tuple(_feature(graph, inputs[0], name, options) for name in _listed(inputs[0], options))
    return tuple(
        _feature(graph, found, name, options)
        for found in inputs
        for name in _names(found, alone=len(inputs) == 1)
    )


def block_of(graph: onnx.GraphProto) -> Literal["float32", "float64"]:
    """The float type that holds every value the graph takes."""
    wide = any(found.type.tensor_type.elem_type in WIDE for found in _inputs(graph))
    return "float64" if wide else "float32"


def _inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    weights = {tensor.name for tensor in graph.initializer}
    return [found for found in graph.input if found.name not in weights]


def _width(found: onnx.ValueInfoProto) -> int:
    """Columns of an input, 0 if unknown."""
    dimensions = found.type.tensor_type.shape.dim
    if not found.type.HasField("tensor_type") or len(dimensions) not in (1, 2):
        raise UnsupportedModel(f"input '{found.name}' of the graph is no [rows] or [rows, features] tensor")
    return int(dimensions[1].dim_value) if len(dimensions) == 2 else 1


def _names(found: onnx.ValueInfoProto, *, alone: bool) -> Iterator[str]:
    width = _width(found)
    if width == 0:
        raise UnsupportedModel(
            f"input '{found.name}' of the graph has an unknown width; export it with a fixed one: [None, 1]"
        )
    if width == 1:
        yield found.name
        return
    for number in range(width):
        yield f"x{number}" if alone else f"{found.name}_{number}"


def _listed(found: onnx.ValueInfoProto, options: Options) -> list[str]:
    if not options.features:
        raise UnsupportedModel(
            f"input '{found.name}' of the graph has an unknown number of features; list them all, in order,"
            " in a features file, or export the graph with a fixed width"
        )
    return list(options.features)


def _feature(graph: onnx.GraphProto, found: onnx.ValueInfoProto, name: str, options: Options) -> Feature:
    element = found.type.tensor_type.elem_type
    if element == Element.STRING:
        categories = _categories(graph, found, name, options)
        # The graph gets "" for what is missing, so where it knows "", nothing else may count as missing.
        return Feature(name, "category", categories, unseen="bad" if "" in categories else "missing")
    if element not in TYPES:
        held = Element.DataType.Name(element) if element in Element.DataType.values() else f"type {element}"
        raise UnsupportedModel(f"input '{found.name}' of the graph holds {held}, which no feature is")
    kind = TYPES[element]
    return Feature(name, kind, required=not kind.startswith("float"))


def _categories(
    graph: onnx.GraphProto, found: onnx.ValueInfoProto, name: str, options: Options
) -> tuple[str | int, ...]:
    """Those of the features file, or else those of the encoders that read the input, if only they do."""
    if given := options.categories(name):
        return given
    known = [_words(node) for node in graph.node if found.name in node.input or _holds_graphs(node)]
    if _width(found) == 1 and known and all(known):
        return tuple(dict.fromkeys(word for words in known for word in words))
    raise UnsupportedModel(
        f"input '{found.name}' of the graph takes strings; list the categories of '{name}' in a features file"
    )


def _words(node: onnx.NodeProto) -> list[str]:
    """The strings that an encoder knows; for any other, and for other nodes, ``""`` is as good."""
    lists = [a.strings for a in node.attribute if a.name in {"cats_strings", "keys_strings"}]
    return [word.decode() for words in lists for word in words]


def _holds_graphs(node: onnx.NodeProto) -> bool:
    return any(attribute.HasField("g") for attribute in node.attribute)
