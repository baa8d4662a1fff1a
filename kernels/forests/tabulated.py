"""What the kernels over a forest's tables have in common: how machine code comes by them."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from kernels.compiler import entry
from kernels.forests.bin_counts import NO_TALLY, Tally
from kernels.forests.ending import sum_dtype
from kernels.forests.forest import Forest
from kernels.parts import addresses_of, over_arrays


class Tabulated:
    """Scores a forest by tables made of it; a kind of them says how they are made, and who reads them.

    Machine code is loaded when it is first asked for: a batch job needs none for rows.

    Attributes:
        name: Of the kind.
        part_names: Of its tables.
        arrays: Its tables, as ``part_names`` says; made from the forest unless given.
        model: Where they are, with those of a tally: int64[n, 2], the argument of the kernels.
        examples: Of the arguments of ``rows_kernel``.
    """

    name: ClassVar[str]
    part_names: ClassVar[tuple[str, ...]]
    tables_of: ClassVar[Callable[[Forest, DTypeLike], Sequence[NDArray[Any]]]]
    rows_kernel: ClassVar[Callable[..., None]]
    columns_kernel: ClassVar[Callable[..., None]]

    def __init__(
        self,
        forest: Forest,
        dtype: DTypeLike,
        arrays: Sequence[NDArray[Any]] | None = None,
        tally: Tally = NO_TALLY,
    ) -> None:
        self.arrays = type(self).tables_of(forest, dtype) if arrays is None else arrays
        self.model = addresses_of((*self.arrays, *tally))
        self.examples = self.model.ctypes.data, np.empty((1, 1), dtype), np.empty((1, 1), sum_dtype(forest))
        self._tally = tally
        self._value = np.empty(1, dtype)

    @cached_property
    def score_rows(self) -> Callable[[NDArray[Any], NDArray[Any]], None]:
        """Writes the margins of ``X`` (C-order [n, F]) to ``out`` (C-order [n, K])."""
        machine_code = entry(type(self).rows_kernel, *self.examples)
        return over_arrays(machine_code, self.model, (*self.arrays, *self._tally))

    def score_columns(self, columns: Sequence[NDArray[Any]], out: NDArray[Any]) -> None:
        """The same for ``F`` contiguous columns of ``n`` values."""
        addresses = np.array([column.ctypes.data for column in columns], np.int64)
        self._score_columns(self.model.ctypes.data, addresses, self._value, out)

    @cached_property
    def _score_columns(self) -> Callable[..., None]:
        address, _, margins = self.examples
        return entry(type(self).columns_kernel, address, np.empty(1, np.int64), self._value, margins)
