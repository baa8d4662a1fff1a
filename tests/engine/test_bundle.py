"""A bundle is read whole and unchanged, or not at all, and the error says which file and why."""

import json
import os
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from engine.bundle import (
    Bundle,
    Link,
    Manifest,
    Provenance,
    canonical,
    digest,
    npz,
    read_bundle,
    write_bundle,
)
from engine.errors import InvalidBundle
from engine.schema import Feature, Output, Schema

MANIFEST = Manifest(
    name="late",
    kind="linear",
    schema=Schema((Feature("delay"), Feature("carrier", "category", ("AA", "é")))),
    link=Link("sigmoid"),
    provenance=Provenance("sklearn", notes=("A note.",)),
)
ARRAYS = {"coef": np.array([[1.0, 2.0]]), "intercept": np.array([0.5])}


@pytest.fixture
def bundle(tmp_path):
    return write_bundle(MANIFEST, {"linear.npz": npz(ARRAYS)}, tmp_path)


def changed(path: Path, **values):
    """Change keys of a bundle's manifest in place."""
    document = json.loads((path / "bundle.json").read_bytes())
    (path / "bundle.json").write_text(json.dumps({**document, **values}))
    return path


def test_what_was_written_is_read(bundle):
    read = read_bundle(bundle)
    assert msgspec.structs.replace(read.manifest, files={}) == MANIFEST
    assert read.arrays("linear.npz")["coef"].tolist() == [[1.0, 2.0]]
    assert read.label == bundle.name


def test_a_path_that_no_system_takes_is_said():
    with pytest.raises(InvalidBundle, match="null byte"):
        read_bundle("with\0null")


def test_the_revision_is_the_digest_of_the_canonical_manifest(bundle):
    read = read_bundle(bundle)
    assert read.revision == digest((bundle / "bundle.json").read_bytes()) == digest(canonical(read.manifest))


def test_a_manifest_written_in_another_layout_has_the_same_revision(bundle):
    revision = read_bundle(bundle).revision
    changed(bundle)
    assert read_bundle(bundle).revision == revision


def test_equal_content_gives_one_directory_and_other_content_another(bundle, tmp_path):
    again = write_bundle(MANIFEST, {"linear.npz": npz(ARRAYS)}, tmp_path)
    other = write_bundle(MANIFEST, {"linear.npz": npz({**ARRAYS, "intercept": np.array([0.25])})}, tmp_path)
    assert again == bundle
    assert other != bundle
    assert len(list(tmp_path.iterdir())) == 2


def test_a_name_outside_the_pattern_is_no_manifest(bundle):
    with pytest.raises(InvalidBundle, match=r"\$\.name"):
        read_bundle(changed(bundle, name="../up"))


def test_a_write_that_fails_leaves_nothing_behind(tmp_path):
    with pytest.raises(OSError, match="none"):
        write_bundle(MANIFEST, {"none/linear.npz": b""}, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_bundle_at_all_is_said(tmp_path):
    sentence = r"expected a bundle's file at .*bundle\.json: No such file or directory; `tandem pack` makes"
    with pytest.raises(InvalidBundle, match=sentence):
        read_bundle(tmp_path)
    with pytest.raises(InvalidBundle, match=sentence):
        read_bundle(tmp_path / "none")


def test_a_file_in_place_of_the_directory_is_said(tmp_path):
    (tmp_path / "model.txt").write_text("tree")
    with pytest.raises(InvalidBundle, match="Not a directory; `tandem pack` makes a bundle of a model"):
        read_bundle(tmp_path / "model.txt")


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_payload_cut_short_is_refused(bundle, share):
    payload = bundle / "linear.npz"
    payload.write_bytes(payload.read_bytes()[: int(payload.stat().st_size * share)])
    with pytest.raises(InvalidBundle, match=r"'linear\.npz'.*cut short.*pack the model again"):
        read_bundle(bundle)


def test_one_changed_bit_is_refused(bundle):
    content = bytearray((bundle / "linear.npz").read_bytes())
    content[-7] ^= 1
    (bundle / "linear.npz").write_bytes(content)
    with pytest.raises(InvalidBundle, match="was changed"):
        read_bundle(bundle)


def test_a_manifest_changed_in_its_directory_is_refused(bundle):
    with pytest.raises(InvalidBundle, match=rf"was changed: expected revision {bundle.name[-12:]}"):
        read_bundle(changed(bundle, link={"name": "exp"}))


def test_a_bundle_may_be_moved_under_another_name(bundle, tmp_path):
    moved = bundle.rename(tmp_path / "current")
    assert read_bundle(moved).label == bundle.name


def test_packing_again_heals_a_damaged_bundle(bundle, tmp_path):
    (bundle / "linear.npz").write_bytes(b"")
    assert write_bundle(MANIFEST, {"linear.npz": npz(ARRAYS)}, tmp_path) == bundle
    assert read_bundle(bundle).arrays("linear.npz")["coef"].tolist() == [[1.0, 2.0]]


def test_a_missing_payload_is_named(bundle):
    (bundle / "linear.npz").unlink()
    with pytest.raises(InvalidBundle, match=r"linear\.npz: No such file"):
        read_bundle(bundle)


def test_files_that_the_manifest_does_not_list_are_not_read(bundle):
    (bundle / "notes.txt").write_text("mine")
    assert set(read_bundle(bundle).files) == {"linear.npz"}


@pytest.mark.parametrize("name", ["../linear.npz", "/etc/passwd", "a/b", "..", ".", "", "bundle.json"])
def test_a_manifest_cannot_reach_outside_its_directory(bundle, name):
    shutil.copy(bundle / "linear.npz", bundle.parent / "linear.npz")
    with pytest.raises(InvalidBundle, match="lie in its own directory"):
        read_bundle(changed(bundle, files={name: "0" * 64}))


def test_a_directory_in_place_of_a_payload_is_refused(bundle):
    (bundle / "linear.npz").unlink()
    (bundle / "linear.npz").mkdir()
    with pytest.raises(InvalidBundle, match="Is a directory"):
        read_bundle(bundle)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "no manifest"),
        (b"{", "no manifest"),
        (b"[]", "Expected `object`"),
        (b"\xff\xfe", "no manifest"),
        (b'{"name": "late"}', "missing required field `kind`"),
    ],
)
def test_a_manifest_that_is_none_is_said(bundle, text, message):
    (bundle / "bundle.json").write_bytes(text)
    with pytest.raises(InvalidBundle, match=message):
        read_bundle(bundle)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"format": 2}, r"format 1.*\$\.format"),
        ({"kind": "pickle"}, r"\$\.kind"),
        ({"code": "import os"}, "unknown field `code`"),
        ({"files": {"linear.npz": 7}}, r"\$\.files"),
        (
            {"schema": {"features": [{"name": "a", "type": "category", "categories": ["x", 1]}]}},
            "all strings",
        ),
        ({"schema": {"features": [{"name": "a", "type": "category", "categories": ["x", "x"]}]}}, "twice"),
        ({"schema": {"features": [{"name": "a", "type": "int7"}]}}, r"\$\.schema\.features"),
    ],
)
def test_a_manifest_with_a_wrong_key_says_where(bundle, values, message):
    with pytest.raises(InvalidBundle, match=message):
        read_bundle(changed(bundle, **values))


@pytest.mark.parametrize("payload", [b"nonsense", b"", b"PK\x03\x04nonsense"])
def test_a_payload_that_is_no_archive_is_refused_when_its_arrays_are_asked_for(payload):
    read = Bundle(MANIFEST, "0" * 64, {"linear.npz": payload})
    with pytest.raises(InvalidBundle, match=r"expected arrays in 'linear\.npz' of bundle late@000000000000"):
        read.arrays("linear.npz")
    with pytest.raises(InvalidBundle, match=r"forest\.npz"):
        read.arrays("forest.npz")


def test_a_pickle_inside_an_archive_is_never_loaded(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    np.savez(tmp_path / "trap.npz", coef=np.array([Trap()], dtype=object))
    read = Bundle(MANIFEST, "0" * 64, {"linear.npz": (tmp_path / "trap.npz").read_bytes()})
    with pytest.raises(InvalidBundle):
        read.arrays("linear.npz")
    assert not (tmp_path / "sprung").exists()


def test_columns_of_several_outputs_bear_their_labels():
    assert Output("late", labels=("no", "yes")).columns == ("late_no", "late_yes")
    assert Output("late").columns == ("late",)
