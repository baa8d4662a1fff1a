"""From a category to its code: a hash table of strings or integers, searched without touching Python.

A string is hashed and compared by its first and its last eight bytes and its length, which is all
there is to strings of up to 16 bytes; only of longer ones the bytes between are compared too. An
integer is its own first eight bytes. Slots are a power of two, at least four times as many as there are
categories, so that most searches end where they begin; a taken slot sends the search to the next one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from kernels.compiler import inlined, kernel

HEAD, TAIL, SIZE_AND_CODE, START = 0, 1, 2, 3
"""A slot: first bytes, last bytes, length in the upper and code in the lower half, place in the text."""
FREE = np.uint64(2**64 - 1)
"""``SIZE_AND_CODE`` of a free slot."""
WORD = 8
_HALF = np.uint64(32)
_LOW_HALF = np.uint64(2**32 - 1)
_MIX = np.uint64(0x9E3779B97F4A7C15)
_MIX_TAIL = np.uint64(0xC2B2AE3D27D4EB4F)


@dataclass(frozen=True, slots=True, eq=False)
class CategoryTable:
    """The categories of one feature.

    Attributes:
        slots: uint64[2^k, 4].
        text: uint8, the strings end to end; empty for integers.
    """

    slots: NDArray[np.uint64]
    text: NDArray[np.uint8]

    @classmethod
    def of_strings(cls, categories: Sequence[bytes]) -> Self:
        """The table of distinct strings (UTF-8), codes in order."""
        table = cls(_free_slots(len(categories)), np.frombuffer(b"".join(categories), np.uint8))
        add_strings(table.slots, table.text, np.cumsum([0, *map(len, categories)]))
        return table

    @classmethod
    def of_integers(cls, categories: Sequence[int]) -> Self:
        """The table of distinct integers that fit int64, codes in order."""
        table = cls(_free_slots(len(categories)), np.empty(0, np.uint8))
        add_integers(table.slots, np.array(categories, np.int64))
        return table


def _free_slots(n_categories: int) -> NDArray[np.uint64]:
    return np.full((1 << (4 * n_categories).bit_length(), 4), FREE)


@intrinsic
def word_at(typingctx: Any, data: Any, start: Any) -> Any:  # noqa: ARG001 - Numba asks for them
    """The eight bytes of uint8[n] ``data`` from ``start`` as a uint64, from any address; checks nothing."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        place = builder.gep(array.data, [arguments[1]])
        return builder.load(builder.bitcast(place, ir.IntType(64).as_pointer()), align=1)

    return types.uint64(data, types.intp), emit


@inlined
def head_of(data: NDArray[np.uint8], start: int, size: int) -> np.uint64:
    """The first eight bytes of a string, zeros after its end."""
    if size >= WORD:
        return word_at(data, start)
    if start + WORD <= len(data):
        return word_at(data, start) & ((np.uint64(1) << np.uint64(WORD * size)) - np.uint64(1))
    head = np.uint64(0)
    for place in range(size):
        head |= np.uint64(data[start + place]) << np.uint64(WORD * place)
    return head


@inlined
def tail_of(data: NDArray[np.uint8], start: int, size: int) -> np.uint64:
    """The last eight bytes of a string that has more than eight, else 0."""
    return word_at(data, start + size - WORD) if size > WORD else np.uint64(0)


@inlined
def first_slot(head: np.uint64, tail: np.uint64, size: int, n_slots: int) -> np.uint64:
    """Where the search begins."""
    mixed = (head ^ (tail * _MIX_TAIL) ^ np.uint64(size)) * _MIX
    mixed = (mixed ^ (mixed >> _HALF)) * _MIX
    return (mixed >> _HALF) & np.uint64(n_slots - 1)


@kernel
def find_strings(
    slots: NDArray[np.uint64],
    text: NDArray[np.uint8],
    offsets: NDArray[Any],
    data: NDArray[np.uint8],
    unseen: float,
    out: NDArray[Any],
) -> None:
    """Write the code of each string, ``unseen`` for those that are no category.

    Args:
        slots: Of a ``CategoryTable``.
        text: Of the same.
        offsets: int32 or int64[n + 1]; string ``i`` is ``data[offsets[i] : offsets[i + 1]]``. Offsets
            outside of ``data`` count as unseen, so that foreign bytes are never read.
        data: uint8.
        unseen: A number or NaN.
        out: float[n].
    """
    last = np.uint64(len(slots) - 1)
    for row in range(len(out)):
        start, end = np.int64(offsets[row]), np.int64(offsets[row + 1])
        code = np.int64(-1)
        if 0 <= start <= end <= len(data):
            size = end - start
            head, tail = head_of(data, start, size), tail_of(data, start, size)
            slot = first_slot(head, tail, size, len(slots))
            while slots[slot, SIZE_AND_CODE] != FREE:
                found = slots[slot, SIZE_AND_CODE]
                same = (slots[slot, HEAD] == head) & (slots[slot, TAIL] == tail)
                if same & (found >> _HALF == np.uint64(size)):
                    text_start = np.int64(slots[slot, START])
                    for place in range(WORD, size - WORD):
                        same &= text[text_start + place] == data[start + place]
                    if same:
                        code = np.int64(found & _LOW_HALF)
                        break
                slot = (slot + np.uint64(1)) & last
        out[row] = code if code >= 0 else unseen


@kernel
def find_integers(
    slots: NDArray[np.uint64], values: NDArray[np.int64], unseen: float, out: NDArray[Any]
) -> None:
    """The same for int64[n] ``values``."""
    last = np.uint64(len(slots) - 1)
    for row in range(len(out)):
        head = np.uint64(values[row])
        slot = first_slot(head, np.uint64(0), WORD, len(slots))
        while (slots[slot, SIZE_AND_CODE] != FREE) & (slots[slot, HEAD] != head):
            slot = (slot + np.uint64(1)) & last
        found = slots[slot, SIZE_AND_CODE]
        out[row] = unseen if found == FREE else np.int64(found & _LOW_HALF)


@kernel
def add_strings(slots: NDArray[np.uint64], text: NDArray[np.uint8], offsets: NDArray[np.int64]) -> None:
    """Enter the strings of ``text`` into free slots; ``offsets`` int64[C + 1]."""
    for code in range(len(offsets) - 1):
        start, size = offsets[code], offsets[code + 1] - offsets[code]
        head, tail = head_of(text, start, size), tail_of(text, start, size)
        slot = enter(slots, head, tail, size, code)
        slots[slot, START] = start


@kernel
def add_integers(slots: NDArray[np.uint64], values: NDArray[np.int64]) -> None:
    """Enter int64[C] ``values`` into free slots."""
    for code in range(len(values)):
        enter(slots, np.uint64(values[code]), np.uint64(0), WORD, code)


@inlined
def enter(slots: NDArray[np.uint64], head: np.uint64, tail: np.uint64, size: int, code: int) -> np.uint64:
    """Take the first free slot from a category's own on, and return it."""
    slot = first_slot(head, tail, size, len(slots))
    while slots[slot, SIZE_AND_CODE] != FREE:
        slot = (slot + np.uint64(1)) & np.uint64(len(slots) - 1)
    slots[slot, HEAD] = head
    slots[slot, TAIL] = tail
    slots[slot, SIZE_AND_CODE] = (np.uint64(size) << _HALF) | np.uint64(code)
    return slot
