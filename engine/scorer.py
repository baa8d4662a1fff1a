"""The scorer: a loaded bundle and the only caller of its model, in bulk and for single requests alike.

A row's score does not depend on the door it came through, on its neighbours, on the batch size or on
the thread. Prepare makes the numbers, a backend the margins, a link the scores.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.after import NOTHING, fits, made_of_scores
from engine.bundle import Bundle, DeviceChoice, Manifest, read_bundle
from engine.errors import BadRow, InvalidBundle, InvalidConfig, InvalidTable
from engine.prepare.preparer import Columns, Preparer
from engine.schema import Schema
from kernels.scores.links import link_between

if TYPE_CHECKING:
    import polars as pl

    from kernels.forests.counting import Counting

BACKENDS = {
    "forest": "engine.backends.forest",
    "linear": "engine.backends.linear",
    "dense": "engine.backends.dense",
    "onnx": "engine.backends.onnx",
}
"""The module whose ``load(bundle)`` makes the backend; imported when a bundle wants it."""

WARM_ROWS = (1, 16, 32, 64, 256, 2048)
"""Batch sizes which between them take every path through a kernel."""
NAMED_ROWS = 3
"""Bad rows that an error names."""


class Backend(Protocol):
    """Computes margins. Calls may run at the same time in several threads."""

    @property
    def name(self) -> str:
        """The kernel or runtime at work, for people."""

    @property
    def n_outputs(self) -> int:
        """Margins per row."""

    @property
    def margin_dtype(self) -> np.dtype:
        """float32 or float64, the type of ``out``."""

    def score_rows(self, X: NDArray[Any], out: NDArray[Any]) -> None:
        """Write the margins of a C-order block [n, F] to ``out``, C-order [n, K]."""

    def score_columns(self, columns: Sequence[NDArray[Any]], out: NDArray[Any]) -> None:
        """The same for F contiguous columns of n values each."""


class Scorer:
    """One revision of a model, ready to score.

    Attributes:
        manifest: The bundle's.
        revision: The bundle's digest.
        label: ``name@revision``, shortened.
        preparer: Turns data into the blocks and columns that the other methods take.
        bin_counts: What counts in which bins features fall; None unless asked for.
    """

    def __init__(self, bundle: Bundle, backend: Backend, bin_counts: "Counting | None" = None) -> None:
        self.manifest: Manifest = bundle.manifest
        self.revision: str = bundle.revision
        self.label: str = bundle.label
        self.preparer = Preparer(bundle.manifest.schema)
        self.bin_counts = bin_counts
        self._backend = backend
        self._dtype = np.dtype(self.schema.output.type)
        # At hand, since a single row feels each step from the scorer to its backend's kernel.
        self._n_outputs, self._margin_dtype = backend.n_outputs, backend.margin_dtype
        link = bundle.manifest.link
        self._apply_link = link_between(link.name, link.scale, self._margin_dtype, self._dtype)
        self._in_place = self._margin_dtype == self._dtype
        self._after = bundle.manifest.after or NOTHING
        self._finished = self._in_place and link.name == "identity" and self._after == NOTHING
        _check_outputs(bundle, backend)

    @cached_property
    def _margins_of_rows(self) -> Callable[[NDArray[Any], NDArray[Any]], None]:
        return self._backend.score_rows

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], *, device: DeviceChoice = "bundle", count_bins: bool = False
    ) -> Self:
        """Read a bundle, verify it and choose its backend.

        Args:
            path: The bundle's directory.
            device: ``bundle`` is what the model was packed for; ``auto`` uses a GPU, where there is one, for
                batches so large that it is faster, ``cuda`` for all.
            count_bins: Count the bins of one row in 61 while it is scored, see ``bin_counts``.

        Raises:
            InvalidBundle: It is not intact.
            InvalidConfig: No such device, or bins are to be counted where none are made: only forests on
                the CPU make them.
            Failed: ``cuda`` was asked for where there is no GPU.
        """
        if device not in get_args(DeviceChoice):
            known = ", ".join(get_args(DeviceChoice))
            raise InvalidConfig(f"expected one of the devices {known}, got '{device}'")
        bundle = read_bundle(path)
        device = bundle.manifest.device_for(device)
        kind = bundle.manifest.kind
        backend = import_module(BACKENDS[kind])
        if not count_bins:
            return cls(bundle, backend.load(bundle, device))
        if kind != "forest" or device != "cpu":
            raise InvalidConfig(
                f"expected a forest on device cpu to count bins of, got bundle {bundle.label} of kind {kind}"
                f" on device {device}; load it without count_bins"
            )
        return cls(bundle, *backend.load_counting(bundle))

    @property
    def schema(self) -> Schema:
        """The features and the output."""
        return self.manifest.schema

    @property
    def kernel(self) -> str:
        """What computes the margins, for people."""
        return self._backend.name

    def score(
        self,
        table: "pa.Table | pa.RecordBatch | pl.DataFrame",
        *,
        on_bad_row: Literal["fail", "null"] = "fail",
    ) -> pa.Table:
        """Score a table; the answer has the output's columns and the same rows in the same order.

        Args:
            table: Has at least a column for each feature.
            on_bad_row: Whether a row that breaks a rule raises, or has null as its score.

        Raises:
            InvalidTable: A feature's column is missing or of a wrong type.
            BadRow: A row breaks a feature's rule, unless ``on_bad_row`` is ``null``.
        """
        columns = self.preparer.table(_arrow(table))
        if columns.bad and on_bad_row == "fail":
            raise BadRow(_named(columns.bad, columns.n_rows))
        return self.tabulate(self.score_columns(columns), columns.bad)

    def score_columns(self, columns: Columns) -> NDArray[Any]:
        """Scores [n, columns] of prepared columns, and what is made of them; of bad rows, anything."""
        margins = np.empty((columns.n_rows, self._n_outputs), self._margin_dtype)
        self._backend.score_columns(columns.arrays, margins)
        return margins if self._finished else self._answered(margins)

    def score_rows(self, X: NDArray[Any]) -> NDArray[Any]:
        """The same of a prepared block, C-order [n, F] of the schema's type; taken as it is, unchecked."""
        margins = np.empty((len(X), self._n_outputs), self._margin_dtype)
        self._margins_of_rows(X, margins)
        return margins if self._finished else self._answered(margins)

    def tabulate(self, scores: NDArray[Any], bad: Mapping[int, str]) -> pa.Table:
        """Scores [n, columns] as a table with the output's columns, null in bad rows."""
        valid = None
        if bad:
            mask = np.ones(len(scores), np.bool_)
            mask[list(bad)] = False
            valid = pa.py_buffer(np.packbits(mask, bitorder="little"))
        kind = {"float32": pa.float32(), "float64": pa.float64()}[self.schema.output.type]
        # From buffers: ``pa.array`` would import pandas.
        arrays = [
            pa.Array.from_buffers(kind, len(scores), [valid, pa.py_buffer(np.ascontiguousarray(column))])
            for column in scores.T
        ]
        return pa.Table.from_arrays(arrays, names=list(self.schema.output.columns))

    def warm_up(self) -> None:
        """Compile and touch whatever a later call needs, so that none compiles anything."""
        for table in self.preparer.samples():
            self.score(table, on_bad_row="null")
        for n_rows in WARM_ROWS:
            X = np.zeros((n_rows, len(self.schema.features)), self.schema.dtype)
            column = np.zeros(n_rows, self.schema.dtype)
            for block, array in ((X, column), (_read_only(X), _read_only(column))):
                self.score_rows(block)
                self.score_columns(Columns((array,) * X.shape[1], n_rows, {}))
        if self.bin_counts is not None:
            self.bin_counts.forget()

    def _answered(self, margins: NDArray[Any]) -> NDArray[Any]:
        scores = margins if self._in_place else np.empty(margins.shape, self._dtype)
        self._apply_link(margins, scores)
        return made_of_scores(self._after, scores)


def _check_outputs(bundle: Bundle, backend: Backend) -> None:
    columns = bundle.manifest.schema.output.columns
    if not fits(bundle.manifest.after or NOTHING, backend.n_outputs, len(columns)):
        raise InvalidBundle(
            f"the model of bundle {bundle.label} has {backend.n_outputs} outputs, its schema {len(columns)}"
        )


def _arrow(table: Any) -> pa.Table | pa.RecordBatch:
    if hasattr(table, "to_arrow"):
        table = table.to_arrow()
    if not isinstance(table, pa.Table | pa.RecordBatch):
        raise InvalidTable(
            f"expected an Arrow table, a record batch or a Polars frame, got {type(table).__name__};"
            " pyarrow.Table.from_pandas makes a table of a pandas frame"
        )
    return table


def _named(bad: Mapping[int, str], n_rows: int) -> str:
    first = "; ".join(f"row {row}: {bad[row]}" for row in sorted(bad)[:NAMED_ROWS])
    more = f"; and {len(bad) - NAMED_ROWS} more" if len(bad) > NAMED_ROWS else ""
    return f"{len(bad)} of {n_rows} rows cannot be scored: {first}{more}"


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    copy = array.copy()
    copy.flags.writeable = False
    return copy
