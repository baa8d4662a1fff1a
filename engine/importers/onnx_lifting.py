"""A graph that is one tree ensemble, lifted onto the forest kernels when they give ONNX Runtime's bits.

The runtime on one thread adds leaves tree by tree, in the type of the input (float32 or float64), from
zero; base values come last. With several threads it adds in another order, here never. That the lifted
forest agrees is not taken on trust: both score rows on and around every threshold before it is used.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from engine.bundle import Link
from engine.importers.onnx_trees import Ensemble, ensemble_of
from engine.importers.trees import Rules, Tree, grow
from engine.schema import Schema
from kernels.forests.forest import Forest
from kernels.forests.traversal import Traversal

OPERATORS = {"TreeEnsembleRegressor": 0, "TreeEnsembleClassifier": 1, "TreeEnsemble": 0}
"""The operators, and which of their outputs is the score."""
LINKS = {"NONE": Link(), "LOGISTIC": Link("sigmoid"), "SOFTMAX": Link("softmax")}
LINK_TOLERANCE = 1e-5
"""ONNX Runtime's float32 logistic and softmax are this good, relatively; margins must be equal."""
SPECIAL = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 1e-40, 1e30)
N_ROWS = 600

Score = Callable[[onnx.ModelProto, NDArray[Any]], NDArray[Any]]
"""Scores rows by a graph, in ONNX Runtime."""


def lift(model: onnx.ModelProto, schema: Schema, score: Score) -> tuple[Forest, Link] | None:
    """The forest and link that give what the graph gives, or None where that is not certain.

    Args:
        model: A graph pruned to its score.
        schema: Its features, block and output type.
        score: ONNX Runtime.
    """
    node = _only_ensemble(model.graph)
    ensemble = ensemble_of(node) if node is not None else None
    if node is None or ensemble is None or ensemble.transform not in LINKS:
        return None
    plain = _without_transform(model)
    link = LINKS[ensemble.transform]
    for forest in _candidates(ensemble, schema):
        X = _rows(forest, schema.dtype)
        margins = _margins(forest, X)
        if np.array_equal(margins.astype(schema.output.type), score(plain, X)) and np.allclose(
            _linked(link, margins), score(model, X), rtol=LINK_TOLERANCE, atol=0
        ):
            return forest, link
    return None


def _only_ensemble(graph: onnx.GraphProto) -> onnx.NodeProto | None:
    """The tree ensemble, if all the rest of the graph hands its input and score through."""
    passed = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Identity"}
    rest = [node for node in graph.node if node.op_type not in {"Identity", "Concat"}]
    if len(rest) != 1 or rest[0].op_type not in OPERATORS:
        return None
    node = rest[0]
    score = graph.output[0].name
    while score in passed:
        score = passed[score]
    source = node.input[0]
    while source in passed:
        source = passed[source]
    joined = next((n for n in graph.node if n.op_type == "Concat" and n.output[0] == source), None)
    inputs = [found.name for found in graph.input]
    if score != node.output[OPERATORS[node.op_type]]:
        return None
    if joined is None:
        return node if inputs == [source] else None
    axis = next((attribute.i for attribute in joined.attribute if attribute.name == "axis"), 0)
    return node if list(joined.input) == inputs and axis in {1, -1} else None


def _without_transform(model: onnx.ModelProto) -> onnx.ModelProto:
    plain = onnx.ModelProto.FromString(model.SerializeToString())
    for node in plain.graph.node:
        kept = [attribute for attribute in node.attribute if attribute.name != "post_transform"]
        del node.attribute[:]
        node.attribute.extend(kept)
    return plain


def _candidates(ensemble: Ensemble, schema: Schema) -> Iterator[Forest]:
    """The ways to read an ensemble: one class's score alone may tell both in two ways."""
    base = ensemble.base if len(ensemble.base) else np.zeros(1)
    if not ensemble.lone_class:
        yield _grown(ensemble, schema, np.ones(1), np.broadcast_to(base, ensemble.n_outputs))
        return
    mirrored = np.array([-1.0, 1.0])
    yield _grown(ensemble, schema, mirrored, mirrored * base[-1])
    if not base.any():
        yield _grown(ensemble, schema, mirrored, np.array([1.0, 0.0]))


def _grown(ensemble: Ensemble, schema: Schema, factor: NDArray[Any], bias: NDArray[Any]) -> Forest:
    trees = [replace(tree, leaf_value=tree.leaf_value * factor) for tree in ensemble.trees]
    if not ensemble.average and all((_outputs(tree).sum() <= 1) for tree in trees):
        trees = [_alone(tree) for tree in trees]
    rules = Rules(less=ensemble.less, single=schema.block == "float32", average=ensemble.average)
    return grow(trees, rules, n_features=len(schema.features), base=np.zeros(ensemble.n_outputs), bias=bias)


def _outputs(tree: Tree) -> NDArray[np.bool_]:
    return np.asarray((tree.leaf_value != 0).any(axis=0))


def _alone(tree: Tree) -> Tree:
    """A tree that adds to one output only, with plain leaves."""
    output = int(_outputs(tree).argmax())
    return replace(tree, leaf_value=tree.leaf_value[:, output].copy(), output=output)


def _rows(forest: Forest, dtype: np.dtype) -> NDArray[Any]:
    """Rows of thresholds, their neighbours and odd values, feature by feature."""
    random = np.random.default_rng(0)
    X = np.empty((N_ROWS, forest.n_features), dtype)
    for feature in range(forest.n_features):
        thresholds = forest.threshold[forest.feature == feature].astype(dtype)
        with np.errstate(over="ignore"):
            near = [np.nextafter(thresholds, dtype.type(to)) for to in (-np.inf, np.inf)]
        pool = [thresholds, *near, np.array(SPECIAL, dtype), random.normal(size=16).astype(dtype)]
        X[:, feature] = random.choice(np.concatenate(pool), N_ROWS)
    return X


def _margins(forest: Forest, X: NDArray[Any]) -> NDArray[Any]:
    margins = np.empty((len(X), forest.n_outputs), np.float32 if forest.single else np.float64)
    Traversal(forest).score_rows(X, margins)
    return margins


def _linked(link: Link, margins: NDArray[Any]) -> NDArray[Any]:
    wide = margins.astype(np.float64)
    if link.name == "sigmoid":
        return np.asarray(1 / (1 + np.exp(-wide)))
    if link.name == "softmax":
        powers = np.exp(wide - wide.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))
    return wide
