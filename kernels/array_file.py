"""Arrays in one flat file that processes map instead of each holding a copy.

The file is only trusted if nobody but its owner, who must be this user, can write it, if it is as long
as its header says, and if the digest in it is that of its key and of all its bytes. So damage, another
user's file or one under a wrong name are as good as no file. Files are replaced whole and never changed,
since what is cut short under a mapping kills the process that reads it.

    digest (32 bytes) | length of the file (8) | length of the index (8) | index | arrays, each from
                                                                                 a multiple of ALIGNMENT
"""

import ast
import hashlib
import mmap
import os
import stat
import struct
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ALIGNMENT = 128
"""Bytes; a mask row's, so that it fills two cache lines."""
DIGEST_BYTES = 32
SIZES = struct.Struct("<QQ")
HEADER_BYTES = DIGEST_BYTES + SIZES.size


def write_arrays(path: Path, key: str, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Put ``arrays`` at ``path``, whole or not at all; raises OSError.

    Args:
        path: In a directory that exists.
        key: Says what the arrays are; a reader must know it.
        arrays: Of any type but ``object``.
    """
    data = _encoded(key, arrays)
    descriptor, temporary = tempfile.mkstemp(prefix=".writing-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise


def _encoded(key: str, arrays: Mapping[str, NDArray[Any]]) -> bytearray:
    index, place = [], 0
    for name, array in arrays.items():
        index.append((name, np.lib.format.dtype_to_descr(array.dtype), array.shape, place))
        place += _padded(array.nbytes)
    text = repr(index).encode()
    first = _padded(HEADER_BYTES + len(text))
    data = bytearray(first + place)
    SIZES.pack_into(data, DIGEST_BYTES, len(data), len(text))
    data[HEADER_BYTES : HEADER_BYTES + len(text)] = text
    for array, (_, _, _, start) in zip(arrays.values(), index, strict=True):
        data[first + start : first + start + array.nbytes] = array.tobytes()
    data[:DIGEST_BYTES] = _digest(key, memoryview(data))
    return data


def map_arrays(path: Path, key: str) -> dict[str, NDArray[Any]] | None:
    """The arrays that ``write_arrays`` put there with that key, read-only and shared; None if not intact."""
    try:
        # A pipe that somebody put there must not make us wait.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            if not _only_ours(os.fstat(file.fileno())):
                return None
            header = file.read(HEADER_BYTES)
            n_bytes, n_index_bytes = SIZES.unpack_from(header, DIGEST_BYTES)
            if os.fstat(file.fileno()).st_size != n_bytes:
                return None
            memory = mmap.mmap(file.fileno(), n_bytes, access=mmap.ACCESS_READ)
    except (OSError, ValueError, OverflowError, struct.error):
        return None
    with memoryview(memory) as data:
        if bytes(data[:DIGEST_BYTES]) != _digest(key, data):
            return None
    index = ast.literal_eval(memory[HEADER_BYTES : HEADER_BYTES + n_index_bytes].decode())
    first = _padded(HEADER_BYTES + n_index_bytes)
    return {
        name: np.ndarray(shape, np.lib.format.descr_to_dtype(kind), memory, first + place)
        for name, kind, shape, place in index
    }


def _only_ours(state: os.stat_result) -> bool:
    writable_by_others = state.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return stat.S_ISREG(state.st_mode) and state.st_uid == os.geteuid() and not writable_by_others


def _digest(key: str, data: memoryview) -> bytes:
    digest = hashlib.sha256(f"{len(key)} {key}".encode())
    digest.update(data[DIGEST_BYTES:])
    return digest.digest()


def _padded(n_bytes: int) -> int:
    return -(-n_bytes // ALIGNMENT) * ALIGNMENT
