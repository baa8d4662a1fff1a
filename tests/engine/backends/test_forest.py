"""A forest bundle that does not fit its schema is refused when loaded; its tables are kept."""

import numpy as np
import pytest

from engine.backends.forest import load
from engine.bundle import Bundle, Link, Manifest, Provenance, npz
from engine.errors import InvalidBundle
from engine.schema import Feature, Schema
from tests.kernels.drawn_forests import Shape, random_forest

FOREST = random_forest(Shape(n_features=2, n_outputs=3, single=True), np.random.default_rng(0))


def bundle(n_features: int, arrays: dict[str, np.ndarray]) -> Bundle:
    schema = Schema(tuple(Feature(f"x{place}") for place in range(n_features)))
    manifest = Manifest("trees", "forest", schema, Link(), Provenance("test"))
    return Bundle(manifest, "0" * 64, {"forest.npz": npz(arrays)})


def test_a_backend_says_what_its_forest_answers() -> None:
    backend = load(bundle(2, FOREST.arrays()))
    assert backend.n_outputs == 3
    assert backend.margin_dtype == np.float32


def test_its_tables_are_kept_where_the_variable_says(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TANDEM_CACHE_DIR", str(tmp_path))
    kernels = {load(bundle(2, FOREST.arrays())).name for _ in range(2)}

    assert len(kernels) == 1
    assert len(list(tmp_path.glob("tables/*.tables"))) == 1


def test_nothing_is_kept_if_the_variable_is_empty(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TANDEM_CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    load(bundle(2, FOREST.arrays()))

    assert not list(tmp_path.iterdir())


def test_tables_are_kept_in_the_users_cache(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("TANDEM_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    load(bundle(2, FOREST.arrays()))

    assert len(list(tmp_path.glob("tandem/tables/*.tables"))) == 1


def test_a_forest_of_other_columns_than_the_schemas_is_refused() -> None:
    message = "expected 3 columns by the schema of bundle trees@000000000000, its forest has 2"
    with pytest.raises(InvalidBundle, match=message):
        load(bundle(3, FOREST.arrays()))


def test_a_forest_without_one_of_its_arrays_is_refused() -> None:
    arrays = FOREST.arrays()
    del arrays["leaf_value"]
    with pytest.raises(InvalidBundle, match=r"expected 'leaf_value' in 'forest.npz' of bundle trees@"):
        load(bundle(2, arrays))
