"""An array file is read whole and as it was written, or not at all."""

import os

import numpy as np
import pytest

from kernels.array_file import ALIGNMENT, map_arrays, write_arrays

RECORD = np.dtype([("place", np.int64), ("bits", np.int64, 4)])
ARRAYS = {
    "rows": np.arange(1000, dtype=np.float32).reshape(10, 100),
    "none": np.empty((0, 3), np.uint16),
    "records": np.ones(5, RECORD),
    "byte": np.array([7], np.uint8),
}


@pytest.fixture
def path(tmp_path):
    write_arrays(tmp_path / "some.tables", "key", ARRAYS)
    return tmp_path / "some.tables"


def test_arrays_come_back_equal_aligned_and_read_only(path):
    arrays = map_arrays(path, "key")

    assert list(arrays) == list(ARRAYS)
    for name, array in arrays.items():
        assert array.dtype == ARRAYS[name].dtype
        assert array.shape == ARRAYS[name].shape
        assert (array == ARRAYS[name]).all()
        assert array.ctypes.data % ALIGNMENT == 0
        assert not array.flags.writeable


def test_a_file_that_is_not_there_is_none(tmp_path):
    assert map_arrays(tmp_path / "none.tables", "key") is None


def test_a_file_of_another_key_is_none(path):
    assert map_arrays(path, "another key") is None


def test_a_file_cut_short_anywhere_is_none(path):
    whole = path.read_bytes()
    for n_bytes in [*range(0, 600, 7), len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:n_bytes])
        assert map_arrays(path, "key") is None


def test_a_file_with_any_byte_changed_is_none(path):
    whole = path.read_bytes()
    for place in [*range(0, 600, 7), len(whole) // 2, len(whole) - 1]:
        changed = bytearray(whole)
        changed[place] ^= 1
        path.write_bytes(changed)
        assert map_arrays(path, "key") is None


def test_a_file_with_more_at_its_end_is_none(path):
    path.write_bytes(path.read_bytes() + bytes(128))
    assert map_arrays(path, "key") is None


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_is_none(path, mode):
    path.chmod(mode)
    assert map_arrays(path, "key") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_none(path):
    os.chown(path, 12345, -1)
    assert map_arrays(path, "key") is None


def test_a_pipe_in_its_place_is_none_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.tables")
    assert map_arrays(tmp_path / "pipe.tables", "key") is None


def test_a_mapping_outlives_the_replacement_of_its_file(path):
    arrays = map_arrays(path, "key")
    write_arrays(path, "key", {"rows": np.zeros(3)})
    path.unlink()

    assert (arrays["rows"] == ARRAYS["rows"]).all()


def test_a_write_that_fails_leaves_nothing(tmp_path):
    target = tmp_path / "taken.tables"
    target.mkdir()
    with pytest.raises(IsADirectoryError):
        write_arrays(target, "key", ARRAYS)

    assert list(tmp_path.iterdir()) == [target]
