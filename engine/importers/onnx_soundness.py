"""Graphs on which ONNX Runtime (1.31) dies, loops, reads other files or writes no score: refused by name."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from engine.errors import InvalidModel, UnsupportedModel
from engine.importers.onnx_trees import has_unwritten_score

Attributes = Mapping[str, onnx.AttributeProto]
"""A node's attributes by name; any other name has an empty one."""
SIDES = ("true", "false")
HOLDERS = (
    "raw_data", "float_data", "double_data", "int32_data", "int64_data", "uint64_data", "string_data",
)  # fmt: skip
"""Where a tensor may keep its elements."""
MOST_A_BYTE = 8
"""No type has more elements in a byte; whether the number is right, the runtime says."""
MAX_DEPTH = 4096
"""Levels of a tree; the runtime builds trees by recursion, and some 10,000 overflow its stack."""
MAX_COLUMNS = 1 << 20
MAX_FIXED_ROWS = 1 << 16
"""No graph has more; a damaged file may say so."""


def check_graph(model: onnx.ModelProto) -> None:
    """Raise ``UnsupportedModel`` or ``InvalidModel`` for what the runtime must not be given."""
    _check_inputs(model.graph)
    for graph in _graphs(model):
        for tensor in _tensors(graph):
            _check_weights(tensor)
        for node in graph.node:
            _check_words(node)
            if node.op_type.startswith("TreeEnsemble"):
                _check_trees(node)


def _check_weights(tensor: onnx.TensorProto) -> None:
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise UnsupportedModel(
            f"weights such as '{tensor.name}' lie in other files; save the graph with them"
            " (onnx.save(model, path, save_as_external_data=False))"
        )
    held = max(len(getattr(tensor, name)) for name in HOLDERS)
    if math.prod(tensor.dims) > MOST_A_BYTE * held:
        raise InvalidModel(
            f"weights '{tensor.name}' have the shape {list(tensor.dims)}, but lack data for it"
        )


def _check_words(node: onnx.NodeProto) -> None:
    for attribute in node.attribute:
        try:
            b"".join([*attribute.strings, attribute.s]).decode()
        except UnicodeDecodeError as error:
            raise InvalidModel(
                f"{_named(node)} has words in '{attribute.name}' that are no UTF-8, as ONNX wants them"
            ) from error


def check_scores(model: onnx.ModelProto) -> None:
    """Raise ``UnsupportedModel`` for a graph some of whose scores the runtime never writes."""
    for graph in _graphs(model):
        for node in graph.node:
            if node.op_type == "TreeEnsembleClassifier" and has_unwritten_score(node):
                raise UnsupportedModel(
                    f"{_named(node)} has leaves that do not name the second of its two classes, and ONNX"
                    " Runtime leaves its score unwritten; export it without base values and PROBIT"
                )


def _check_inputs(graph: onnx.GraphProto) -> None:
    for found in graph.input:
        dimensions = [dimension.dim_value for dimension in found.type.tensor_type.shape.dim]
        for value, most in zip(dimensions, (MAX_FIXED_ROWS, MAX_COLUMNS), strict=False):
            if value > most:
                raise InvalidModel(
                    f"input '{found.name}' of the graph has the shape {dimensions}, expected at most"
                    f" {MAX_FIXED_ROWS} rows of {MAX_COLUMNS} features"
                )


def _graphs(model: onnx.ModelProto) -> Iterator[Any]:
    """The graph, the functions beside it, and the graphs inside nodes."""
    waiting: list[Any] = [model.graph, *model.functions]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                waiting += [attribute.g] if attribute.HasField("g") else attribute.graphs


def _tensors(graph: Any) -> Iterator[onnx.TensorProto]:
    """The weights of a graph (a function has none of its own) and those in its nodes' attributes."""
    sparse = []
    if isinstance(graph, onnx.GraphProto):
        yield from graph.initializer
        sparse += graph.sparse_initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from [attribute.t] if attribute.HasField("t") else attribute.tensors
            one = attribute.HasField("sparse_tensor")
            sparse += [attribute.sparse_tensor] if one else attribute.sparse_tensors
    for tensor in sparse:
        yield from (tensor.values, tensor.indices)


def _check_trees(node: onnx.NodeProto) -> None:
    given = defaultdict(onnx.AttributeProto, {attribute.name: attribute for attribute in node.attribute})
    if node.op_type == "TreeEnsembleClassifier" and _has_one_odd_class(given):
        raise UnsupportedModel(
            f"{_named(node)} has one class with a word for its name or with two base values, on which"
            " ONNX Runtime writes past its arrays; export it as a regressor"
        )
    children = _split_children if node.op_type == "TreeEnsemble" else _node_children
    true, false = children(given)
    if _is_too_deep(true, false):
        raise InvalidModel(
            f"{_named(node)} has a tree that goes in circles or is deeper than {MAX_DEPTH} levels"
        )
    trees = np.array(given["nodes_treeids"].ints, np.int64)
    if len(trees) == len(true) == len(false):
        _check_listing(node, trees, np.concatenate([true, false]))


def _check_listing(node: onnx.NodeProto, trees: NDArray[np.int64], children: NDArray[np.int64]) -> None:
    """Raise ``UnsupportedModel`` for trees among each other or not from the root on.

    The runtime begins a tree wherever the next node is of another one, and gives weights of nodes that no
    root leads to to others.
    """
    is_root = np.diff(trees, prepend=-1) != 0
    is_child = np.isin(np.arange(len(trees)), children)
    if (trees < 0).any() or len(np.unique(trees)) < is_root.sum() or (is_root == is_child).any():
        raise UnsupportedModel(
            f"{_named(node)} lists its nodes in an order that ONNX Runtime reads as other trees; list one"
            " tree after the other, numbered from 0 and with its root first"
        )


def _named(node: onnx.NodeProto) -> str:
    return f"node '{node.name}' of the graph, a {node.op_type},"


def _has_one_odd_class(given: Attributes) -> bool:
    words, numbers = given["classlabels_strings"].strings, given["classlabels_int64s"].ints
    n_base = max([len(given["base_values"].floats), *given["base_values_as_tensor"].t.dims])
    return len(words or numbers) == 1 and (len(words) == 1 or n_base > 1)


def _split_children(given: Attributes) -> list[NDArray[np.int64]]:
    """True and false children of the nodes of opset 5, which are splits; -1 where one is a leaf."""
    found = []
    for side in SIDES:
        children, leaves = given[f"nodes_{side}nodeids"].ints, given[f"nodes_{side}leafs"].ints
        places = [-1 if leaf else child for child, leaf in zip(children, leaves, strict=False)]
        found.append(np.array(places, np.int64))
    return found


def _node_children(given: Attributes) -> list[NDArray[np.int64]]:
    """True and false children of the nodes of opsets 1 to 4, splits and leaves; -1 where there is none."""
    trees, modes = given["nodes_treeids"].ints, given["nodes_modes"].strings
    pairs = zip(trees, given["nodes_nodeids"].ints, strict=False)
    place = {pair: number for number, pair in enumerate(pairs)}
    found = []
    for side in SIDES:
        children = zip(trees, given[f"nodes_{side}nodeids"].ints, modes, strict=False)
        places = [-1 if mode == b"LEAF" else place.get((tree, child), -1) for tree, child, mode in children]
        found.append(np.array(places, np.int64))
    return found


def _is_too_deep(true: NDArray[np.int64], false: NDArray[np.int64]) -> bool:
    """Whether some way down the nodes has more than ``MAX_DEPTH`` steps, or no end.

    Lists of other lengths and numbers of other nodes are for the runtime to refuse.
    """
    n_nodes = min(len(true), len(false))
    children = np.stack([true[:n_nodes], false[:n_nodes]], axis=1)
    there = (children >= 0) & (children < n_nodes)
    n_parents = np.bincount(children[there], minlength=n_nodes)
    level, n_seen = np.flatnonzero(n_parents == 0), 0
    for _ in range(MAX_DEPTH):
        n_seen += len(level)
        below = children[level][there[level]]
        np.subtract.at(n_parents, below, 1)
        level = np.unique(below[n_parents[below] == 0])
        if not len(level):
            return n_seen < n_nodes
    return True
