"""A graph that is one tree ensemble runs on the forest kernels, with ONNX Runtime's bits or not at all."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from sklearn import ensemble

from engine.bundle import Link, read_bundle
from engine.importers.onnx_trees import MODES
from engine.packing import pack
from kernels.forests.forest import Forest
from kernels.forests.traversal import Traversal
from tests.engine.importers.margins import forest_of, margins_of, same_bits, troubled_rows

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(300, 4)).astype(np.float32)
Y = X[:, 0] * 2 + RANDOM.normal(size=300)
BINARY = (Y > 0).astype(int)
CLASSES = np.array(["ant", "bee", "cow"])[np.digitize(Y, [-1, 1])]
SOME = {"max_depth": 4, "random_state": 0}


def a_graph(node, element, n_features, n_outputs, version, before=(), inputs=None):
    given = inputs or [helper.make_tensor_value_info("X", element, [None, n_features])]
    out = element if node.op_type == "TreeEnsemble" else TensorProto.FLOAT
    outputs = [helper.make_tensor_value_info("Y", out, [None, n_outputs])]
    graph = helper.make_graph([*before, node], "g", given, outputs)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", version)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def a_stump(modes=("BRANCH_LEQ", "BRANCH_LEQ"), tracks=(0, 0), source="X", **changes):
    """Two trees of one split each, on features 0 and 1, both at 0.1."""
    values = {
        "nodes_treeids": [0, 0, 0, 1, 1, 1],
        "nodes_nodeids": [0, 1, 2, 0, 1, 2],
        "nodes_featureids": [0, 0, 0, 1, 0, 0],
        "nodes_values": [0.1, 0, 0, 0.1, 0, 0],
        "nodes_modes": [modes[0], "LEAF", "LEAF", modes[1], "LEAF", "LEAF"],
        "nodes_truenodeids": [1, 0, 0, 1, 0, 0],
        "nodes_falsenodeids": [2, 0, 0, 2, 0, 0],
        "nodes_missing_value_tracks_true": [tracks[0], 0, 0, tracks[1], 0, 0],
        "target_treeids": [0, 0, 1, 1],
        "target_nodeids": [1, 2, 1, 2],
        "target_ids": [0, 0, 0, 0],
        "target_weights": [0.1, 0.2, 10.3, -20.4],
        "n_targets": 1,
        "post_transform": "NONE",
        **changes,
    }
    return helper.make_node("TreeEnsembleRegressor", [source], ["Y"], domain="ai.onnx.ml", **values)


def runtime_scores(model, rows, output=-1):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return session.run(None, {session.get_inputs()[0].name: rows})[output]


def lifted(model, tmp_path):
    path = pack(model, name="m", out=tmp_path)
    assert read_bundle(path).manifest.kind == "forest"
    return path


def odd_rows(path, dtype=np.float32):
    return troubled_rows(forest_of(path), 500, seed=11, dtype=dtype)


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_a_regressor_of_any_opset_keeps_the_runtimes_bits(version, tmp_path):
    model = a_graph(a_stump(), TensorProto.FLOAT, 2, 1, version)
    path = lifted(model, tmp_path)
    rows = odd_rows(path)
    assert same_bits(margins_of(path, rows), runtime_scores(model, rows))


@pytest.mark.parametrize(
    "modes", [("BRANCH_LEQ", "BRANCH_GT"), ("BRANCH_LT", "BRANCH_GTE"), ("BRANCH_LT",) * 2]
)
@pytest.mark.parametrize("tracks", [(0, 0), (1, 0), (1, 1)])
def test_every_order_of_comparison_and_side_for_nan_keeps_the_runtimes_bits(modes, tracks, tmp_path):
    model = a_graph(a_stump(modes, tracks), TensorProto.FLOAT, 2, 1, 3)
    path = lifted(model, tmp_path)
    rows = odd_rows(path)
    assert same_bits(margins_of(path, rows), runtime_scores(model, rows))


@pytest.mark.parametrize("changes", [{"base_values": [0.7]}, {"aggregate_function": "AVERAGE"}])
def test_base_values_come_last_and_averages_divide(changes, tmp_path):
    model = a_graph(a_stump(**changes), TensorProto.FLOAT, 2, 1, 3)
    path = lifted(model, tmp_path)
    rows = odd_rows(path)
    assert same_bits(margins_of(path, rows), runtime_scores(model, rows))


def test_several_targets_keep_the_runtimes_bits(tmp_path):
    vectors = {
        "n_targets": 3,
        "base_values": [0.1, 0.2, 0.3],
        "target_treeids": [0] * 6 + [1] * 2,
        "target_nodeids": [1, 1, 1, 2, 2, 2, 1, 2],
        "target_ids": [0, 1, 2, 0, 1, 2, 1, 0],
        "target_weights": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 7.7, 8.8],
    }
    model = a_graph(a_stump(**vectors), TensorProto.FLOAT, 2, 3, 3)
    path = lifted(model, tmp_path)
    rows = odd_rows(path)
    assert same_bits(margins_of(path, rows), runtime_scores(model, rows))


@pytest.mark.parametrize(
    "changes",
    [
        {"modes": ("BRANCH_EQ", "BRANCH_LEQ")},
        {"modes": ("BRANCH_LEQ", "BRANCH_LT")},
        {"aggregate_function": "MAX"},
        {"aggregate_function": "AVERAGE", "base_values": [0.7]},
        {"post_transform": "PROBIT"},
        # A target that no leaf of a row names stays 0 in ONNX Runtime, without its base value.
        {"n_targets": 2, "target_ids": [0, 0, 0, 1], "base_values": [0.1, 0.2]},
    ],
    ids=str,
)
def test_what_a_forest_cannot_say_exactly_stays_in_the_runtime(changes, tmp_path):
    n_targets = changes.get("n_targets", 1)
    path = pack(a_graph(a_stump(**changes), TensorProto.FLOAT, 2, n_targets, 3), name="m", out=tmp_path)
    assert read_bundle(path).manifest.kind == "onnx"


def test_a_graph_that_does_more_than_its_trees_stays_in_the_runtime(tmp_path):
    twice = helper.make_node("Mul", ["X", "X"], ["Z"])
    model = a_graph(a_stump(source="Z"), TensorProto.FLOAT, 2, 1, 3, before=[twice])
    assert read_bundle(pack(model, name="m", out=tmp_path)).manifest.kind == "onnx"


@pytest.mark.parametrize(("order", "kind"), [(["a", "b"], "forest"), (["b", "a"], "onnx")])
def test_named_inputs_joined_in_their_order_are_features_of_the_forest(order, kind, tmp_path):
    joined = helper.make_node("Concat", order, ["X"], axis=1)
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1]) for name in ("a", "b")]
    model = a_graph(a_stump(), TensorProto.FLOAT, 2, 1, 3, before=[joined], inputs=inputs)
    manifest = read_bundle(pack(model, name="m", out=tmp_path)).manifest
    assert (manifest.kind, manifest.schema.names) == (kind, ("a", "b"))


MODELS = [
    (ensemble.RandomForestRegressor(5, **SOME), Y, "identity"),
    (ensemble.RandomForestClassifier(5, **SOME), BINARY, "identity"),
    (ensemble.RandomForestClassifier(5, **SOME), CLASSES, "identity"),
    (ensemble.GradientBoostingRegressor(n_estimators=5, **SOME), Y, "identity"),
    (ensemble.GradientBoostingClassifier(n_estimators=5, **SOME), BINARY, "sigmoid"),
    (ensemble.GradientBoostingClassifier(n_estimators=5, **SOME), CLASSES, "softmax"),
]


@pytest.mark.parametrize(("model", "target", "link"), MODELS, ids=lambda value: type(value).__name__)
def test_what_skl2onnx_writes_is_lifted_and_keeps_the_runtimes_bits(model, target, link, tmp_path):
    classifier = hasattr(model, "predict_proba")
    options = {"options": {"zipmap": False}} if classifier else {}
    graph = to_onnx(model.fit(X, target), X[:1], **options)
    path = lifted(graph, tmp_path)
    rows = odd_rows(path)
    margins, scores = margins_of(path, rows).astype(np.float64), runtime_scores(graph, rows)

    assert read_bundle(path).manifest.link == Link(link)
    if link == "identity":
        assert same_bits(margins, scores)
    elif link == "sigmoid":
        np.testing.assert_allclose(1 / (1 + np.exp(-margins)), scores, rtol=1e-6)
    else:
        np.testing.assert_allclose(np.exp(margins) / np.exp(margins).sum(1, keepdims=True), scores, rtol=1e-6)


def as_opset_5(forest: Forest, modes="BRANCH_LEQ") -> onnx.ModelProto:
    """A numeric forest as one TreeEnsemble of doubles; leaves of one node each, shared by none."""
    inner, number = np.flatnonzero(forest.feature >= 0), {}
    leaves = np.flatnonzero(forest.feature < 0)
    number.update({int(node): place for place, node in enumerate(inner)})
    number.update({int(node): place for place, node in enumerate(leaves)})
    start = np.repeat(forest.tree_start[:-1], np.diff(forest.tree_start))
    true, false = (start + forest.left)[inner], (start + forest.right)[inner]
    output = np.repeat(forest.tree_output, np.diff(forest.tree_start))
    node = helper.make_node(
        "TreeEnsemble", ["X"], ["Y"], domain="ai.onnx.ml",
        tree_roots=[number[int(root)] for root in forest.tree_start[:-1]],
        nodes_featureids=forest.feature[inner].tolist(),
        nodes_splits=numpy_helper.from_array(forest.threshold[inner]),
        nodes_modes=numpy_helper.from_array(np.full(len(inner), MODES.index(modes), np.uint8)),
        nodes_truenodeids=[number[int(node)] for node in true],
        nodes_falsenodeids=[number[int(node)] for node in false],
        nodes_trueleafs=(forest.feature[true] < 0).astype(int).tolist(),
        nodes_falseleafs=(forest.feature[false] < 0).astype(int).tolist(),
        nodes_missing_value_tracks_true=[int(rule & 2) >> 1 for rule in forest.rule[inner]],
        leaf_targetids=output[leaves].tolist(),
        leaf_weights=numpy_helper.from_array(forest.leaf_value[leaves, 0]),
        n_targets=forest.n_outputs, aggregate_function=1, post_transform=0,
    )  # fmt: skip
    return a_graph(node, TensorProto.DOUBLE, forest.n_features, forest.n_outputs, 5)


@pytest.mark.parametrize("target", [Y, CLASSES], ids=["one", "three"])
def test_an_ensemble_of_doubles_keeps_the_bits_of_the_library_it_was_trained_with(target, tmp_path):
    kind = ensemble.HistGradientBoostingRegressor if target is Y else ensemble.HistGradientBoostingClassifier
    holey = np.where(RANDOM.random(X.shape) < 0.2, np.nan, X)
    model = kind(max_iter=6).fit(holey, target)
    direct = pack(model, name="direct", out=tmp_path)
    graph = as_opset_5(forest_of(direct))
    path = lifted(graph, tmp_path)
    rows = odd_rows(path, np.float64)
    forest = forest_of(direct)
    plain = np.empty((len(rows), forest.n_outputs))
    without_base = Forest.of_arrays({**forest.arrays(), "base": np.zeros(forest.n_outputs)})
    Traversal(without_base).score_rows(rows, plain)

    assert read_bundle(path).manifest.schema.output.type == "float64"
    assert same_bits(margins_of(path, rows), plain)
    assert same_bits(margins_of(path, rows), runtime_scores(graph, rows))


def test_an_ensemble_of_floats_with_swapped_branches_keeps_the_runtimes_bits(tmp_path):
    node = helper.make_node(
        "TreeEnsemble", ["X"], ["Y"], domain="ai.onnx.ml",
        tree_roots=[0, 2], nodes_featureids=[0, 1, 1],
        nodes_splits=numpy_helper.from_array(np.array([0.1, -0.2, 0.3], np.float32)),
        nodes_modes=numpy_helper.from_array(np.array([3, 0, 3], np.uint8)),
        nodes_truenodeids=[1, 0, 3], nodes_falsenodeids=[2, 1, 3],
        nodes_trueleafs=[0, 1, 1], nodes_falseleafs=[1, 1, 1],
        nodes_missing_value_tracks_true=[1, 0, 0],
        leaf_targetids=[0, 0, 0, 0],
        leaf_weights=numpy_helper.from_array(np.array([0.1, 0.2, 0.3, 1e8], np.float32)),
        n_targets=1, aggregate_function=1, post_transform=0,
    )  # fmt: skip
    model = a_graph(node, TensorProto.FLOAT, 2, 1, 5)
    path = lifted(model, tmp_path)
    rows = odd_rows(path)
    assert same_bits(margins_of(path, rows), runtime_scores(model, rows))
