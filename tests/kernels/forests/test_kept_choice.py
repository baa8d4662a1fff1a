"""A kept choice spares the building of tables and changes no score, whatever happens to its file."""

import stat
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.forests import kept_choice as module
from kernels.forests.blended_trees import BlendedTrees
from kernels.forests.choice import Choice
from kernels.forests.dispatch import BATCH_ROWS
from kernels.forests.interleaved import Interleaved
from kernels.forests.interval_masks import IntervalMasks
from kernels.forests.kept_choice import choice_key, kept_choice
from kernels.forests.traversal import Traversal
from tests.kernels.drawn_forests import (
    Shape,
    random_forest,
    random_rows,
    scored,
    scored_by_columns,
    shapes,
)
from tests.reference import bits


def some_forest(**shape):
    return random_forest(Shape(n_trees=40, max_leaves=32, **shape), np.random.default_rng(0))


@settings(max_examples=30, deadline=None)
@given(shape=shapes, seed=st.integers(0, 2**32))
def test_a_kept_choice_has_the_bits_of_the_plain_traversal(tmp_path_factory, shape, seed):
    random = np.random.default_rng(seed)
    forest = random_forest(shape, random)
    folder = tmp_path_factory.mktemp("kept")
    made, mapped = (kept_choice(forest, np.float32, "digest", folder) for _ in range(2))
    X = random_rows(forest, 70, np.float32, random)
    expected = bits(scored(Traversal(forest), forest, X))

    assert made.names == mapped.names
    assert bits(scored(made, forest, X)) == expected
    assert bits(scored(mapped, forest, X)) == expected
    assert bits(scored_by_columns(mapped, forest, X)) == expected


def test_different_winners_are_kept_as_they_were_chosen(tmp_path, monkeypatch):
    forest = some_forest()
    kinds = (Interleaved, IntervalMasks, BlendedTrees)
    walks, masks, blends = (kind(forest, np.float32) for kind in kinds)
    chosen = (walks, masks, masks, blends)
    monkeypatch.setattr(module, "choose", lambda *_: Choice(dict(zip(BATCH_ROWS, chosen, strict=True))))
    kept_choice(forest, np.float32, "digest", tmp_path)
    monkeypatch.delattr(module, "choose")  # the second time nobody asks

    kept = kept_choice(forest, np.float32, "digest", tmp_path)

    assert [kept.by_rows[n_rows].name for n_rows in BATCH_ROWS] == [kernel.name for kernel in chosen]
    X = random_rows(forest, 1100, np.float32, np.random.default_rng(3))
    assert bits(scored(kept, forest, X)) == bits(scored(Traversal(forest), forest, X))


def test_folder_and_file_are_this_users_alone(tmp_path):
    kept_choice(some_forest(), np.float32, "digest", tmp_path / "cache" / "tables")
    (file,) = (tmp_path / "cache" / "tables").iterdir()

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("damage", [b"", b"\0" * 10_000, b"not tables"])
def test_a_damaged_file_is_replaced(tmp_path, damage):
    forest = some_forest()
    kept_choice(forest, np.float32, "digest", tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage)

    kept_choice(forest, np.float32, "digest", tmp_path)

    assert file.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [file]


def test_where_nothing_can_be_kept_tables_are_built_in_memory(tmp_path):
    (tmp_path / "file").write_text("no directory")
    forest = some_forest()
    X = random_rows(forest, 9, np.float32, np.random.default_rng(1))

    kernel = kept_choice(forest, np.float32, "digest", tmp_path / "file" / "tables")

    assert bits(scored(kernel, forest, X)) == bits(scored(Traversal(forest), forest, X))


def test_forests_and_types_do_not_share_a_file(tmp_path):
    forest = some_forest()
    for dtype, digest in ((np.float32, "one"), (np.float32, "two"), (np.float64, "one")):
        kept_choice(forest, dtype, digest, tmp_path)

    assert len(list(tmp_path.iterdir())) == 3


def test_another_processor_chooses_for_itself(monkeypatch):
    here = choice_key(np.float32, "digest")
    monkeypatch.setattr(module.config, "CPU_NAME", "haswell")

    assert choice_key(np.float32, "digest") != here


def test_files_beyond_the_limit_go_oldest_first(tmp_path, monkeypatch):
    forest = some_forest()
    kept_choice(forest, np.float32, "first", tmp_path)
    (first,) = tmp_path.iterdir()
    monkeypatch.setattr(module, "MAX_KEPT_BYTES", int(1.5 * first.stat().st_size))

    kept_choice(forest, np.float32, "second", tmp_path)

    assert len(list(tmp_path.iterdir())) == 1
    assert not first.exists()


def test_a_forest_without_tables_is_walked_and_not_kept(tmp_path, monkeypatch):
    forest = some_forest()
    monkeypatch.setattr(module, "choose", lambda *_: Choice(dict.fromkeys(BATCH_ROWS, Traversal(forest))))

    assert kept_choice(forest, np.float32, "digest", tmp_path / "tables").name == "traversal"
    assert not (tmp_path / "tables").exists()


MAP_AND_ASK = """
import re, sys
from pathlib import Path
from kernels.array_file import map_arrays
arrays = map_arrays(Path(sys.argv[1]), sys.argv[2])
total = sum(int(array.view("u1").sum()) for array in arrays.values() if array.dtype.names is None)
print(total, flush=True)
sys.stdin.readline()
maps = Path("/proc/self/smaps").read_text()
part = maps[maps.index(sys.argv[1]):]
print(*(re.search(rf"^{name}: +(\\d+)", part, re.M)[1] for name in ("Rss", "Pss", "Private_Dirty")))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_two_processes_share_the_pages(tmp_path):
    kept_choice(some_forest(), np.float32, "digest", tmp_path)
    (file,) = tmp_path.iterdir()
    command = [sys.executable, "-c", MAP_AND_ASK, str(file), choice_key(np.float32, "digest")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as one, subprocess.Popen(command, **pipes) as other:
        one.stdout.readline(), other.stdout.readline()
        one.stdin.write("\n"), one.stdin.flush()
        rss, pss, dirty = map(int, one.stdout.readline().split())
        other.communicate("\n")

    assert rss * 1024 >= file.stat().st_size
    assert pss <= rss / 2 + 1
    assert dirty == 0
