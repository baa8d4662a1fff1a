"""Matplotlib figures as inline SVG whose colours and font follow the page, in light and dark.

Figures are drawn in placeholder colours; the SVG names the page's CSS variables in their stead.
"""

import io
import re
from collections.abc import Callable, Sequence
from typing import Any, cast

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

WIDTH, HEIGHT = 5.2, 3.1
INK, MUTED, GRID = "#010203", "#010204", "#010205"
ACCENT, SECOND, THIRD, WARNING = "#010206", "#010207", "#010208", "#010209"
_VARIABLES = {
    INK: "--ink", MUTED: "--muted", GRID: "--line",
    ACCENT: "--accent", SECOND: "--second", THIRD: "--third", WARNING: "--warning",
}  # fmt: skip
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none", "font.size": 10.0, "text.color": INK,
    "axes.edgecolor": GRID, "axes.labelcolor": MUTED, "axes.labelsize": 9.5, "axes.linewidth": 0.8,
    "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False,
    "axes.grid": True, "axes.grid.axis": "y", "axes.axisbelow": True,
    "grid.color": GRID, "grid.linewidth": 0.7,
    "xtick.color": GRID, "ytick.color": GRID, "xtick.labelcolor": MUTED, "ytick.labelcolor": MUTED,
    "xtick.labelsize": 9, "ytick.labelsize": 9, "ytick.left": False, "xtick.major.size": 3.0,
    "lines.linewidth": 1.7, "lines.solid_capstyle": "round",
    "legend.frameon": False, "legend.fontsize": 9, "legend.labelcolor": MUTED,
}  # fmt: skip
_FONT = re.compile(r"(font-family: |font: [^;\"]*?px )[^;\"]*")
_SIZE = re.compile(r'(<svg[^>]*?) width="[^"]*"| height="[^"]*"(?=[^>]*viewBox)')


def draw(
    name: str, label: str, plot: Callable[[Axes], None], *, width: float = WIDTH, height: float = HEIGHT
) -> Markup:
    """A figure as an ``<svg>`` element; a wide one as two, of which a narrow window shows the narrower.

    Args:
        name: Unique in its page; keeps the figures' internal names apart.
        label: What it shows, for those who do not see it.
        plot: Draws on the axes.
        width: In inches of 72 points; the page scales it.
        height: Likewise.
    """
    svg = _drawn(name, label, plot, width, height)
    if width > WIDTH:
        narrow = _drawn(f"{name}-narrow", label, plot, WIDTH, max(height, HEIGHT))
        svg = f'<div class="broad">{svg}</div><div class="narrow">{narrow}</div>'
    return Markup(svg)  # noqa: S704 - our own drawing, labels escaped by matplotlib


def _drawn(name: str, label: str, plot: Callable[[Axes], None], width: float, height: float) -> str:
    with mpl.rc_context(cast("Any", _STYLE | {"svg.hashsalt": name})):
        figure = Figure(figsize=(width, height), layout="constrained")
        plot(figure.add_subplot())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return _themed(buffer.getvalue(), name, label)


def milliseconds_axis(axes: Axes, seconds: Sequence[float], *, unit: str = "latency") -> None:
    """A logarithmic x axis over latencies in seconds, labelled in milliseconds."""
    axes.set_xscale("log")
    axes.set_xlim(min(seconds) * 0.9, max(seconds) * 1.1)
    ticks = [tick for tick in _ROUND_S if min(seconds) * 0.9 <= tick <= max(seconds) * 1.1]
    axes.set_xticks(ticks[:: max(1, len(ticks) // 6)])
    axes.set_xticks([], minor=True)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{1000 * value:g}"))
    axes.set_xlabel(f"{unit}, ms")


_ROUND_S = [step * 10.0**power for power in range(-6, 3) for step in (1, 2, 5)]


def _themed(svg: str, name: str, label: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    svg = _FONT.sub(r"\1var(--font)", svg)
    svg = re.sub(r'id="(figure|axes|patch|line2d|text|xtick|ytick|matplotlib|legend)[^"]*"', "", svg)
    return _SIZE.sub(r"\1", svg).replace(
        "<svg", f'<svg role="img" aria-label="{label}" class="figure-{name}"', 1
    )
