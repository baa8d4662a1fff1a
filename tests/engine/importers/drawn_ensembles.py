"""ONNX tree ensembles drawn by their attributes, and rows that look for trouble in them."""

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.random import Generator
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from engine.importers.onnx_trees import AGGREGATES, LEAF, LESS, MODES, TRANSFORMS

DTYPES = {
    TensorProto.FLOAT: np.float32, TensorProto.DOUBLE: np.float64,
    TensorProto.INT32: np.int32, TensorProto.INT64: np.int64,
}  # fmt: skip
COMPARISONS = [[mode] for mode in LESS] + [["BRANCH_LEQ", "BRANCH_GT"], list(LESS), list(MODES[:-1])]
"""Modes of one ensemble's nodes; membership is opset 5's alone, and never lifted."""
ODD = [0.0, -0.0, 1e-40, 1e30, -1e30, 16777216.0, 0.1]
N_ROWS = 200


@dataclass(frozen=True, slots=True)
class Drawn:
    """A graph whose score is ``Y``, and rows for it."""

    graph: onnx.ModelProto
    rows: NDArray[np.generic]


def drawn_ensemble(random: Generator) -> Drawn:
    """A regressor, a classifier or an ensemble of opset 5, on its own."""
    n_features = int(random.integers(1, 5))
    trees = [drawn_tree(random, n_features) for _ in range(random.choice([1, 2, 3, 12]))]
    kind = str(random.choice(["TreeEnsembleRegressor", "TreeEnsembleClassifier", "TreeEnsemble"]))
    elements = list(DTYPES) if kind == "TreeEnsembleClassifier" else [TensorProto.FLOAT, TensorProto.DOUBLE]
    element = int(random.choice(elements, p=[0.5, 0.3, 0.1, 0.1] if len(elements) == 4 else None))
    make = opset_5 if kind == "TreeEnsemble" else arrays
    given = make(random, kind, trees, element)
    graph = a_graph(kind, given, element, n_features)
    thresholds = [[node[1] for tree in trees for node in tree if node[0] == f] for f in range(n_features)]
    return Drawn(graph, np.column_stack([drawn_column(random, near, element) for near in thresholds]))


def drawn_tree(random: Generator, n_features: int) -> list[tuple[int, float, int, int]]:
    """Nodes (feature, threshold, true, false), root first; -1 for a leaf's feature."""
    nodes, leaves = [(-1, 0.0, 0, 0)], [0]
    for _ in range(random.choice([0, 1, 3, 9])):
        node = leaves.pop(int(random.integers(len(leaves))))
        below = [len(nodes), len(nodes) + 1]
        random.shuffle(below)
        threshold = float(random.choice([*ODD, *random.normal(size=7)]))
        nodes[node] = (int(random.integers(n_features)), threshold, *below)
        nodes += [(-1, 0.0, 0, 0)] * 2
        leaves += below
    return nodes


def drawn_weights(random: Generator, n: int) -> NDArray[np.float64]:
    scale = random.choice([1e-3, 1.0, 1e8])
    return random.normal(size=n) * scale if random.random() < 0.7 else np.abs(random.normal(size=n)) * scale


def drawn_modes(random: Generator, trees: list, comparisons: list[str]) -> list[list[str]]:
    return [[LEAF if node[0] < 0 else str(random.choice(comparisons)) for node in tree] for tree in trees]


def arrays(random: Generator, kind: str, trees: list, element: int) -> dict:
    """Attributes of opsets 1 to 3; leaves name all outputs, the tree's, always the same, or any."""
    classifier, dtype = (
        kind == "TreeEnsembleClassifier",
        np.float64 if element == TensorProto.DOUBLE else None,
    )
    n_outputs = int(random.choice([2, 2, 3] if classifier else [1, 1, 3]))
    modes = drawn_modes(random, trees, COMPARISONS[random.integers(len(COMPARISONS))])
    nodes = [
        (tree, number, *node) for tree, of_tree in enumerate(trees) for number, node in enumerate(of_tree)
    ]
    naming = random.integers(4)
    named = [
        (tree, number, output)
        for tree, number, feature, *_ in nodes
        if feature < 0
        for output in range(n_outputs)
        if (True, output == tree % n_outputs, output == naming % n_outputs, random.random() < 0.8)[naming]
    ]
    prefix = "class" if classifier else "target"
    given = {
        "nodes_treeids": [node[0] for node in nodes],
        "nodes_nodeids": [node[1] for node in nodes],
        "nodes_featureids": [max(node[2], 0) for node in nodes],
        "nodes_truenodeids": [node[4] for node in nodes],
        "nodes_falsenodeids": [node[5] for node in nodes],
        "nodes_modes": [mode for tree in modes for mode in tree],
        "nodes_missing_value_tracks_true": random.integers(0, 2, len(nodes)).tolist(),
        **numbers("nodes_values", [node[3] for node in nodes], dtype),
        f"{prefix}_treeids": [tree for tree, _, _ in named],
        f"{prefix}_nodeids": [node for _, node, _ in named],
        f"{prefix}_ids": [output for _, _, output in named],
        **numbers(f"{prefix}_weights", drawn_weights(random, len(named)), dtype),
        "post_transform": str(random.choice(TRANSFORMS, p=[0.6, 0.15, 0.15, 0.05, 0.05])),
    }
    if random.random() < 0.4:
        n_base = 1 if classifier and n_outputs == 2 and random.random() < 0.5 else n_outputs
        given.update(numbers("base_values", drawn_weights(random, n_base), dtype))
    if classifier:
        given["classlabels_int64s"] = list(range(n_outputs))
    else:
        given |= {
            "n_targets": n_outputs,
            "aggregate_function": str(random.choice(AGGREGATES, p=[0.2, 0.6, 0.1, 0.1])),
        }
    return {name: value for name, value in given.items() if not isinstance(value, list) or value}


def numbers(name: str, values: list, dtype: type | None) -> dict:
    """A list of floats, or with a type a tensor of doubles."""
    if dtype is None:
        return {name: np.asarray(values, np.float32).tolist()}
    return {f"{name}_as_tensor": numpy_helper.from_array(np.asarray(values, dtype))}


def opset_5(random: Generator, kind: str, trees: list, element: int) -> dict:
    """Attributes of opset 5, whose splits and leaves are numbered apart; its trees have a split at least."""
    trees = [tree if len(tree) > 1 else [(0, 0.0, 1, 1), (-1, 0.0, 0, 0)] for tree in trees]
    modes = drawn_modes(random, trees, COMPARISONS[random.integers(len(COMPARISONS))])
    splits, leaves = {}, {}
    for number, tree in enumerate(trees):
        for place, node in enumerate(tree):
            numbered = leaves if node[0] < 0 else splits
            numbered[number, place] = len(numbered)
    n_outputs, dtype = int(random.choice([1, 1, 3])), DTYPES[element]
    nodes = [(number, *trees[number][place]) for number, place in splits]
    sides = {
        side: [(number, node[at]) for number, *node in nodes] for at, side in ((2, "true"), (3, "false"))
    }
    given = {
        "tree_roots": [splits[number, 0] for number in range(len(trees))],
        "nodes_featureids": [node[1] for node in nodes],
        "nodes_splits": numpy_helper.from_array(np.array([node[2] for node in nodes], dtype)),
        "nodes_modes": numpy_helper.from_array(
            np.array([MODES.index(mode) for tree in modes for mode in tree if mode != LEAF], np.uint8)
        ),
        "nodes_missing_value_tracks_true": random.integers(0, 2, len(nodes)).tolist(),
        "leaf_targetids": random.integers(0, n_outputs, len(leaves)).tolist(),
        "leaf_weights": numpy_helper.from_array(drawn_weights(random, len(leaves)).astype(dtype)),
        "n_targets": n_outputs,
        "aggregate_function": int(random.choice(4, p=[0.2, 0.6, 0.1, 0.1])),
        "post_transform": int(random.choice(5, p=[0.6, 0.15, 0.15, 0.05, 0.05])),
    }
    for side, places in sides.items():
        given[f"nodes_{side}nodeids"] = [leaves.get(place, splits.get(place)) for place in places]
        given[f"nodes_{side}leafs"] = [int(place in leaves) for place in places]
    return given


def a_graph(kind: str, given: dict, element: int, n_features: int) -> onnx.ModelProto:
    outputs = ["L", "Y"] if kind == "TreeEnsembleClassifier" else ["Y"]
    node = helper.make_node(kind, ["X"], outputs, domain="ai.onnx.ml", **given)
    score = element if kind == "TreeEnsemble" else TensorProto.FLOAT
    inputs = [helper.make_tensor_value_info("X", element, [None, n_features])]
    graph = helper.make_graph([node], "g", inputs, [helper.make_tensor_value_info("Y", score, [None, None])])
    opsets = [
        helper.make_opsetid("", 17),
        helper.make_opsetid("ai.onnx.ml", 5 if kind == "TreeEnsemble" else 3),
    ]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def drawn_column(random: Generator, thresholds: list[float], element: int) -> NDArray[np.generic]:
    """Values at thresholds, one step beside them, odd ones and others."""
    dtype = np.dtype(DTYPES[element])
    if dtype.kind == "i":
        at = np.array([16777217, 16777219, *(round(t) for t in thresholds if abs(t) < 1e9)])
        return random.choice(np.concatenate([at, at - 1, at + 1, np.arange(-3, 4)]), N_ROWS).astype(dtype)
    at = np.array(thresholds, dtype)
    with np.errstate(over="ignore"):
        beside = [np.nextafter(at, dtype.type(to)) for to in (-np.inf, np.inf)]
    odd = np.array([np.nan, np.inf, -np.inf, *ODD], dtype)
    pool = np.concatenate([at, *beside, odd, random.normal(size=8).astype(dtype)])
    return random.choice(pool, N_ROWS)
