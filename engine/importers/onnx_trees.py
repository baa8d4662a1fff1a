"""The trees of an ``ai.onnx.ml`` node: TreeEnsembleRegressor, -Classifier (opsets 1 to 4), TreeEnsemble (5).

Comparisons by equality or membership and other aggregates than sums and averages are left alone, and so is
what ONNX Runtime (1.31) reads in ways of its own, which a try on some rows may not show:

- An output that no leaf of the row names is 0, without its base value; a leaf that names none, where there
  is one output only, has its own ``nodes_values`` for a weight.
- Of two classes, where no leaf of the row names the second, its score is made of the first's.

The operators: https://onnx.ai/onnx/operators/index.html#ai-onnx-ml.
"""

from collections.abc import Iterator, Sequence
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
MIRRORED = np.array([-1.0, 1.0])
"""Two classes' scores from the first's alone."""


@dataclass(frozen=True, slots=True, eq=False)
class Ensemble:
    """What such a node computes.

    Attributes:
        trees: Leaves are vectors of ``n_outputs``, zero where a leaf says nothing.
        n_outputs: Targets or classes.
        less: Left is ``x < threshold`` at all nodes, else ``x <= threshold``.
        average: Divide the sums by the number of trees.
        base: float64[n_outputs], added after the sums.
        transform: ``NONE``, ``SOFTMAX``, ``LOGISTIC``, …
    """

    trees: Sequence[Tree]
    n_outputs: int
    less: bool
    average: bool
    base: NDArray[np.float64]
    transform: str


@dataclass(frozen=True, slots=True, eq=False)
class Leaves:
    """What nodes add to the outputs, and which outputs get something.

    Attributes:
        values: float64[nodes, n_outputs], in the order of the nodes; zero where nothing is named.
        in_all_rows: bool[n_outputs], whether each row has a leaf that names the output.
        all_name_one: Whether each leaf names an output.
    """

    values: NDArray[np.float64]
    in_all_rows: NDArray[np.bool_]
    all_name_one: bool


def ensemble_of(node: onnx.NodeProto) -> Ensemble | None:
    """The ensemble of a node that ONNX Runtime reads, or None where ``Forest``'s terms cannot tell it."""
    given = {attribute.name: _value(attribute) for attribute in node.attribute}
    if node.op_type == "TreeEnsemble":
        return _of_opset_5(given)
    if node.op_type == "TreeEnsembleRegressor":
        return _of_arrays(given, "target", int(given["n_targets"]))
    return _of_arrays(given, "class", _n_classes(given))


def has_unwritten_score(node: onnx.NodeProto) -> bool:
    """Whether the runtime may leave the second of a classifier's two scores as it was in memory."""
    given = {attribute.name: _value(attribute) for attribute in node.attribute}
    if _n_classes(given) != 2:
        return False
    starts = _starts(given)
    leaves = _leaves(given, "class", 2, starts) if len(starts) else None
    if leaves is not None and leaves.in_all_rows[1]:
        return False
    names_one = len(np.unique(given.get("class_ids", ()))) == 1
    return given.get("post_transform") == "PROBIT" or (
        not names_one and len(_either(given, "base_values")) == 1
    )


def _n_classes(given: dict[str, Any]) -> int:
    return len(given.get("classlabels_strings", given.get("classlabels_int64s", ())))


def _value(attribute: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list) and value and isinstance(value[0], bytes):
        return np.array([word.decode() for word in value])
    return np.array(value) if isinstance(value, list) else value


def _of_arrays(given: dict[str, Any], prefix: str, n_outputs: int) -> Ensemble | None:
    modes, starts = given.get("nodes_modes", ()), _starts(given)
    aggregate = given.get("aggregate_function", "SUM")
    if not len(starts) or aggregate not in {"SUM", "AVERAGE"} or not set(modes) <= {*LESS, LEAF}:
        return None
    less = {LESS[mode] for mode in modes if mode != LEAF}
    leaves = _leaves(given, prefix, n_outputs, starts)
    if leaves is None or len(less) > 1:
        return None
    two_classes = prefix == "class" and n_outputs == 2
    told = _of_two_classes(given, leaves) if two_classes else _of_outputs(given, leaves)
    if told is None or (aggregate == "AVERAGE" and len(starts) > 1 and told[1].any()):
        return None
    values, base = told
    return Ensemble(
        trees=_split_up(given, values, starts),
        n_outputs=n_outputs,
        less=less == {True},
        average=aggregate == "AVERAGE",
        base=base,
        transform=given.get("post_transform", "NONE"),
    )


def _either(given: dict[str, Any], name: str) -> Any:
    """An attribute that doubles give as a tensor of another name; empty if there is neither."""
    doubles = given.get(f"{name}_as_tensor", ())
    return doubles if len(doubles) else given.get(name, np.empty(0))


def _starts(given: dict[str, Any]) -> NDArray[np.int64]:
    """The first node of each tree."""
    return np.flatnonzero(np.diff(given.get("nodes_treeids", np.empty(0, np.int64)), prepend=-1))


def _leaves(given: dict[str, Any], prefix: str, n_outputs: int, starts: NDArray[np.int64]) -> Leaves | None:
    """None where a node names an output twice, or none that is there."""
    ids, trees, nodes = (
        given.get(f"{prefix}_{name}", np.empty(0, int)) for name in ("ids", "treeids", "nodeids")
    )
    pairs = zip(given["nodes_treeids"].tolist(), given["nodes_nodeids"].tolist(), strict=True)
    place = {pair: number for number, pair in enumerate(pairs)}
    rows = np.array([place.get(pair, -1) for pair in zip(trees.tolist(), nodes.tolist(), strict=True)], int)
    if (rows < 0).any() or len(np.unique(rows * n_outputs + ids)) != len(rows):
        return None
    values, named = np.zeros((len(place), n_outputs)), np.zeros((len(place), n_outputs), np.bool_)
    values[rows, ids] = _either(given, f"{prefix}_weights")
    named[rows, ids] = True
    is_leaf = given["nodes_modes"] == LEAF
    in_all_leaves = np.logical_and.reduceat(named | ~is_leaf[:, None], starts)
    all_name_one = bool(named[is_leaf].any(axis=1).all())
    return Leaves(values, np.asarray(in_all_leaves.any(axis=0)), all_name_one)


def _pairs(given: dict[str, Any], prefix: str) -> Iterator[tuple[int, int]]:
    """Tree and node of what a prefix lists."""
    trees, nodes = (given.get(f"{prefix}_{name}", np.empty(0, int)) for name in ("treeids", "nodeids"))
    return zip(trees.tolist(), nodes.tolist(), strict=True)


def _of_outputs(
    given: dict[str, Any], leaves: Leaves
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """What nodes add to the targets, or to classes that are not two, and the base values."""
    n_outputs = leaves.values.shape[1]
    base = _base(given, n_outputs)
    if (n_outputs == 1 and not leaves.all_name_one) or not leaves.in_all_rows[base != 0].all():
        return None
    return leaves.values, base


def _of_two_classes(
    given: dict[str, Any], leaves: Leaves
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """The same of two classes: (-s, s) or (1 - s, s) where only the first has a score s."""
    base = _either(given, "base_values")
    if given.get("class_ids", np.empty(0)).any():
        return (leaves.values, np.zeros(2)) if leaves.in_all_rows[1] and not len(base) else None
    both, transform = leaves.values[:, :1] * MIRRORED, given.get("post_transform", "NONE")
    if not (_either(given, "class_weights") < 0).any():
        return (both, np.array([1.0, 0.0])) if transform == "NONE" and not base.any() else None
    if transform not in {"NONE", "LOGISTIC"} or len(base) > 1:
        return None
    return both, MIRRORED * _base(given, 1)


def _base(given: dict[str, Any], n_outputs: int) -> NDArray[np.float64]:
    base = np.asarray(_either(given, "base_values"), dtype=np.float64)
    return base if len(base) else np.zeros(n_outputs)


def _split_up(given: dict[str, Any], values: NDArray[np.float64], starts: NDArray[np.int64]) -> list[Tree]:
    modes = given["nodes_modes"]
    tracks = _tracks(given, len(modes))
    trees = []
    for start, stop in zip(starts, [*starts[1:], len(modes)], strict=True):
        here = slice(start, stop)
        place = {node: number for number, node in enumerate(given["nodes_nodeids"][here].tolist())}
        swapped = np.isin(modes[here], sorted(SWAPPED))
        true = np.array([place.get(node, 0) for node in given["nodes_truenodeids"][here].tolist()])
        false = np.array([place.get(node, 0) for node in given["nodes_falsenodeids"][here].tolist()])
        trees.append(
            Tree(
                feature=np.where(modes[here] != LEAF, given["nodes_featureids"][here], -1),
                threshold=_either(given, "nodes_values")[here].astype(np.float64),
                left=np.where(swapped, false, true),
                right=np.where(swapped, true, false),
                default_left=tracks[here] ^ swapped,
                leaf_value=values[here],
            )
        )
    return trees


def _tracks(given: dict[str, Any], n_nodes: int) -> NDArray[np.bool_]:
    """Whether a missing value takes the true branch: 1 alone says so, and the list may be short."""
    tracks = np.zeros(n_nodes, np.bool_)
    listed = given.get("nodes_missing_value_tracks_true", np.empty(0))[:n_nodes]
    tracks[: len(listed)] = listed == 1
    return tracks


def _of_opset_5(given: dict[str, Any]) -> Ensemble | None:
    names = dict(enumerate(MODES))
    modes = [names.get(mode, "") for mode in given["nodes_modes"].tolist()]
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
        base=np.zeros(n_outputs),
        transform=TRANSFORMS[given.get("post_transform", 0)],
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
    tracks = _tracks(given, len(modes))
    swapped = np.array([mode in SWAPPED for mode in modes])
    values = np.zeros((len(found), n_outputs))
    values[leaf, given["leaf_targetids"][index[leaf]]] = given["leaf_weights"][index[leaf]]
    return Tree(
        feature=np.where(leaf, -1, given["nodes_featureids"][node]),
        threshold=given["nodes_splits"][node].astype(np.float64),
        left=left,
        right=right,
        default_left=tracks[node] ^ swapped[node],
        leaf_value=values,
    )
