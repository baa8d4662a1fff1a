"""A forest bundle that does not fit its schema is refused when loaded; its tables are kept."""

import numpy as np
import pytest

from engine.backends.forest import load, load_counting
from engine.bundle import Bundle, Link, Manifest, Provenance, npz
from engine.errors import InvalidBundle, InvalidConfig
from engine.schema import Feature, Schema
from kernels.forests.forest import CATEGORICAL, Forest
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


def test_a_forest_that_no_kernel_makes_bins_of_is_refused_by_the_kernel_s_name() -> None:
    message = r"bundle trees@000000000000 is scored by traversal, which makes no bins to count"
    with pytest.raises(InvalidConfig, match=message):
        load_counting(bundle(1, sets_of_all_bits(17).arrays()))


def sets_of_all_bits(n_bits: int) -> Forest:
    """A tree per bit of a category code, which asks for it: no two of 2 ** n_bits codes share a bin."""
    codes = np.arange(1 << n_bits)
    sets = [np.packbits((codes >> bit) & 1, bitorder="little").view(np.uint32) for bit in range(n_bits)]
    nodes = np.arange(3 * n_bits) % 3
    return Forest(
        tree_start=np.arange(0, 3 * n_bits + 1, 3),
        feature=np.where(nodes == 0, 0, -1).astype(np.int32),
        threshold=np.zeros(3 * n_bits),
        left=np.where(nodes == 0, 1, 0).astype(np.int32),
        right=np.where(nodes == 0, 2, 0).astype(np.int32),
        rule=np.where(nodes == 0, CATEGORICAL, 0).astype(np.uint8),
        category_set=np.where(nodes == 0, np.arange(3 * n_bits) // 3, -1).astype(np.int32),
        set_start=np.cumsum([0, *map(len, sets)]),
        set_words=np.concatenate(sets),
        leaf_value=np.where(nodes == 0, 0.0, nodes)[:, None],
        tree_output=np.zeros(n_bits, np.int32),
        base=np.zeros(1),
        bias=np.zeros(1),
        scale=1.0,
        n_features=1,
        n_outputs=1,
        single=False,
        average=False,
        flush_tiny=False,
    )
