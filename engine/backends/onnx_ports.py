"""Which features go to which input of an ONNX graph, and which of its outputs is the score.

Features are dealt in the schema's order to the inputs in the graph's order, each taking as many as
it is wide; a single input of unknown width takes all.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import InvalidBundle, ScoringFailed
from engine.schema import Feature, Schema

DTYPES: dict[str, np.dtype[Any]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(double)": np.dtype(np.float64),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(int64)": np.dtype(np.int64),
    "tensor(int32)": np.dtype(np.int32),
    "tensor(int16)": np.dtype(np.int16),
    "tensor(int8)": np.dtype(np.int8),
    "tensor(uint64)": np.dtype(np.uint64),
    "tensor(uint32)": np.dtype(np.uint32),
    "tensor(uint16)": np.dtype(np.uint16),
    "tensor(uint8)": np.dtype(np.uint8),
    "tensor(bool)": np.dtype(np.bool_),
    "tensor(string)": np.dtype(object),
}
"""NumPy's names for ONNX Runtime's element types."""
FIRST_AMBIGUOUS = 2.0**53
"""From here on, several integers have the same float64."""
MISSING_STRING = ""
"""What a graph of strings gets for a missing value."""


@dataclass(frozen=True, slots=True, eq=False)
class InputPort:
    """One input of a graph.

    Attributes:
        name: The graph's name for it.
        dtype: Its element type; ``object`` for strings.
        rank: 1 for [rows], 2 for [rows, width].
        columns: The features it takes.
        words: Of strings, one object array per feature: its categories, then ``MISSING_STRING``.
    """

    name: str
    dtype: np.dtype
    rank: int
    columns: slice
    words: tuple[NDArray[np.object_], ...] | None

    def shape(self, n_rows: int) -> tuple[int, ...]:
        """The shape that the graph wants for ``n_rows``."""
        return (n_rows, self.columns.stop - self.columns.start)[: self.rank]

    def fill_rows(self, view: NDArray[Any], block: NDArray[Any]) -> None:
        """Write the port's features of n prepared rows to the first rows of ``view``, repeat the last."""
        if self.words is not None or self.dtype.kind != "f":
            for place in range(view.shape[1]):
                self.fill_column(view, place, block[:, place])
            return
        with np.errstate(over="ignore"):
            view[: len(block)] = block
        view[len(block) :] = block[-1]

    def fill_column(self, view: NDArray[Any], place: int, numbers: NDArray[Any]) -> None:
        """The same for the port's feature at ``place`` alone."""
        values = self._values(place, numbers)
        view[: len(values), place] = values
        view[len(values) :, place] = values[-1]

    def _values(self, place: int, numbers: NDArray[Any]) -> NDArray[Any]:
        """Prepared numbers as the graph's values; NaN is in bad rows alone where it has no NaN."""
        if self.words is not None:
            words = self.words[place]
            missing = len(words) - 1
            codes = np.where(np.isnan(numbers), missing, numbers).astype(np.intp)
            return words[np.minimum(codes, missing)]
        if self.dtype.kind == "f":
            return numbers
        whole = np.where(np.isnan(numbers), 0, numbers)
        if self.dtype.itemsize == 8 and (np.abs(whole) >= FIRST_AMBIGUOUS).any():
            raise ScoringFailed(
                f"input '{self.name}' of the graph takes {self.dtype}, but got a number of 2^53 or more in"
                " magnitude, where features are rounded to float64; make it smaller, or a category"
            )
        return whole


@dataclass(frozen=True, slots=True, eq=False)
class OutputPort:
    """The output that is the score.

    Attributes:
        name: The graph's name for it.
        graph_dtype: Its element type.
        rank: 1 for [rows], 2 for [rows, n_outputs].
        n_outputs: Scores per row.
        fixed_rows: The graph's only number of rows, 0 if any will do.
    """

    name: str
    graph_dtype: np.dtype
    rank: int
    n_outputs: int
    fixed_rows: int

    @property
    def dtype(self) -> np.dtype:
        """float32 or float64, which holds the scores."""
        return self.graph_dtype if self.graph_dtype == np.float32 else np.dtype(np.float64)

    def shape(self, n_rows: int) -> tuple[int, ...]:
        """The shape of the output for ``n_rows``."""
        return (n_rows, self.n_outputs)[: self.rank]


def input_ports(session: Any, schema: Schema) -> tuple[InputPort, ...]:
    """The inputs of a session's graph; raises ``InvalidBundle`` if the schema does not fit them."""
    ports: list[InputPort] = []
    start = 0
    inputs = session.get_inputs()
    unknown = len(schema.features) if len(inputs) == 1 else 1
    for found in inputs:
        width = _width(found, unknown)
        ports.append(_input_port(found, schema, slice(start, start + width)))
        start += width
    if start != len(schema.features):
        raise InvalidBundle(
            f"expected {start} features for the graph, got {len(schema.features)} in its schema"
        )
    return tuple(ports)


def output_port(session: Any, inputs: tuple[InputPort, ...], schema: Schema) -> OutputPort:
    """The output named as the schema's, or else the last one of floats; found by scoring some rows."""
    found = [output for output in session.get_outputs() if output.type in DTYPES]
    named = [output for output in found if output.name == schema.output.name]
    floats = [output for output in found if DTYPES[output.type].kind == "f"]
    if not (named or floats):
        raise InvalidBundle("the graph has no output of numbers")
    output = (named or floats)[-1]
    fixed_rows = next((n for n in map(_rows, session.get_inputs()) if n), 0)
    n_rows = fixed_rows or (3 if len(schema.features) == 2 else 2)  # other than columns, and than one
    (scores,) = session.run([output.name], _some_rows(inputs, schema, n_rows))
    if scores.ndim not in (1, 2) or len(scores) != n_rows:
        raise InvalidBundle(f"expected one row of scores per row, got the shape {list(scores.shape)}")
    return OutputPort(output.name, scores.dtype, scores.ndim, scores.size // len(scores), fixed_rows)


def _input_port(found: Any, schema: Schema, columns: slice) -> InputPort:
    dtype = DTYPES.get(found.type)
    if dtype is None or len(found.shape) not in (1, 2):
        raise InvalidBundle(
            f"input '{found.name}' of the graph: expected [rows] or [rows, features] of numbers or"
            f" strings, got {found.type} of shape {found.shape}"
        )
    features = schema.features[columns]
    if dtype.kind in "iub":
        _check_required(found.name, dtype, features)
    words = tuple(map(_words, features)) if dtype.kind == "O" else None
    return InputPort(found.name, dtype, len(found.shape), columns, words)


def _check_required(name: str, dtype: np.dtype, features: tuple[Feature, ...]) -> None:
    for feature in features:
        if not feature.required:
            raise InvalidBundle(
                f"input '{name}' of the graph is of {dtype}, which has no missing value;"
                f" expected feature '{feature.name}' to be required"
            )


def _words(feature: Feature) -> NDArray[np.object_]:
    if feature.type != "category":
        raise InvalidBundle(f"the graph takes strings as feature '{feature.name}'; expected its categories")
    return np.array([*map(str, feature.categories), MISSING_STRING], object)


def _some_rows(inputs: tuple[InputPort, ...], schema: Schema, n_rows: int) -> dict[str, NDArray[Any]]:
    zeros = np.zeros((n_rows, len(schema.features)))
    rows = {port.name: np.zeros(port.shape(n_rows), port.dtype) for port in inputs}
    for port in inputs:
        port.fill_rows(rows[port.name].reshape(n_rows, -1), zeros[:, port.columns])
    return rows


def _width(found: Any, unknown: int) -> int:
    width = found.shape[1] if len(found.shape) == 2 else 1
    return width if isinstance(width, int) else unknown


def _rows(found: Any) -> int:
    return found.shape[0] if found.shape and isinstance(found.shape[0], int) else 0
