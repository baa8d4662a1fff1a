"""What ONNX Runtime dies of, loops on or reads by habits of its own: refused in a sentence, or left to it."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engine.errors import InvalidModel, ScoringFailed, UnsupportedModel
from engine.packing import pack
from engine.scorer import Scorer
from tests.engine.importers.test_drawn_ensembles import session_of

FLOAT, DOUBLE, INT64 = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64
N_SPLITS = 20


def value(name, element, shape):
    return helper.make_tensor_value_info(name, element, shape)


def a_graph(nodes, inputs, outputs, initializers=(), functions=()):
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(initializers))
    opsets = [helper.make_opsetid(*opset) for opset in (("", 17), ("ai.onnx.ml", 3), ("own", 1))]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9, functions=list(functions))


def an_ensemble(kind="TreeEnsembleRegressor", element=FLOAT, n_features=2, **given):
    outputs = ["L", "Y"] if kind == "TreeEnsembleClassifier" else ["Y"]
    node = helper.make_node(kind, ["X"], outputs, name="trees", domain="ai.onnx.ml", **given)
    return a_graph([node], [value("X", element, [None, n_features])], [value("Y", FLOAT, [None, None])])


def a_chain(n_splits, prefix, named, **given):
    """A tree that takes feature after feature down to node ``2 * n_splits`` while all are at most 0.

    ``named`` lists (node, output, weight).
    """
    nodes = range(2 * n_splits + 1)
    inner = [node % 2 == 0 and node < 2 * n_splits for node in nodes]
    return {
        "nodes_treeids": [0] * len(nodes),
        "nodes_nodeids": list(nodes),
        "nodes_featureids": [node // 2 % N_SPLITS if inner[node] else 0 for node in nodes],
        "nodes_values": [0.0] * len(nodes),
        "nodes_modes": ["BRANCH_LEQ" if inner[node] else "LEAF" for node in nodes],
        "nodes_truenodeids": [node + 2 if inner[node] else 0 for node in nodes],
        "nodes_falsenodeids": [node + 1 if inner[node] else 0 for node in nodes],
        f"{prefix}_treeids": [0] * len(named),
        f"{prefix}_nodeids": [node for node, _, _ in named],
        f"{prefix}_ids": [output for _, output, _ in named],
        f"{prefix}_weights": [weight for _, _, weight in named],
        **given,
    }


LAST = 2 * N_SPLITS
SHALLOW = [*range(1, LAST, 2)]
"""The leaves of a chain that the rows of a try come to; one row in a million comes to the last."""
TWO = [(leaf, output, 1.0 + output) for leaf in SHALLOW for output in (0, 1)]
HIDDEN = {
    "a target that only the last leaf does not name": an_ensemble(
        n_features=N_SPLITS,
        **a_chain(N_SPLITS, "target", [*TWO, (LAST, 0, 3.0)], n_targets=2, base_values=[0.5, 0.25]),
    ),
    "a last leaf without a weight": an_ensemble(
        n_features=N_SPLITS,
        **a_chain(
            N_SPLITS,
            "target",
            [(leaf, 0, 1.0) for leaf in SHALLOW],
            n_targets=1,
            nodes_values=[0.0] * LAST + [7.0],
        ),
    ),
    "a missing value whose side is said by 2": an_ensemble(
        n_features=N_SPLITS,
        **a_chain(
            N_SPLITS,
            "target",
            [(leaf, 0, 1.0) for leaf in SHALLOW] + [(LAST, 0, 3.0)],
            n_targets=1,
            nodes_missing_value_tracks_true=[2 if node == LAST - 2 else 0 for node in range(LAST + 1)],
        ),
    ),
    "a second class that only the last leaf does not name": an_ensemble(
        "TreeEnsembleClassifier",
        n_features=N_SPLITS,
        **a_chain(N_SPLITS, "class", [*TWO, (LAST, 0, -3.0)], classlabels_int64s=[0, 1]),
    ),
    "1 - s, where s is small in the last leaf alone": an_ensemble(
        "TreeEnsembleClassifier",
        n_features=N_SPLITS,
        **a_chain(
            N_SPLITS,
            "class",
            [(leaf, 0, 1e9) for leaf in SHALLOW] + [(LAST, 0, 0.25)],
            classlabels_int64s=[0, 1],
        ),
    ),
}


@pytest.mark.parametrize("graph", HIDDEN.values(), ids=HIDDEN)
def test_a_leaf_that_no_try_comes_to_scores_as_in_the_runtime(graph, tmp_path):
    rows = np.full((3, N_SPLITS), -1, np.float32)
    rows[1, -1], rows[2, -1] = np.nan, 1
    (expected,) = session_of(graph).run(["Y"], {"X": rows})
    scores = Scorer.load(pack(graph, name="m", out=tmp_path)).score_rows(rows)
    assert np.array_equal(scores, expected)


def test_integers_are_compared_as_the_runtime_rounds_them(tmp_path):
    given = a_chain(1, "class", [(1, 0, 1.0), (2, 0, 2.0)], classlabels_int64s=[0, 1])
    given["nodes_values"] = [16777216.0] * 3
    graph = an_ensemble("TreeEnsembleClassifier", INT64, 1, **given)
    rows = np.array([[16777216], [16777217], [16777218]])
    (expected,) = session_of(graph).run(["Y"], {"X": rows})
    scores = Scorer.load(pack(graph, name="m", out=tmp_path)).score_rows(rows.astype(np.float64))
    assert np.array_equal(scores, expected)


def test_nodes_that_share_a_child_are_left_to_the_runtime(tmp_path):
    shared = {
        **a_chain(2, "target", [(1, 0, 1.0), (3, 0, 3.0)], n_targets=1),
        "nodes_nodeids": [0, 1, 2, 3],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "BRANCH_LEQ", "LEAF"],
        "nodes_truenodeids": [1, 0, 1, 0],
        "nodes_falsenodeids": [2, 0, 3, 0],
        "nodes_featureids": [0, 0, 1, 0],
        "nodes_treeids": [0] * 4,
        "nodes_values": [0.0] * 4,
    }
    graph = an_ensemble(**shared)
    rows = np.array([[-1, -1], [1, -1], [1, 1]], np.float32)
    (expected,) = session_of(graph).run(["Y"], {"X": rows})
    scores = Scorer.load(pack(graph, name="m", out=tmp_path)).score_rows(rows)
    assert np.array_equal(scores, expected)


def outside(name="w"):
    tensor = numpy_helper.from_array(np.ones((1, 2), np.float32), name)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="elsewhere.bin")
    return tensor


ADD = [helper.make_node("Constant", [], ["w"], value=outside()), helper.make_node("Add", ["X", "w"], ["Y"])]
X, Y = value("X", FLOAT, [None, 2]), value("Y", FLOAT, [None, 2])


def a_branch():
    other = helper.make_graph(
        [helper.make_node("Identity", ["X"], ["B"])], "b", [], [value("B", FLOAT, None)]
    )
    added = helper.make_graph(
        [helper.make_node("Add", ["X", "w"], ["A"])], "a", [], [value("A", FLOAT, None)], [outside()]
    )
    yes = helper.make_node("Constant", [], ["yes"], value=numpy_helper.from_array(np.array(True)))
    choice = helper.make_node("If", ["yes"], ["Y"], then_branch=added, else_branch=other)
    return a_graph([yes, choice], [X], [Y])


def a_function():
    added = helper.make_function("own", "Added", ["X"], ["Y"], ADD, [helper.make_opsetid("", 17)])
    return a_graph([helper.make_node("Added", ["X"], ["Y"], domain="own")], [X], [Y], functions=[added])


@pytest.mark.parametrize(
    "graph", [a_graph(ADD, [X], [Y]), a_branch(), a_function()], ids=["node", "branch", "own"]
)
def test_weights_in_other_files_are_refused_wherever_they_hide(graph, tmp_path):
    with pytest.raises(UnsupportedModel, match="'w' lie in other files"):
        pack(graph, name="m", out=tmp_path)


STUMP = a_chain(1, "target", [(1, 0, 1.0), (2, 0, 2.0)], n_targets=1)
CLASSES = a_chain(1, "class", [(1, 0, 1.0), (2, 1, 2.0)])
SHORT = numpy_helper.from_array(np.ones(2, np.float32), "w")
SHORT.dims[0] = 10**11
ODD_GRAPHS = {
    "has a tree that goes in circles": an_ensemble(
        **a_chain(2, "target", [(1, 0, 1.0), (3, 0, 2.0), (4, 0, 3.0)], n_targets=1)
        | {"nodes_truenodeids": [2, 0, 2, 0, 0]}
    ),
    "is deeper than 4096 levels": an_ensemble(
        n_features=N_SPLITS, **a_chain(20_000, "target", [(1, 0, 1.0)], n_targets=1)
    ),
    "reads as other trees": an_ensemble(
        **STUMP
        | {
            "nodes_treeids": [0, 1, 1, 1, 0, 0],
            "nodes_nodeids": [0, 0, 1, 2, 1, 2],
            "nodes_featureids": [0] * 6,
            "nodes_values": [0.0] * 6,
            "nodes_modes": ["BRANCH_LEQ"] * 2 + ["LEAF"] * 4,
            "nodes_truenodeids": [1, 1, 0, 0, 0, 0],
            "nodes_falsenodeids": [2, 2, 0, 0, 0, 0],
        }
    ),
    "with its root first": an_ensemble(
        **STUMP
        | {
            "nodes_nodeids": [1, 0, 2],
            "nodes_modes": ["LEAF", "BRANCH_LEQ", "LEAF"],
            "nodes_truenodeids": [0, 2, 0],
            "nodes_falsenodeids": [0, 1, 0],
        }
    ),
    "numbered from 0": an_ensemble(
        **{n: [-1] * len(v) if n[-7:] == "treeids" else v for n, v in STUMP.items()}
    ),
    "one class with a word for its name": an_ensemble(
        "TreeEnsembleClassifier", **a_chain(1, "class", [(1, 0, 1.0), (2, 0, 2.0)], classlabels_strings=["a"])
    ),
    "or with two base values": an_ensemble(
        "TreeEnsembleClassifier",
        **a_chain(1, "class", [(1, 0, 1.0)], classlabels_int64s=[0], base_values=[0.5, 0.5]),
    ),
    "leaves its score unwritten": an_ensemble(
        "TreeEnsembleClassifier", **CLASSES, classlabels_int64s=[0, 1], base_values=[0.5]
    ),
    "has leaves that do not name the second of its two classes": an_ensemble(
        "TreeEnsembleClassifier",
        **{name: values for name, values in CLASSES.items() if name[:5] == "nodes"},
        classlabels_int64s=[0, 1],
        base_values=[0.5],
    ),
    "without base values and PROBIT": an_ensemble(
        "TreeEnsembleClassifier", **CLASSES, classlabels_int64s=[0, 1], post_transform="PROBIT"
    ),
    "has words in 'classlabels_strings' that are no UTF-8": an_ensemble(
        "TreeEnsembleClassifier", **CLASSES, classlabels_strings=[b"a", b"\xff"]
    ),
    "cannot be scored": an_ensemble(**STUMP | {"nodes_truenodeids": "none"}),
    "have the shape [100000000000], but lack data": a_graph([], [X], [Y], [SHORT]),
    "has the shape [0, 1000000000]": a_graph(
        [helper.make_node("Neg", ["X"], ["Y"])], [value("X", FLOAT, [None, 10**9])], [Y]
    ),
    "no node of the graph makes the score 'X'": a_graph([], [X], [X]),
    "got the shape [1, 2]": a_graph([helper.make_node("Identity", ["w"], ["Y"])], [X], [Y], [
        numpy_helper.from_array(np.ones((1, 2), np.float32), "w")
    ]),
    "holds type 77": a_graph([helper.make_node("Neg", ["X"], ["Y"])], [value("X", 77, [None, 2])], [Y]),
    "the graph has none": a_graph([helper.make_node("ZipMap", [], ["Y"], domain="ai.onnx.ml")], [X], [
        onnx.ValueInfoProto(name="Y")
    ]),
}  # fmt: skip


@pytest.mark.parametrize("words", ODD_GRAPHS)
def test_what_the_runtime_must_not_see_is_refused_in_a_sentence(words, tmp_path):
    with pytest.raises(InvalidModel) as refusal:
        pack(ODD_GRAPHS[words], name="m", out=tmp_path)
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_an_integer_that_a_block_of_doubles_may_have_rounded_is_not_scored(tmp_path):
    graph = a_graph(
        [helper.make_node("Cast", ["n"], ["Y"], to=DOUBLE)],
        [value("n", INT64, [None, 1])],
        [value("Y", DOUBLE, [None, 1])],
    )
    scorer = Scorer.load(pack(graph, name="m", out=tmp_path))
    assert scorer.score_rows(np.array([[2.0**53 - 1], [-5.0]])).tolist() == [[2.0**53 - 1], [-5.0]]
    for rounded in (2.0**53, -(2.0**63)):
        with pytest.raises(ScoringFailed, match=r"'n' of the graph takes int64, but got a number of 2\^53"):
            scorer.score_rows(np.array([[1.0], [rounded]]))


def test_a_number_past_float16_is_infinite_in_a_graph_of_float16(tmp_path):
    graph = a_graph(
        [helper.make_node("Neg", ["x"], ["Y"])],
        [value("x", TensorProto.FLOAT16, [None, 1])],
        [value("Y", TensorProto.FLOAT16, [None, 1])],
    )
    scorer = Scorer.load(pack(graph, name="m", out=tmp_path))
    assert scorer.score_rows(np.array([[1e30], [2.0]], np.float32)).tolist() == [[-np.inf], [-2.0]]
