"""The way to a device and back: while it scores one chunk of a batch, the next chunk is filled in.

Two slots take turns. Each has a stream and pinned memory, from which a device fetches by itself and much
faster than a processor copies. So a batch takes about as long as one copy of its values within the host's
memory, or as the device's work if that takes longer.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import DTypeLike, NDArray

from kernels.gpu.device import new_stream, pinned, uninitialised

CHUNK_ROWS = 1 << 17
CHUNK_VALUES = 1 << 22
"""Rows, and values of their features, of a chunk; this bounds the memory of a slot."""


class Slot:
    """Room for one chunk, and what is under way in it.

    Attributes:
        n_rows: Rows of the chunk.
        by_rows: Whether it holds all features, row by row; else the used ones, feature by feature.
        feature_step: From a row's feature to the next one in ``values``.
        row_step: From a feature's row to the next one in ``values``.
        values: The chunk's features on the device, flat.
        sums: [capacity, K] on the device; the kernels write the chunk's rows.
        scratch: What else they need there.
        stream: Keeps the steps of a chunk in order.
    """

    n_rows = feature_step = row_step = 0
    by_rows = False

    def __init__(
        self, capacity: int, n_features: int, dtype: DTypeLike, sums: NDArray[Any], scratch: Any
    ) -> None:
        """Room for ``capacity`` rows; ``sums`` is an empty array [0, K] of the margins' type."""
        shape = (capacity, sums.shape[1])
        self.values = uninitialised(capacity * n_features, dtype)
        self.sums = uninitialised(shape, sums.dtype)
        self.scratch = scratch
        self.stream = new_stream()
        self._sent = pinned(capacity * n_features, dtype)
        self._received = pinned(shape, sums.dtype)
        self._out: NDArray[Any] | None = None

    def room(self, n_rows: int, n_features: int, *, by_rows: bool) -> NDArray[Any]:
        """Where to write the values to be sent: [n_rows, n_features] by rows, else [n_features, n_rows]."""
        self.n_rows, self.by_rows = n_rows, by_rows
        self.feature_step, self.row_step = (1, n_features) if by_rows else (n_rows, 1)
        shape = (n_rows, n_features) if by_rows else (n_features, n_rows)
        return self._sent[: n_rows * n_features].reshape(shape)

    def start(self, work: Callable[["Slot"], None], n_values: int, out: NDArray[Any]) -> None:
        """Send so many values, do the work, have the sums sent back; ``finish`` brings them to ``out``."""
        if n_values:
            self.values[:n_values].copy_to_device(self._sent[:n_values], stream=self.stream)
        work(self)
        self.sums[: self.n_rows].copy_to_host(self._received[: self.n_rows], stream=self.stream)
        self._out = out

    def finish(self) -> None:
        """Wait for what is under way, if anything, and write the sums to where they belong."""
        if self._out is not None:
            self.stream.synchronize()
            self._out[...] = self._received[: self.n_rows]
            self._out = None

    def abandon(self) -> None:
        """Wait for what is under way and forget it."""
        self._out = None
        self.stream.synchronize()


def no_scratch(capacity: int) -> None:
    """For kernels that write nothing but the sums."""


class Staging:
    """Scores batches of any size with kernels that score one chunk. Calls from several threads take turns.

    Args:
        work: Starts the kernels for the chunk of a slot, on its stream.
        used: The features that the model uses, in order; of columns only these are sent.
        n_features: All features.
        dtype: The features' type.
        sums: An empty array [0, K] of the margins' type.
        scratch: Makes a slot's scratch, given its number of rows.
    """

    def __init__(
        self,
        work: Callable[[Slot], None],
        used: Sequence[int],
        n_features: int,
        dtype: DTypeLike,
        sums: NDArray[Any],
        scratch: Callable[[int], Any] = no_scratch,
    ) -> None:
        self._work, self._scratch = work, scratch
        self._used, self._n_features, self._dtype, self._sums = used, n_features, dtype, sums
        self._lock = threading.Lock()
        self._capacity, self._slots = 0, list[Slot]()

    def score_rows(self, X: NDArray[Any], out: NDArray[Any]) -> None:
        """Write the sums of ``X`` [n, F] to ``out`` [n, K]."""

        def fill(slot: Slot, rows: slice) -> int:
            room = slot.room(rows.stop - rows.start, self._n_features, by_rows=True)
            room[...] = X[rows]
            return room.size

        self._score(fill, out)

    def score_columns(self, columns: Sequence[NDArray[Any]], out: NDArray[Any]) -> None:
        """The same for ``F`` columns of ``n`` values; those that are not used may be anything."""

        def fill(slot: Slot, rows: slice) -> int:
            room = slot.room(rows.stop - rows.start, len(self._used), by_rows=False)
            for place, feature in enumerate(self._used):
                room[place] = columns[feature][rows]
            return room.size

        self._score(fill, out)

    def _score(self, fill: Callable[[Slot, slice], int], out: NDArray[Any]) -> None:
        with self._lock:
            self._make_room(len(out))
            try:
                for number, start in enumerate(range(0, len(out), self._capacity)):
                    slot = self._slots[number % len(self._slots)]
                    slot.finish()
                    rows = slice(start, min(start + self._capacity, len(out)))
                    slot.start(self._work, fill(slot, rows), out[rows])
                for slot in self._slots:
                    slot.finish()
            except BaseException:
                for slot in self._slots:
                    slot.abandon()
                raise

    def _make_room(self, n_rows: int) -> None:
        """Have slots as large as a batch of ``n_rows`` needs them."""
        width = max(1, self._n_features)
        largest = max(1, min(CHUNK_ROWS, CHUNK_VALUES // width))
        capacity = min(1 << max(0, n_rows - 1).bit_length(), largest)
        if capacity > self._capacity:
            self._slots = [
                Slot(capacity, width, self._dtype, self._sums, self._scratch(capacity)) for _ in range(2)
            ]
            self._capacity = capacity
