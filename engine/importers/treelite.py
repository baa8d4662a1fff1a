"""Trees out of a ``treelite.Model`` that was read from LightGBM, and nothing else of it."""

from collections.abc import Sequence

import numpy as np
import treelite
from numpy.typing import NDArray

from engine.errors import InvalidModel
from engine.importers.trees import Tree

CATEGORICAL_NODE = 2


def trees_of(model: treelite.Model, outputs: Sequence[int]) -> list[Tree]:
    """All trees of a model in its order; raises ``InvalidModel`` when their number is another.

    Args:
        model: As loaded by treelite.
        outputs: The output that each tree adds to.
    """
    if len(outputs) != model.num_tree:
        raise InvalidModel(f"expected {len(outputs)} trees in the model, found {model.num_tree}")
    return [_tree(model.get_tree_accessor(number), output) for number, output in enumerate(outputs)]


def _tree(accessor: treelite.model.TreeAccessor, output: int) -> Tree:
    get = accessor.get_field
    left = get("cleft").astype(np.int32)
    return Tree(
        feature=np.where(left >= 0, get("split_index"), -1).astype(np.int32),
        threshold=get("threshold").astype(np.float64),
        left=left,
        right=get("cright").astype(np.int32),
        default_left=get("default_left").astype(bool),
        leaf_value=get("leaf_value").astype(np.float64),
        sets=_sets(accessor, np.flatnonzero(get("node_type") == CATEGORICAL_NODE)),
        output=output,
    )


def _sets(accessor: treelite.model.TreeAccessor, nodes: NDArray[np.intp]) -> dict[int, NDArray[np.int64]]:
    """By categorical node, the codes that go left."""
    if not len(nodes):
        return {}
    codes = accessor.get_field("category_list").astype(np.int64)
    begin = accessor.get_field("category_list_begin").astype(np.int64)
    end = accessor.get_field("category_list_end").astype(np.int64)
    return {int(node): codes[begin[node] : end[node]] for node in nodes}
