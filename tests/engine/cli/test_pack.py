"""``tandem pack`` and ``tandem inspect``, as a person calls them."""

import json
import sys

import pytest
from sklearn.linear_model import LinearRegression

from engine.cli.app import main
from engine.packing import pack


@pytest.fixture
def tandem(monkeypatch, capsys):
    """Run the command; returns (exit code, stdout, stderr)."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["tandem", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            main()
        return left.value.code or 0, *capsys.readouterr()

    return run


@pytest.fixture(scope="module")
def model_file(tmp_path_factory, late_booster):
    path = tmp_path_factory.mktemp("model") / "late.txt"
    late_booster.save_model(path)
    return path


def test_pack_prints_the_path_of_the_bundle_and_nothing_else(tandem, model_file, tmp_path):
    code, out, err = tandem("pack", model_file, "--name", "late", "--out", tmp_path)
    (bundle,) = tmp_path.iterdir()
    assert (code, out, err) == (0, f"{bundle}\n", "")


def test_pack_takes_a_features_file_and_a_sample(tandem, model_file, some_flights, tmp_path):
    some_flights.head(10).write_parquet(tmp_path / "sample.parquet")
    (tmp_path / "features.yaml").write_text("output: {name: lateness}")
    code, out, _ = tandem(
        "pack", model_file, "--name", "late", "--out", tmp_path,
        "--features", tmp_path / "features.yaml", "--sample", tmp_path / "sample.parquet",
    )  # fmt: skip
    schema = json.loads((tmp_path / out.strip() / "bundle.json").read_text())["schema"]
    assert code == 0
    assert schema["output"]["name"] == "lateness"
    assert "float64" not in {feature["type"] for feature in schema["features"] if feature["name"] == "hour"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\x80\x04", "pickle"),
        (b"no model", "is no model"),
        (b"tree\nversion=v4\n", "cut short"),
    ],
)
def test_pack_of_no_model_is_one_sentence_and_exit_code_2(tandem, tmp_path, content, message):
    (tmp_path / "model.bin").write_bytes(content)
    code, out, err = tandem("pack", tmp_path / "model.bin", "--name", "late", "--out", tmp_path / "bundles")
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "bundles").exists()


def test_a_place_that_cannot_be_written_is_one_sentence_and_exit_code_5(tandem, model_file, tmp_path):
    (tmp_path / "file").write_text("")
    code, out, err = tandem("pack", model_file, "--name", "late", "--out", tmp_path / "file" / "bundles")
    assert (code, out) == (5, "")
    assert err == f"error: Not a directory - at {tmp_path / 'file' / 'bundles'}\n"


def test_a_file_in_the_place_of_the_bundles_is_one_sentence_and_exit_code_2(tandem, model_file, tmp_path):
    (tmp_path / "file").write_text("kept")
    code, out, err = tandem("pack", model_file, "--name", "late", "--out", tmp_path / "file")
    assert (code, out) == (2, "")
    assert err == f"error: expected a directory for bundles, got the file '{tmp_path / 'file'}'\n"
    assert (tmp_path / "file").read_text() == "kept"


def test_inspect_shows_features_categories_outputs_and_the_kernel(tandem, late_bundle):
    code, out, _ = tandem("inspect", late_bundle)
    words = " ".join(out.split())
    assert code == 0
    for shown in ("late@", "lightgbm", "sigmoid", "carrier", "category", "trees 30", "kernel"):
        assert shown in words


def test_inspect_in_json_holds_the_whole_manifest(tandem, late_bundle):
    code, out, _ = tandem("inspect", late_bundle, "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["n_trees"] == 30
    assert facts["kernel"]
    assert facts["revision"].startswith(late_bundle.name.partition("@")[2])
    assert facts["manifest"] == json.loads((late_bundle / "bundle.json").read_text())


def test_inspect_of_a_linear_model_names_its_kernel(tandem, tmp_path):
    path = pack(LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0]), name="line", out=tmp_path)
    code, out, _ = tandem("inspect", path, "--json")
    assert (code, json.loads(out)["kernel"]) == (0, "linear")


def test_inspect_of_a_changed_bundle_is_one_sentence_and_exit_code_2(tandem, tmp_path):
    path = pack(LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0]), name="line", out=tmp_path)
    (path / "linear.npz").write_bytes(b"")
    code, out, err = tandem("inspect", path)
    assert (code, out) == (2, "")
    assert "changed or cut short" in err
