"""Measurements of the kernel benchmark and their tables in Markdown."""

import msgspec


class Measurement(msgspec.Struct, frozen=True):
    """A contender's time for one batch size.

    Attributes:
        model: The model's name.
        library: The contender.
        version: Its version.
        about: What it says of itself, for us the kernel.
        n_rows: Rows per call.
        ns_per_row: Median over the rounds.
        ratio: How many times as long as ours in the same round, the median of it; ``None`` without ours.
        rounds: ns per row, round by round.
    """

    model: str
    library: str
    version: str
    about: str
    n_rows: int
    ns_per_row: float
    ratio: float | None
    rounds: tuple[float, ...]


def table(model: str, measurements: list[Measurement]) -> str:
    """A model's measurements in Markdown: ns per row and, in brackets, how many times ours."""
    sizes = sorted({m.n_rows for m in measurements})
    cells = {(m.library, m.n_rows): m for m in measurements}
    lines = [
        f"| {model}: ns per row | " + " | ".join(f"{n:,} rows" for n in sizes) + " |",
        "|---" * (len(sizes) + 1) + "|",
    ]
    for library in dict.fromkeys(m.library for m in measurements):
        row = [cells.get((library, n)) for n in sizes]
        first = next(m for m in row if m)
        label = " ".join(
            part for part in (library, first.version, first.about and f"({first.about})") if part
        )
        lines.append(f"| {label} | " + " | ".join(_cell(m) for m in row) + " |")
    best = [
        _cell_of_best([m for m in measurements if m.n_rows == n and not is_ours(m.library)]) for n in sizes
    ]
    return "\n".join([*lines, f"| **best other / ours** | {' | '.join(best)} |"])


def summary(measurements: list[Measurement]) -> str:
    """All models in one table: our ns per row and how many times that the best other needs."""
    sizes = sorted({m.n_rows for m in measurements})
    lines = [
        "| ns per row, × of the best other | " + " | ".join(f"{n:,} rows" for n in sizes) + " |",
        "|---" * (len(sizes) + 1) + "|",
    ]
    for model in dict.fromkeys(m.model for m in measurements):
        of_model = [m for m in measurements if m.model == model]
        cells = [_cell_of_size([m for m in of_model if m.n_rows == n]) for n in sizes]
        lines.append(f"| {model} | {' | '.join(cells)} |")
    return "\n".join(lines)


def is_ours(library: str) -> bool:
    """Whether a contender is the engine itself."""
    return library.startswith("tandem")


def _cell(measurement: Measurement | None) -> str:
    if measurement is None:
        return "–"
    ratio = "" if not measurement.ratio or measurement.ratio == 1 else f" ({measurement.ratio:.1f}×)"
    return f"{measurement.ns_per_row:,.0f}{ratio}"


def _cell_of_best(others: list[Measurement]) -> str:
    ratios = [other.ratio for other in others if other.ratio is not None]
    return f"**{min(ratios):.1f}×**" if ratios else "–"


def _cell_of_size(of_size: list[Measurement]) -> str:
    ours = next((m for m in of_size if is_ours(m.library)), None)
    if ours is None:
        return "–"
    others = {m.library: m.ratio for m in of_size if m.ratio is not None and not is_ours(m.library)}
    if not others:
        return f"{ours.ns_per_row:,.0f}"
    best = min(others, key=lambda library: others[library])
    return f"{ours.ns_per_row:,.0f}, {others[best]:.1f}× {best}"
