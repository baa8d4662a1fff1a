"""A linear model behind transforms as plain arrays: what an importer writes and the kernel reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from kernels.linear.quantiles import quantile_arrays, quantiles_of
from kernels.linear.tables import CODES, Table
from kernels.linear.transforms import Transform

STEPS = ("impute", "low", "high", "log1p", "shift", "scale")
"""The fields of a ``Transform``, one array each."""
CURVE_STEPS = {"curve_shift": 0.0, "curve_scale": 1.0, "power": np.nan, "box_cox": np.nan}
"""More fields, each with an array only where some transform has another value than this."""


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """T weighed terms and M tables over raw features, K outputs.

    Attributes:
        coef: float64[K, T].
        intercept: float64[K].
        sources: The place of each term's feature.
        transforms: One per term.
        tables: What is looked up beside.
    """

    coef: NDArray[np.float64]
    intercept: NDArray[np.float64]
    sources: Sequence[int]
    transforms: Sequence[Transform]
    tables: Sequence[Table] = ()

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """All of it as arrays, as ``numpy.savez`` wants them."""
        n_outputs = len(self.intercept)
        edges = [np.zeros(0) if table.edges is None else table.edges for table in self.tables]
        sizes = [CODES if table.edges is None else len(table.edges) for table in self.tables]
        weights = [table.weights for table in self.tables]
        fields = (*STEPS, *CURVE_STEPS)
        steps = {step: [getattr(transform, step) for transform in self.transforms] for step in fields}
        for step, usual in CURVE_STEPS.items():
            if np.array_equal(steps[step], [usual] * len(self.transforms), equal_nan=True):
                del steps[step]
        return {
            "term_coef": self.coef,
            "intercept": self.intercept,
            "term_source": np.array(self.sources, np.int64),
            **{f"term_{step}": np.array(values, _type(step)) for step, values in steps.items()},
            **quantile_arrays([transform.quantiles for transform in self.transforms]),
            "table_source": np.array([table.source for table in self.tables], np.int64),
            "table_n_edges": np.array(sizes, np.int64),
            "table_n_entries": np.array([len(table.weights) for table in self.tables], np.int64),
            "table_edges": np.concatenate([*edges, np.zeros(0)]),
            "table_weights": np.concatenate([*weights, np.zeros((0, n_outputs))]),
        }  # fmt: skip

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """The inverse of ``arrays``; raises ``KeyError``, or ``ValueError`` for arrays that do not fit."""
        _check_shapes(arrays)
        n_terms = len(arrays["term_source"])
        given = [arrays[f"term_{step}"].tolist() for step in STEPS]
        absent = {f"term_{step}": np.full(n_terms, value) for step, value in CURVE_STEPS.items()}
        given += [{**absent, **arrays}[name].tolist() for name in absent]
        given.append(quantiles_of(arrays, n_terms))
        return cls(
            coef=arrays["term_coef"],
            intercept=arrays["intercept"],
            sources=arrays["term_source"].tolist(),
            transforms=[Transform(*values) for values in zip(*given, strict=True)],
            tables=_tables(arrays),
        )

    def fault(self, n_features: int) -> str | None:
        """What is wrong with them over ``n_features`` columns; None if the kernel can run safely."""
        sources = [*self.sources, *(table.source for table in self.tables)]
        if any(not 0 <= source < n_features for source in sources):
            return f"a term of feature {max(sources)} or {min(sources)} of {n_features}"
        if any(transform.scale == 0 or transform.curve_scale == 0 for transform in self.transforms):
            return "a term is divided by 0"
        for transform in self.transforms:
            if transform.quantiles and (wrong := transform.quantiles.fault()):
                return wrong
        for table in self.tables:
            if len(table.weights) < 2:
                return "a table has no entry"
            if table.edges is None:
                continue
            if len(table.weights) != len(table.edges) + 2 or not (np.diff(table.edges) > 0).all():
                return "a table's edges do not ascend, or are not one less than its intervals"
        return None


def _type(step: str) -> type:
    return np.bool_ if step == "log1p" else np.float64


def _check_shapes(arrays: Mapping[str, NDArray[Any]]) -> None:
    n_outputs, n_terms = len(arrays["intercept"]), len(arrays["term_source"])
    n_tables, n_entries = len(arrays["table_source"]), int(arrays["table_n_entries"].sum())
    wanted: dict[str, tuple[tuple[int, ...], type]] = {
        "term_coef": ((n_outputs, n_terms), np.float64),
        "intercept": ((n_outputs,), np.float64),
        "term_source": ((n_terms,), np.int64),
        **{f"term_{step}": ((n_terms,), _type(step)) for step in STEPS},
        **{name: ((n_terms,), np.float64) for step in CURVE_STEPS if (name := f"term_{step}") in arrays},
        "table_source": ((n_tables,), np.int64),
        "table_n_edges": ((n_tables,), np.int64),
        "table_n_entries": ((n_tables,), np.int64),
        "table_edges": ((int(arrays["table_n_edges"].clip(0).sum()),), np.float64),
        "table_weights": ((n_entries, n_outputs), np.float64),
    }
    for name, (shape, dtype) in wanted.items():
        if arrays[name].shape != shape or arrays[name].dtype != dtype:
            raise ValueError(
                f"'{name}' is {arrays[name].dtype}{list(arrays[name].shape)},"
                f" not {np.dtype(dtype).name}{list(shape)}"
            )


def _tables(arrays: Mapping[str, NDArray[Any]]) -> list[Table]:
    sizes = arrays["table_n_edges"]
    edges = np.split(arrays["table_edges"], np.cumsum(sizes.clip(0)))
    weights = np.split(arrays["table_weights"], np.cumsum(arrays["table_n_entries"]))
    return [
        Table(source, None if size == CODES else edges[index], weights[index])
        for index, (source, size) in enumerate(zip(arrays["table_source"].tolist(), sizes, strict=True))
    ]
