"""A graph that is one tree ensemble, lifted onto the forest kernels when they give ONNX Runtime's bits.

The runtime on one thread adds leaves tree by tree, in the type of the input (float32 or float64), from
zero; base values come last. With several threads it adds in another order, here never. Integers it rounds
to float32, so they are left to it. That the lifted forest agrees is not taken on trust: both score rows on
and around every threshold before it is used.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from engine.bundle import Link
from engine.errors import InvalidModel
from engine.importers.onnx_trees import Ensemble, ensemble_of
from engine.importers.trees import Rules, Tree, grow
from engine.schema import Schema
from kernels.forests.forest import Forest
from kernels.forests.traversal import Traversal
from kernels.scores.links import apply_link

DOMAIN = "ai.onnx.ml"
FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)
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
    if ensemble is None or ensemble.transform not in LINKS:
        return None
    try:
        forest = _grown(ensemble, schema)
    except InvalidModel:
        return None  # The runtime takes nodes with two parents, and others that are no trees.
    link = LINKS[ensemble.transform]
    if np.isnan(forest.threshold).any():
        return None
    return (forest, link) if _agrees(forest, link, model, schema, score) else None


def _agrees(forest: Forest, link: Link, model: onnx.ModelProto, schema: Schema, score: Score) -> bool:
    X = _rows(forest, schema.dtype)
    margins = np.empty((len(X), forest.n_outputs), np.float32 if forest.single else np.float64)
    Traversal(forest).score_rows(X, margins)
    linked = np.empty(margins.shape)
    apply_link(link.name, link.scale, margins, linked)
    with np.errstate(over="ignore"):
        rounded = margins.astype(schema.output.type)
    return np.array_equal(rounded, score(_without_transform(model), X)) and np.allclose(
        linked, score(model, X), rtol=LINK_TOLERANCE, atol=0
    )


def _only_ensemble(graph: onnx.GraphProto) -> onnx.NodeProto | None:
    """The tree ensemble, if all the rest of the graph hands its input and score through."""
    passed = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Identity"}
    rest = [node for node in graph.node if node.op_type not in {"Identity", "Concat"}]
    if len(rest) != 1 or rest[0].op_type not in OPERATORS or rest[0].domain != DOMAIN:
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
    if any(found.type.tensor_type.elem_type not in FLOATS for found in graph.input):
        return None
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


def _grown(ensemble: Ensemble, schema: Schema) -> Forest:
    trees = ensemble.trees
    if not ensemble.average and all((_outputs(tree).sum() <= 1) for tree in trees):
        trees = [_alone(tree) for tree in trees]
    rules = Rules(less=ensemble.less, single=schema.block == "float32", average=ensemble.average)
    zeros = np.zeros(ensemble.n_outputs)
    return grow(trees, rules, n_features=len(schema.features), base=zeros, bias=ensemble.base)


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
