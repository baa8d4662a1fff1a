"""ONNX graphs: inputs become features, one output the score, and the runtime's bits are kept."""

import numpy as np
import onnx
import onnxruntime
import pyarrow as pa
import pytest
from onnx import TensorProto, helper
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from engine.backends import onnx as backend
from engine.bundle import Bundle, read_bundle
from engine.errors import InvalidModel, UnsupportedModel
from engine.packing import pack
from engine.scorer import Scorer

FLOAT, DOUBLE, STRING, INT64 = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.STRING, TensorProto.INT64
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(200, 4)).astype(np.float32)
CLASSES = np.array(["ant", "bee", "cow"])[np.digitize(X[:, 0], [-0.5, 0.5])]


def a_graph(nodes, inputs, outputs, initializers=()):
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(initializers))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def value(name, element, shape):
    return helper.make_tensor_value_info(name, element, shape)


def a_sum(element=FLOAT, shape=(None, 3)):
    """score = the sum of a row's features."""
    node = helper.make_node("ReduceSum", ["X", "axes"], ["Y"], keepdims=1)
    axes = onnx.numpy_helper.from_array(np.array([1]), "axes")
    return a_graph([node], [value("X", element, shape)], [value("Y", element, [None, 1])], [axes])


def manifest_of(model, tmp_path, features=None):
    options = {}
    if features is not None:
        (tmp_path / "features.yaml").write_text(features)
        options["features"] = tmp_path / "features.yaml"
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return read_bundle(pack(path, name="m", out=tmp_path, **options)).manifest


def scored(path, X):
    bundle = read_bundle(path)
    scorer = backend.load(Bundle(bundle.manifest, bundle.revision, bundle.files))
    out = np.empty((len(X), scorer.n_outputs), scorer.margin_dtype)
    scorer.score_rows(X, out)
    return out


def skl(model, **options):
    from skl2onnx import to_onnx

    return to_onnx(model.fit(X, CLASSES), X[:1], **options)


def classifier():
    return make_pipeline(StandardScaler(), LogisticRegression())


def test_one_matrix_input_gives_numbered_features_and_its_own_type(tmp_path):
    for element, name in [(FLOAT, "float32"), (DOUBLE, "float64")]:
        schema = manifest_of(a_sum(element), tmp_path).schema
        assert schema.names == ("x0", "x1", "x2")
        assert (schema.block, schema.output.type, schema.features[0].type) == (name, name, name)


def test_named_inputs_bear_their_names_and_types(tmp_path):
    cast = helper.make_node("Cast", ["n"], ["f"], to=FLOAT)
    add = helper.make_node("Add", ["a", "f"], ["Y"])
    inputs = [value("a", FLOAT, [None, 1]), value("n", INT64, [None, 1])]
    schema = manifest_of(a_graph([cast, add], inputs, [value("Y", FLOAT, [None, 1])]), tmp_path).schema
    assert [(f.name, f.type, f.required) for f in schema.features] == [
        ("a", "float32", False),
        ("n", "int64", True),
    ]
    assert schema.block == "float64"


@pytest.mark.parametrize("zipmap", [True, False, "columns"])
def test_a_zipmap_and_the_label_are_dropped_and_the_labels_kept(zipmap, tmp_path):
    model = skl(classifier(), options={"zipmap": zipmap})
    if zipmap == "columns":
        with pytest.raises(UnsupportedModel, match=r"output: \{tensor: NAME\}"):
            pack(model, name="m", out=tmp_path)
        return
    path = pack(model, name="m", out=tmp_path)
    labels = read_bundle(path).manifest.schema.output.labels
    session = onnxruntime.InferenceSession(skl(classifier(), options={"zipmap": False}).SerializeToString())
    expected = session.run(["probabilities"], {"X": X})[0]

    assert labels == (("ant", "bee", "cow") if zipmap else ("0", "1", "2"))
    np.testing.assert_allclose(scored(path, X), expected, rtol=1e-5)


def test_the_features_file_chooses_among_several_outputs(tmp_path):
    nodes = [helper.make_node("Abs", ["X"], ["one"]), helper.make_node("Neg", ["X"], ["two"])]
    model = a_graph(
        nodes, [value("X", FLOAT, [None, 2])], [value(n, FLOAT, [None, 2]) for n in ("one", "two")]
    )
    with pytest.raises(UnsupportedModel, match=r"\['one', 'two'\].*tensor"):
        manifest_of(model, tmp_path)
    with pytest.raises(UnsupportedModel, match="not 'three'"):
        manifest_of(model, tmp_path, "output: {tensor: three}")
    manifest_of(model, tmp_path, "output: {tensor: two, name: minus, labels: [a, b]}")
    path = pack(tmp_path / "model.onnx", name="m", out=tmp_path, features=tmp_path / "features.yaml")

    assert read_bundle(path).manifest.schema.output.columns == ("minus_a", "minus_b")
    assert np.array_equal(scored(path, X[:, :2]), -X[:, :2])


def test_nodes_that_only_other_outputs_need_are_cut_off(tmp_path):
    path = pack(skl(classifier()), name="m", out=tmp_path)
    graph = onnx.load_model_from_string(read_bundle(path).files["model.onnx"]).graph
    assert [output.name for output in graph.output] == ["probabilities"]
    assert not {"ZipMap", "ArgMax", "ArrayFeatureExtractor"} & {node.op_type for node in graph.node}


def test_strings_take_their_categories_from_the_encoder_or_the_features_file(tmp_path):
    encoder = helper.make_node(
        "OneHotEncoder", ["carrier"], ["hot"], domain="ai.onnx.ml", cats_strings=["UA", "AA", "B6"], zeros=1
    )
    nodes = [encoder, helper.make_node("Squeeze", ["hot", "axis"], ["Y"])]
    axis = onnx.numpy_helper.from_array(np.array([1]), "axis")
    inputs, outputs = [value("carrier", STRING, [None, 1])], [value("Y", FLOAT, [None, 3])]
    schema = manifest_of(a_graph(nodes, inputs, outputs, [axis]), tmp_path).schema
    assert (schema.features[0].type, schema.features[0].categories) == ("category", ("UA", "AA", "B6"))

    listed = manifest_of(
        a_graph(nodes, inputs, outputs, [axis]), tmp_path, "features: {carrier: {categories: [AA, B6]}}"
    )
    assert listed.schema.features[0].categories == ("AA", "B6")
    path = pack(tmp_path / "model.onnx", name="m", out=tmp_path)
    assert scored(path, np.array([[0.0], [2.0], [np.nan]], np.float32)).tolist() == [
        [1, 0, 0],
        [0, 0, 1],
        [0, 0, 0],
    ]


def an_encoder(words, output, source="s"):
    return helper.make_node(
        "LabelEncoder", [source], [output], domain="ai.onnx.ml", keys_strings=words,
        values_floats=[float(number + 1) for number in range(len(words))], default_float=-1.0,
    )  # fmt: skip


def test_strings_that_two_encoders_read_have_the_categories_of_both(tmp_path):
    nodes = [
        an_encoder(["a", "b"], "one"),
        an_encoder(["c", "a"], "two"),
        helper.make_node("Add", ["one", "two"], ["Y"]),
    ]
    model = a_graph(nodes, [value("s", STRING, [None, 1])], [value("Y", FLOAT, [None, 1])])
    scorer = Scorer.load(pack(model, name="m", out=tmp_path))
    assert scorer.score(pa.table({"s": ["a", "b", "c", "d"]})).column(0).to_pylist() == [3, 1, 0, -2]


def test_strings_that_are_read_by_more_than_encoders_need_their_categories_listed(tmp_path):
    lower = helper.make_node("StringNormalizer", ["s"], ["t"], case_change_action="LOWER")
    nodes = [
        an_encoder(["a", "b"], "one"),
        lower,
        an_encoder(["a"], "two", "t"),
        helper.make_node("Add", ["one", "two"], ["Y"]),
    ]
    model = a_graph(nodes, [value("s", STRING, [None])], [value("Y", FLOAT, [None])])
    with pytest.raises(UnsupportedModel, match="'s' of the graph takes strings; list the categories"):
        manifest_of(model, tmp_path)


def test_where_the_empty_string_is_known_an_unknown_one_is_not_taken_for_it(tmp_path):
    model = a_graph(
        [an_encoder(["a", ""], "Y")], [value("s", STRING, [None, 1])], [value("Y", FLOAT, [None, 1])]
    )
    scorer = Scorer.load(pack(model, name="m", out=tmp_path))
    scores = scorer.score(pa.table({"s": ["a", "", None, "z"]}), on_bad_row="null")
    assert scores.column(0).to_pylist() == [1, 2, 2, None]


def test_strings_of_unknown_categories_are_refused_with_the_way_out(tmp_path):
    node = helper.make_node("StringNormalizer", ["s"], ["t"])
    length = helper.make_node("Cast", ["t"], ["Y"], to=FLOAT)
    model = a_graph([node, length], [value("s", STRING, [None])], [value("Y", FLOAT, [None])])
    with pytest.raises(UnsupportedModel, match="'s' of the graph takes strings; list the categories"):
        manifest_of(model, tmp_path)


def test_an_input_of_unknown_width_takes_the_features_listed(tmp_path):
    model = a_sum(shape=(None, None))
    with pytest.raises(UnsupportedModel, match="list them all, in order"):
        manifest_of(model, tmp_path)
    assert manifest_of(model, tmp_path, "features: {b: {}, a: {}}").schema.names == ("b", "a")


def test_weights_in_other_files_are_refused(tmp_path):
    model = a_sum()
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    with pytest.raises(UnsupportedModel, match="'axes' lie in other files"):
        manifest_of(model, tmp_path)


def test_an_input_of_three_dimensions_is_refused(tmp_path):
    with pytest.raises(UnsupportedModel, match="'X' of the graph is no"):
        manifest_of(a_sum(shape=(None, 3, 3)), tmp_path)


def test_a_graph_that_the_runtime_refuses_is_no_model(tmp_path):
    model = a_graph(
        [helper.make_node("Nonsense", ["X"], ["Y"])],
        [value("X", FLOAT, [None, 2])],
        [value("Y", FLOAT, [None, 2])],
    )
    with pytest.raises(InvalidModel, match="cannot be scored"):
        manifest_of(model, tmp_path)


def test_a_graph_cut_short_is_no_model(tmp_path):
    source = skl(classifier()).SerializeToString()
    for share in (0.3, 0.7, 0.99):
        (tmp_path / "cut.onnx").write_bytes(source[: int(len(source) * share)])
        with pytest.raises(InvalidModel):
            pack(tmp_path / "cut.onnx", name="m", out=tmp_path)


def test_an_output_of_other_rank_than_the_graph_says_is_scored_as_catboost_writes_it(tmp_path):
    model = a_sum()
    del model.graph.output[0].type.tensor_type.shape.dim[1]
    path = pack(model, name="m", out=tmp_path)
    assert scored(path, np.array([[1, 2, 3], [4, 5, 6]], np.float32)).tolist() == [[6], [15]]


def test_scores_that_keep_their_bits_in_any_batch_are_noted(tmp_path):
    assert "do not depend on the batch size" in manifest_of(a_sum(), tmp_path).provenance.notes[-1]


def test_scores_that_depend_on_their_neighbours_are_noted(tmp_path):
    mean = helper.make_node("ReduceMean", ["X"], ["m"], axes=[0], keepdims=1)
    shifted = helper.make_node("Sub", ["X", "m"], ["Y"])
    model = a_graph([mean, shifted], [value("X", FLOAT, [None, 2])], [value("Y", FLOAT, [None, 2])])
    note = manifest_of(model, tmp_path).provenance.notes[-1]
    assert note.startswith("Scores depend on the batch size")


def test_the_same_graph_packs_to_the_same_bundle(tmp_path):
    model = skl(classifier())
    assert pack(model, name="m", out=tmp_path / "a").name == pack(model, name="m", out=tmp_path / "b").name
