"""Counts as Prometheus text, rendered when somebody asks."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate

from engine.realtime.counting.counters import FAMILIES, Family

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


def render(cells: Mapping[str, Sequence[int]]) -> bytes:
    """Prometheus text of each model's cells, added over replicas; by name, as ``ModelCounters`` counts."""
    lines: list[str] = []
    at = 0
    for family in FAMILIES:
        lines += [f"# HELP {family.name} {family.help}", f"# TYPE {family.name} {family.kind}"]
        for model, counts in cells.items():
            lines += _family_lines(family, model, counts, at)
        at += family.n_cells * len(list(family.series()))
    return ("\n".join(lines) + "\n").encode()


def _family_lines(family: Family, model: str, counts: Sequence[int], at: int) -> Iterator[str]:
    for values in family.series():
        labels = [
            ("model", model),
            *((name, value) for (name, _), value in zip(family.labels, values, strict=True)),
        ]
        text = ",".join(f'{name}="{value}"' for name, value in labels)
        if family.bounds:
            yield from _histogram_lines(family, text, counts[at : at + family.n_cells])
        elif counts[at] or not family.labels or family.is_shown_at_0:
            value = counts[at] / 1e9 if family.name.endswith("_seconds_total") else counts[at]
            yield f"{family.name}{{{text}}} {value}"
        at += family.n_cells


def _histogram_lines(family: Family, labels: str, counts: Sequence[int]) -> Iterator[str]:
    *buckets, total = counts
    running = list(accumulate(buckets))
    for bound, count in zip((*family.bounds, float("inf")), running, strict=True):
        text = "+Inf" if bound == float("inf") else f"{bound:g}"
        yield f'{family.name}_bucket{{{labels},le="{text}"}} {count}'
    in_seconds = family.name.endswith("_seconds")
    yield f"{family.name}_sum{{{labels}}} {total / 1e9 if in_seconds else total}"
    yield f"{family.name}_count{{{labels}}} {running[-1]}"
