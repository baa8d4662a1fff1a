"""From a model to a bundle: formats told by content, features settled, errors that say the way out."""

import json

import catboost
import lightgbm as lgb
import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xgboost as xgb

from engine.bundle import read_bundle
from engine.errors import InvalidConfig, InvalidModel, InvalidTable, UnsupportedModel
from engine.importers.features import Options
from engine.packing import pack
from engine.scorer import Scorer


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    """LightGBM on delay (float), Gate (int) and carrier (categories AA, UA)."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame({
        "delay": random.normal(size=400),
        "gate": random.integers(0, 9, 400),
        "carrier": pd.Categorical(random.choice(["AA", "UA"], 400)),
    })  # fmt: skip
    booster = lgb.train(
        {"verbose": -1, "num_leaves": 4}, lgb.Dataset(frame, frame["delay"] + frame["gate"]), 3
    )
    path = tmp_path_factory.mktemp("model") / "model.txt"
    booster.save_model(path)
    return path


def schema_of(model_file, tmp_path, features=None, sample=None):
    options = {}
    if features is not None:
        (tmp_path / "features.yaml").write_text(features)
        options["features"] = tmp_path / "features.yaml"
    if sample is not None:
        pq.write_table(pa.table(sample), tmp_path / "sample.parquet")
        options["sample"] = tmp_path / "sample.parquet"
    path = pack(model_file, name="late", out=tmp_path / "bundles", **options)
    return read_bundle(path).manifest.schema


def types_of(schema):
    return [feature.type for feature in schema.features]


def test_the_same_model_packs_to_the_same_bundle(model_file, tmp_path):
    one = pack(model_file, name="late", out=tmp_path / "one")
    two = pack(str(model_file), name="late", out=str(tmp_path / "two"))
    assert one.name == two.name
    assert (one / "forest.npz").read_bytes() == (two / "forest.npz").read_bytes()


def test_a_device_is_in_the_manifest_of_a_bundle_that_asks_for_one(model_file, tmp_path):
    plain = pack(model_file, name="late", out=tmp_path)
    assert pack(model_file, name="late", out=tmp_path, device="cpu") == plain
    assert "device" not in json.loads((plain / "bundle.json").read_text())
    asking = read_bundle(pack(model_file, name="late", out=tmp_path, device="cuda")).manifest
    assert (asking.device_for("bundle"), asking.device_for("cpu")) == ("cuda", "cpu")
    with pytest.raises(InvalidConfig, match="expected one of the devices cpu, auto, cuda, got 'gpu'"):
        pack(model_file, name="late", out=tmp_path, device="gpu")


def test_packing_twice_into_one_folder_leaves_the_first_bundle(model_file, tmp_path):
    first = pack(model_file, name="late", out=tmp_path)
    written = (first / "bundle.json").stat().st_mtime_ns
    assert pack(model_file, name="late", out=tmp_path) == first
    assert (first / "bundle.json").stat().st_mtime_ns == written
    assert [entry.name for entry in tmp_path.iterdir()] == [first.name]


def test_without_a_sample_numbers_are_doubles(model_file, tmp_path):
    schema = schema_of(model_file, tmp_path)
    assert types_of(schema) == ["float64", "float64", "category"]
    assert schema.block == "float64"


def test_a_sample_decides_types_and_a_narrow_one_the_block(model_file, tmp_path):
    sample = {"carrier": ["AA"], "delay": pa.array([1.0], pa.float32()), "gate": pa.array([1], pa.int16())}
    schema = schema_of(model_file, tmp_path, sample=sample)
    assert types_of(schema) == ["float32", "int16", "category"]
    assert schema.block == "float32"


@pytest.mark.parametrize("wide", [pa.float64(), pa.int32(), pa.int64(), pa.uint32()])
def test_one_wide_column_keeps_the_block_wide(model_file, tmp_path, wide):
    sample = {"carrier": ["AA"], "delay": pa.array([1.0], pa.float32()), "gate": pa.array([1], wide)}
    assert schema_of(model_file, tmp_path, sample=sample).block == "float64"


@pytest.mark.parametrize("strings", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_a_category_may_be_any_kind_of_string_in_the_sample(model_file, tmp_path, strings):
    sample = {"delay": [1.0], "gate": [1], "carrier": pa.array(["AA"], strings)}
    assert types_of(schema_of(model_file, tmp_path, sample=sample))[2] == "category"


def test_a_folder_of_samples_gives_types_that_hold_every_file_of_it(model_file, tmp_path):
    numbers = [pa.array([1], pa.int8()), pa.array([1], pa.int16())]
    for part, gate in enumerate(numbers):
        folder = tmp_path / "data" / f"month={part}"
        folder.mkdir(parents=True)
        table = pa.table({"carrier": ["AA"], "delay": pa.array([1.0], pa.float32()), "gate": gate})
        pq.write_table(table, folder / "part.parquet")
    pq.write_table(pa.table({"delay": ["hidden"]}), tmp_path / "data" / "_old.parquet")
    bundle = pack(model_file, name="late", out=tmp_path / "bundles", sample=tmp_path / "data")
    assert types_of(read_bundle(bundle).manifest.schema) == ["float32", "int16", "category"]


def test_a_folder_whose_files_do_not_fit_together_is_no_sample(model_file, tmp_path):
    for part, delay in enumerate([[1.0], ["late"]]):
        pq.write_table(pa.table({"delay": delay}), tmp_path / f"{part}.parquet")
    with pytest.raises(InvalidTable, match=r"have other types each: .*delay"):
        pack(model_file, name="late", out=tmp_path / "bundles", sample=tmp_path)


def test_a_folder_without_parquet_files_is_no_sample(model_file, tmp_path):
    with pytest.raises(InvalidTable, match=r"expected Parquet files .* found none"):
        pack(model_file, name="late", out=tmp_path / "bundles", sample=model_file.parent)


def test_the_features_file_goes_before_the_sample(model_file, tmp_path):
    sample = {"carrier": ["AA"], "delay": [1.0], "Gate No": pa.array([1], pa.int64())}
    features = "features: {gate: {rename: Gate No, type: int8, required: true}, carrier: {unseen: bad}}"
    schema = schema_of(model_file, tmp_path, features, sample)
    gate, carrier = schema.features[1:]
    assert (gate.name, gate.type, gate.required) == ("Gate No", "int8", True)
    assert carrier.unseen == "bad"


def test_the_features_file_names_the_output(model_file, tmp_path):
    assert schema_of(model_file, tmp_path, "output: {name: minutes}").output.columns == ("minutes",)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ("features: {gates: {type: int8}}", r"'gates'.*does not have.*'gate'"),
        ("features: {gate: {type: int7}}", r"\$\.features\[\.\.\.\]\.type"),
        ("features: {gate: {kind: int8}}", r"unknown field `kind` .*; expected one of rename, type, "),
        (
            "transforms: {t: {from: gate, steps: [{log: true}]}}",
            r"`log` - at .*steps\[0\]`; expected one of impute, ",
        ),
        ("features: {gate: {type: int8}, gate: {type: int16}}", "key 'gate' of line 1, comes once more"),
        ("features: {gate: {type: category}}", "'gate'.*categories.*go together"),
        ("features: {carrier: {type: int8}}", "'carrier'.*categories.*go together"),
        ("features: {carrier: {categories: [UA, AA]}}", "'carrier' brings its own 2 categories"),
        ("features: {gate: {categories: [1, 1]}}", "listed twice"),
        ("features: {gate: {categories: [1, a]}}", "all strings or all integers"),
        ("features: {gate: {rename: delay}}", "'delay' more than once"),
        ("features: {gate: {rename: 'the \"gate\"'}}", "without quotation marks.*'the \"gate\"'.*rename"),
        ('features: {gate: {rename: "a\\nb"}}', "without quotation marks"),
        ("output: {labels: [a, b]}", "1 outputs, got 2 labels"),
        ("- gate", "Expected `object`, got `array`"),
        ("features: {gate: [", "features.yaml"),
    ],
)
def test_a_wrong_features_file_is_told_what_and_where(model_file, tmp_path, features, message):
    with pytest.raises(InvalidConfig, match=message):
        schema_of(model_file, tmp_path, features)


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ({"delay": [1.0], "carrier": ["AA"]}, "lacks column 'gate'"),
        ({"delay": ["1"], "gate": [1], "carrier": ["AA"]}, "'delay' is string.*features file"),
        ({"delay": [1.0], "gate": [1], "carrier": [1.5]}, "'carrier' is double, expected categories"),
        ({"delay": [1.0], "gate": [[1]], "carrier": ["AA"]}, "'gate' is list"),
        ({"delay": [pd.Timestamp(0)], "gate": [1], "carrier": ["AA"]}, "'delay' is timestamp"),
    ],
)
def test_a_sample_that_does_not_fit_is_told_what_and_where(model_file, tmp_path, sample, message):
    with pytest.raises(InvalidTable, match=message):
        schema_of(model_file, tmp_path, sample=sample)


def test_a_sample_that_is_no_parquet_is_said(model_file, tmp_path):
    (tmp_path / "sample.csv").write_text("a,b\n")
    with pytest.raises(InvalidTable, match=r"sample\.csv is no Parquet file"):
        pack(model_file, name="late", out=tmp_path, sample=tmp_path / "sample.csv")
    with pytest.raises(InvalidTable, match="expected a Parquet file or a folder of them at"):
        pack(model_file, name="late", out=tmp_path, sample=tmp_path / "none.parquet")


@pytest.mark.parametrize("name", ["", "a/b", "../up", "-late", ".hidden", "x" * 65, "späte", "late\n"])
def test_a_name_that_is_no_name_is_refused(model_file, tmp_path, name):
    with pytest.raises(InvalidConfig, match="expected a model name"):
        pack(model_file, name=name, out=tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"hello", "is no model"),
        (b"\x00\x01\x02", "is no model"),
        (b"\x80\x04\x95\x00", "pickle, which is never read"),
        (b"\x78\x9c\x00", "pickle, which is never read"),
        (b"PK\x03\x04....", "zip archive"),
        (b"CBM1....", r"save_model\(path, format='json'\)"),
        (b"binf....", r"\.json or \.ubj"),
        (b"PAR1....", "Parquet file"),
        (b"{", "cut short"),
        (b'{"a": 1', "cut short"),
        (b'{"a": 1}', "neither XGBoost's nor CatBoost's"),
        (b'{"tree_info": []}', "LightGBM's JSON dump"),
        (b"tree\nversion=v4\n", "cut short"),
        (b"tree\n\xff\xfe", "damaged"),
        (b"tree\nversion=v4\n\nend of trees\n", "lacks 'feature_names'"),
    ],
)
def test_a_file_that_is_no_model_is_said_in_a_sentence(tmp_path, content, message):
    (tmp_path / "model.bin").write_bytes(content)
    with pytest.raises(InvalidModel, match=message):
        pack(tmp_path / "model.bin", name="late", out=tmp_path)


def test_the_format_is_told_by_content_and_not_by_name(model_file, tmp_path):
    (tmp_path / "model.json").write_bytes(model_file.read_bytes())
    assert pack(tmp_path / "model.json", name="late", out=tmp_path).is_dir()


def test_a_bundle_a_folder_and_nothing_are_no_models(model_file, tmp_path):
    bundle = pack(model_file, name="late", out=tmp_path)
    for path, message in [
        (bundle, "a bundle already"),
        (tmp_path, "a directory"),
        (tmp_path / "none", "No such"),
    ]:
        with pytest.raises(InvalidModel, match=message):
            pack(path, name="late", out=tmp_path)


def test_an_object_of_no_known_library_is_refused(tmp_path):
    with pytest.raises(InvalidModel, match="got dict"):
        pack({"coef": 1}, name="late", out=tmp_path)


@pytest.mark.parametrize(
    ("parent", "quiet"),
    [
        (lgb.LGBMRegressor, {"verbose": -1}),
        (xgb.XGBRegressor, {}),
        (catboost.CatBoostRegressor, {"verbose": 0, "allow_writing_files": False}),
    ],
)
def test_a_class_derived_from_a_librarys_may_predict_otherwise_and_is_refused(parent, quiet, tmp_path):
    class Doubled(parent):
        def predict(self, X, **options):
            return 2 * super().predict(X, **options)

    X = np.arange(40.0)[:, None]
    with pytest.raises(UnsupportedModel, match=f"Doubled is derived from .*'s {parent.__name__}"):
        pack(Doubled(n_estimators=2, **quiet).fit(X, X[:, 0]), name="m", out=tmp_path)


def test_a_feature_name_that_json_must_escape_is_refused_and_may_be_renamed(tmp_path):
    X = pd.DataFrame({'5" pipe': np.arange(40.0)})
    model = xgb.XGBRegressor(n_estimators=2).fit(X, X['5" pipe'])
    with pytest.raises(InvalidConfig, match="without quotation marks"):
        pack(model, name="m", out=tmp_path)
    (tmp_path / "features.yaml").write_text("features: {'5\" pipe': {rename: pipe}}")
    path = pack(model, name="m", out=tmp_path, features=tmp_path / "features.yaml")
    assert Scorer.load(path).schema.names == ("pipe",)


@pytest.mark.parametrize("category", [np.uint64(2**63), 2.0**64, -1e300])
def test_a_category_that_int64_does_not_hold_is_refused_by_name(category, tmp_path):
    codes = np.arange(60) % 2
    frame = pd.DataFrame({"gate": pd.Categorical(np.array([5, category], type(category))[codes])})
    data = lgb.Dataset(frame, codes, params={"min_data_per_group": 1})
    with pytest.raises(UnsupportedModel, match=r"'gate' has the category .*, which int64 does not hold"):
        pack(lgb.train({"verbose": -1}, data, 2), name="m", out=tmp_path)


def test_an_estimator_that_cannot_be_represented_is_refused_by_name(tmp_path):
    from sklearn.neighbors import KNeighborsClassifier

    with pytest.raises(UnsupportedModel, match=r"KNeighborsClassifier.*skl2onnx"):
        pack(KNeighborsClassifier(), name="late", out=tmp_path)


def test_the_example_features_file_is_valid():
    from pathlib import Path

    text = Path("configs/features.yaml").read_bytes()
    assert "carrier" in msgspec.yaml.decode(text, type=Options).features
