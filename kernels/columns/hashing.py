"""Strings as buckets: MurmurHash3 (32 bits, seed 0) of their UTF-8, its absolute value modulo n.

So does scikit-learn's ``FeatureHasher``; ``abs(sklearn.utils.murmurhash3_32(text, seed=0)) % n`` makes the
same numbers for training. The function is Austin Appleby's, in the public domain (2011).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.compiler import inlined, kernel

_FIRST, _SECOND = np.uint32(0xCC9E2D51), np.uint32(0x1B873593)
_LAST, _LAST_BUT_ONE = np.uint32(0xC2B2AE35), np.uint32(0x85EBCA6B)
_FIVE, _ADDED = np.uint32(5), np.uint32(0xE6546B64)


@kernel
def hash_strings(offsets: NDArray[Any], data: NDArray[np.uint8], n_buckets: int, out: NDArray[Any]) -> None:
    """Write the bucket of each string, from 0 to ``n_buckets`` - 1.

    Args:
        offsets: int32 or int64[n + 1]; string ``i`` is ``data[offsets[i] : offsets[i + 1]]``. Offsets
            outside of ``data`` give NaN.
        data: uint8.
        n_buckets: At least 1.
        out: float[n].
    """
    for row in range(len(out)):
        start, end = np.int64(offsets[row]), np.int64(offsets[row + 1])
        out[row] = np.nan
        if 0 <= start <= end <= len(data):
            out[row] = abs(np.int64(np.int32(murmur(data, start, end)))) % n_buckets


@inlined
def murmur(data: NDArray[np.uint8], start: int, end: int) -> np.uint32:
    """The hash of the bytes from ``start`` to before ``end``."""
    mixed = np.uint32(0)
    whole = start + ((end - start) >> 2 << 2)
    for place in range(start, whole, 4):
        mixed ^= scrambled(word_of(data, place, 4))
        mixed = np.uint32(np.uint32(turned(mixed, 13) * _FIVE) + _ADDED)
    if whole < end:
        mixed ^= scrambled(word_of(data, whole, end - whole))
    mixed ^= np.uint32(end - start)
    mixed = np.uint32((mixed ^ (mixed >> np.uint32(16))) * _LAST_BUT_ONE)
    mixed = np.uint32((mixed ^ (mixed >> np.uint32(13))) * _LAST)
    return np.uint32(mixed ^ (mixed >> np.uint32(16)))


@inlined
def word_of(data: NDArray[np.uint8], place: int, size: int) -> np.uint32:
    """Up to four bytes as a little-endian word."""
    word = np.uint32(0)
    for byte in range(size):
        word |= np.uint32(data[place + byte]) << np.uint32(8 * byte)
    return word


@inlined
def scrambled(word: np.uint32) -> np.uint32:
    """A word before it is mixed in."""
    return np.uint32(turned(np.uint32(word * _FIRST), 15) * _SECOND)


@inlined
def turned(word: np.uint32, bits: int) -> np.uint32:
    """A word rotated to the left."""
    return np.uint32((word << np.uint32(bits)) | (word >> np.uint32(32 - bits)))


def bucket_of(text: str, n_buckets: int) -> float:
    """The bucket of one string."""
    data = np.frombuffer(text.encode("utf-8", "replace"), np.uint8)
    out = np.empty(1)
    hash_strings(np.array([0, len(data)]), data, n_buckets, out)
    return float(out[0])
