"""CatBoost's own raw values are the truth: packed models give the same bits."""

import json

import catboost
import numpy as np
import pytest

from engine.bundle import Link, read_bundle
from engine.errors import InvalidModel, UnsupportedModel
from engine.packing import pack
from tests.engine.importers.margins import forest_of, margins_of, same_bits, troubled_rows

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(400, 4)).astype(np.float32)
X[::7, 1] = np.nan
Y = X[:, 0] * 2 + np.nan_to_num(X[:, 1]) + RANDOM.normal(size=400)
CLASSES = np.array(["ant", "bee", "cow"])[np.digitize(Y, [-1, 1])]
QUIET = {"iterations": 9, "depth": 4, "verbose": 0, "allow_writing_files": False, "thread_count": 1}


def packed(model, tmp_path):
    model.save_model(str(tmp_path / "model.json"), format="json")
    return pack(tmp_path / "model.json", name="m", out=tmp_path)


def raw(model, rows):
    return np.asarray(model.predict(rows, prediction_type="RawFormulaVal", thread_count=1)).reshape(
        len(rows), -1
    )


def same_margins(model, tmp_path, seed=1):
    path = packed(model, tmp_path)
    rows = troubled_rows(forest_of(path), 400, seed, dtype=np.float32)
    assert same_bits(margins_of(path, rows), raw(model, rows))
    return read_bundle(path).manifest


@pytest.mark.parametrize("policy", ["SymmetricTree", "Lossguide", "Depthwise"])
@pytest.mark.parametrize("nan_mode", ["Min", "Max"])
def test_a_regressor_gives_the_raw_values_of_catboost(policy, nan_mode, tmp_path):
    model = catboost.CatBoostRegressor(grow_policy=policy, nan_mode=nan_mode, **QUIET).fit(X, Y)
    assert same_margins(model, tmp_path).link == Link()


@pytest.mark.parametrize("policy", ["SymmetricTree", "Lossguide"])
@pytest.mark.parametrize(("loss", "link"), [("MultiClass", "softmax"), ("MultiClassOneVsAll", "sigmoid")])
def test_several_classes_keep_their_labels_and_raw_values(policy, loss, link, tmp_path):
    model = catboost.CatBoostClassifier(loss_function=loss, grow_policy=policy, **QUIET).fit(X, CLASSES)
    manifest = same_margins(model, tmp_path)
    assert manifest.link == Link(link)
    assert manifest.schema.output.labels == ("ant", "bee", "cow")


@pytest.mark.parametrize(
    ("loss", "target", "link"),
    [
        ("Logloss", Y > 0, "sigmoid"),
        ("CrossEntropy", (Y > 0).astype(float), "sigmoid"),
        ("Poisson", np.abs(Y), "exp"),
        ("MAE", Y, "identity"),
        ("Quantile:alpha=0.3", Y, "identity"),
        ("MultiRMSE", np.column_stack([Y, -Y]), "identity"),
    ],
)
def test_every_loss_gives_its_raw_values_and_link(loss, target, link, tmp_path):
    model = catboost.CatBoost({"loss_function": loss, **QUIET}).fit(X, target)
    assert same_margins(model, tmp_path).link == Link(link)


def test_scale_and_bias_are_kept(tmp_path):
    model = catboost.CatBoostRegressor(**QUIET).fit(X, Y)
    model.set_scale_and_bias(0.3, 1.7)
    same_margins(model, tmp_path)


def test_a_sum_of_models_of_one_loss_gives_its_raw_values(tmp_path):
    classifier = catboost.CatBoostClassifier(**QUIET).fit(X, Y > 0)
    other = catboost.CatBoostClassifier(**{**QUIET, "depth": 2}).fit(X, Y > 1)
    manifest = same_margins(catboost.sum_models([classifier, other], weights=[0.3, 0.7]), tmp_path)
    assert manifest.link == Link("sigmoid")


def test_a_sum_of_models_of_several_losses_is_refused_by_name(tmp_path):
    models = [catboost.CatBoost({"loss_function": loss, **QUIET}).fit(X, Y) for loss in ("RMSE", "MAE")]
    with pytest.raises(UnsupportedModel, match="several losses"):
        packed(catboost.sum_models(models), tmp_path)


def test_missing_values_never_seen_in_training_score_as_in_catboost(tmp_path):
    model = catboost.CatBoostRegressor(**QUIET).fit(np.nan_to_num(X), Y)
    same_margins(model, tmp_path)


def test_a_model_of_one_leaf_is_a_constant(tmp_path):
    model = catboost.CatBoostRegressor(**QUIET).fit(X, np.ones(400) + (np.arange(400) == 0))
    same_margins(model, tmp_path)


def test_a_fitted_object_and_its_file_give_one_forest(tmp_path):
    model = catboost.CatBoostRegressor(**QUIET).fit(X, Y, verbose=False)
    one, two = forest_of(pack(model, name="m", out=tmp_path)), forest_of(packed(model, tmp_path))
    assert all(np.array_equal(one.arrays()[key], value) for key, value in two.arrays().items())


def test_features_bear_their_names(tmp_path):
    pool = catboost.Pool(X, Y, feature_names=["delay", "gate", "month", "hour"])
    names = same_margins(catboost.CatBoostRegressor(**QUIET).fit(pool), tmp_path).schema.names
    assert names == ("delay", "gate", "month", "hour")
    assert same_margins(catboost.CatBoostRegressor(**QUIET).fit(X, Y), tmp_path).schema.names == (
        "0",
        "1",
        "2",
        "3",
    )


def test_what_is_not_read_is_refused_by_name(tmp_path):
    words = np.column_stack([X[:, :1].astype(str), CLASSES])
    model = catboost.CatBoostRegressor(cat_features=[1], **QUIET).fit(words, Y)
    model.save_model(str(tmp_path / "c.json"), format="json", pool=catboost.Pool(words, Y, cat_features=[1]))
    with pytest.raises(UnsupportedModel, match="categorical features"):
        pack(tmp_path / "c.json", name="m", out=tmp_path)
    with pytest.raises(UnsupportedModel, match="categorical features"):
        pack(model, name="m", out=tmp_path)
    sentences = np.column_stack([X[:, :1].astype(str), [f"a {name} flies" for name in CLASSES]])
    reader = catboost.CatBoostClassifier(text_features=[1], **QUIET).fit(sentences, Y > 0)
    with pytest.raises(UnsupportedModel, match="text and embedding features"):
        pack(reader, name="m", out=tmp_path)
    uncertain = catboost.CatBoostRegressor(loss_function="RMSEWithUncertainty", **QUIET).fit(X, Y)
    with pytest.raises(UnsupportedModel, match="RMSEWithUncertainty"):
        packed(uncertain, tmp_path)


@pytest.mark.parametrize("key", ["features_info", "scale_and_bias", "model_info"])
def test_a_document_without_its_parts_is_no_model(key, tmp_path):
    model = catboost.CatBoostRegressor(**QUIET).fit(X, Y)
    model.save_model(str(tmp_path / "model.json"), format="json")
    document = json.loads((tmp_path / "model.json").read_text())
    del document[key]
    (tmp_path / "model.json").write_text(json.dumps(document))
    with pytest.raises(InvalidModel):
        pack(tmp_path / "model.json", name="m", out=tmp_path)


def test_a_tree_with_a_leaf_too_few_is_no_model(tmp_path):
    model = catboost.CatBoostRegressor(**QUIET).fit(X, Y)
    model.save_model(str(tmp_path / "model.json"), format="json")
    document = json.loads((tmp_path / "model.json").read_text())
    document["oblivious_trees"][0]["leaf_values"].pop()
    (tmp_path / "model.json").write_text(json.dumps(document))
    with pytest.raises(InvalidModel, match="damaged"):
        pack(tmp_path / "model.json", name="m", out=tmp_path)
