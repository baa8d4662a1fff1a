"""The trees of an ``ai.onnx.ml`` node: TreeEnsembleRegressor, -Classifier (opsets 1 to 4), TreeEnsemble (5).

Comparisons by equality or membership and other aggregates than sums and averages are left alone.
The operators: https://onnx.ai/onnx/operators/index.html#ai-onnx-ml.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from engine.importers.trees import Tree

MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "BRANCH_MEMBER")
AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")
TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
"""Names in the order of opset 5's numbers."""
LESS = {"BRANCH_LEQ": False, "BRANCH_GT": False, "BRANCH_LT": True, "BRANCH_GTE": True}
"""Whether left is ``x < threshold``; the branches of GT and GTE change places."""
SWAPPED = frozenset({"BRANCH_GT", "BRANCH_GTE"})
LEAF = "LEAF"


@dataclass(frozen=True, slots=True, eq=False)
class Ensemble:
    """What such a node computes.

    Attributes:
        trees: Leaves are vectors of ``n_outputs``, zero where a leaf says nothing.
        n_outputs: Targets or classes.
        less: Left is ``x < threshold`` at all nodes, else ``x <= threshold``.
        average: Divide the sums by the number of trees.
        base: float64[n_outputs] or float64[1], added after the sums; empty for none.
        transform: ``NONE``, ``SOFTMAX``, ``LOGISTIC``, …
        lone_class: Both classes of a classifier are told from one score.
    """

    trees: Sequence[Tree]
    n_outputs: int
    less: bool
    average: bool
    base: NDArray[np.float64]
    transform: str
    lone_class: bool


def ensemble_of(node: onnx.NodeProto) -> Ensemble | None:
    """The ensemble of a node, or None where it cannot be told in ``Forest``'s terms."""
    given = {attribute.name: _value(attribute) for attribute in node.attribute}
    if node.op_type == "TreeEnsemble":
        return _of_opset_5(given)
    prefix = "target" if node.op_type == "TreeEnsembleRegressor" else "class"
    return _of_arrays(given, prefix)


def _value(attribute: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list) and value and isinstance(value[0], bytes):
        return np.array([word.decode() for word in value])
    return np.array(value) if isinstance(value, list) else value


def _of_arrays(given: dict[str, Any], prefix: str) -> Ensemble | None:
    modes = given["nodes_modes"]
    aggregate = given.get("aggregate_function", "SUM")
    if aggregate not in {"SUM", "AVERAGE"} or not set(modes) <= {*LESS, LEAF}:
        return None
    less = {LESS[mode] for mode in modes if mode != LEAF}
    labels = given.get("classlabels_int64s", given.get("classlabels_strings", ()))
    n_outputs = len(labels) if prefix == "class" else int(given.get("n_targets", 1))
    ids = given[f"{prefix}_ids"]
    lone = prefix == "class" and n_outputs == 2 and len(set(ids.tolist())) == 1
    values = _leaf_values(given, prefix, np.zeros_like(ids) if lone else ids, 1 if lone else n_outputs)
    if values is None or len(less) > 1:
        return None
    return Ensemble(
        trees=_split_up(given, modes, values),
        n_outputs=n_outputs,
        less=less == {True},
        average=aggregate == "AVERAGE",
        base=np.array(_either(given, "base_values", ()), dtype=np.float64),
        transform=given.get("post_transform", "NONE"),
        lone_class=lone,
    )


def _either(given: dict[str, Any], name: str, otherwise: Any = None) -> Any:
    """An attribute that doubles give as a tensor of another name."""
    return given.get(f"{name}_as_tensor", given.get(name, otherwise))


def _leaf_values(
    given: dict[str, Any], prefix: str, ids: NDArray[np.int64], n_outputs: int
) -> NDArray[np.float64] | None:
    """float64[nodes, n_outputs] in the order of the nodes; None where a leaf names an output twice."""
    pairs = zip(given["nodes_treeids"].tolist(), given["nodes_nodeids"].tolist(), strict=True)
    place = {pair: number for number, pair in enumerate(pairs)}
    of_leaves = zip(given[f"{prefix}_treeids"].tolist(), given[f"{prefix}_nodeids"].tolist(), strict=True)
    rows = np.array([place[pair] for pair in of_leaves], dtype=np.int64)
    if len(np.unique(rows * n_outputs + ids)) != len(rows):
        return None
    values = np.zeros((len(place), n_outputs))
    values[rows, ids] = _either(given, f"{prefix}_weights")
    return values


def _split_up(given: dict[str, Any], modes: NDArray[np.str_], values: NDArray[np.float64]) -> list[Tree]:
    tree_ids = given["nodes_treeids"]
    tracks = given.get("nodes_missing_value_tracks_true", np.zeros(len(tree_ids), np.int64))
    trees = []
    for tree in dict.fromkeys(tree_ids.tolist()):
        here = np.flatnonzero(tree_ids == tree)
        place = {node: number for number, node in enumerate(given["nodes_nodeids"][here].tolist())}
        inner = modes[here] != LEAF
        swapped = np.isin(modes[here], sorted(SWAPPED))
        true = np.array([place.get(node, 0) for node in given["nodes_truenodeids"][here].tolist()])
        false = np.array([place.get(node, 0) for node in given["nodes_falsenodeids"][here].tolist()])
        trees.append(
            Tree(
                feature=np.where(inner, given["nodes_featureids"][here], -1),
                threshold=_either(given, "nodes_values")[here].astype(np.float64),
                left=np.where(swapped, false, true),
                right=np.where(swapped, true, false),
                default_left=(tracks[here] != 0) ^ swapped,
                leaf_value=values[here],
            )
        )
    return trees


def _of_opset_5(given: dict[str, Any]) -> Ensemble | None:
    modes = [MODES[mode] for mode in given["nodes_modes"].tolist()]
    aggregate = AGGREGATES[given.get("aggregate_function", 1)]
    if aggregate not in {"SUM", "AVERAGE"} or not set(modes) <= LESS.keys():
        return None
    if len({LESS[mode] for mode in modes}) > 1:
        return None
    n_outputs = int(given["n_targets"])
    return Ensemble(
        trees=[_walked(given, modes, root, n_outputs) for root in given["tree_roots"].tolist()],
        n_outputs=n_outputs,
        less=LESS[modes[0]],
        average=aggregate == "AVERAGE",
        base=np.empty(0),
        transform=TRANSFORMS[given.get("post_transform", 0)],
        lone_class=False,
    )


def _walked(given: dict[str, Any], modes: Sequence[str], root: int, n_outputs: int) -> Tree:
    """A tree in breadth-first order; ``found`` holds (index, whether it is a leaf's)."""
    found = [(root, False)]
    for split, is_leaf in found:
        if is_leaf:
            continue
        branches = [(int(given[f"nodes_{side}nodeids"][split]), bool(given[f"nodes_{side}leafs"][split]))
                    for side in ("true", "false")]  # fmt: skip
        found.extend(reversed(branches) if modes[split] in SWAPPED else branches)
    index = np.array([number for number, _ in found])
    leaf = np.array([is_leaf for _, is_leaf in found])
    place = np.cumsum(~leaf)
    left, right = 2 * place - 1, 2 * place
    node = np.where(leaf, 0, index)
    tracks = given.get("nodes_missing_value_tracks_true", np.zeros(len(modes), np.int64))
    swapped = np.array([mode in SWAPPED for mode in modes])
    values = np.zeros((len(found), n_outputs))
    values[leaf, given["leaf_targetids"][index[leaf]]] = given["leaf_weights"][index[leaf]]
    return Tree(
        feature=np.where(leaf, -1, given["nodes_featureids"][node]),
        threshold=given["nodes_splits"][node].astype(np.float64),
        left=left,
        right=right,
        default_left=(tracks[node] != 0) ^ swapped[node],
        leaf_value=values,
    )
