"""Figures of a load test and of a search for capacity."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter

from engine.pages.figures import ACCENT, GRID, INK, MUTED, SECOND, THIRD, WARNING, draw, milliseconds_axis
from load_tests.capacity.search import Capacity, Trial, keeps
from load_tests.results.result import LoadResult, Moment

_PERCENTILES: tuple[tuple[str, str, Callable[[Moment], float | None]], ...] = (
    ("p50", ACCENT, lambda moment: moment.p50_s),
    ("p90", THIRD, lambda moment: moment.p90_s),
    ("p99", SECOND, lambda moment: moment.p99_s),
    ("p99.9", WARNING, lambda moment: moment.p999_s),
)


def latency_over_time(result: LoadResult) -> Markup:
    """Percentiles in each second."""

    def plot(axes: Axes) -> None:
        for name, colour, pick in _PERCENTILES:
            points = [(moment.second + 0.5, pick(moment)) for moment in result.moments]
            known = [(at, 1000 * value) for at, value in points if value is not None]
            axes.plot([at for at, _ in known], [ms for _, ms in known], color=colour, label=name)
        if result.verdict:
            axes.axhline(
                1000 * result.verdict.promise.limit_s, color=INK, linewidth=0.9, linestyle=(0, (2, 2))
            )
        _logarithmic(axes)
        axes.set(xlabel="second of the run", ylabel="latency, ms", xlim=(0, result.load.duration_s))
        axes.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))

    return draw("percentiles", "Percentiles of latency in each second", plot)


def _logarithmic(axes: Axes) -> None:
    axes.set_yscale("log")
    lowest, highest = axes.get_ylim()
    steps = (1.0, 2.0, 5.0) if highest > 10 * lowest else range(1, 10)  # else there may be one tick or none
    axes.yaxis.set_major_locator(LogLocator(subs=steps))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def outcomes_over_time(result: LoadResult) -> Markup:
    """Requests answered, shed and failed in each second."""

    def plot(axes: Axes) -> None:
        moments = [moment for moment in result.moments if moment.second < math.ceil(result.load.duration_s)]
        seconds = [moment.second + 0.5 for moment in moments]
        layers = [[moment.ok for moment in moments]]
        labels, colours = ["answered"], [ACCENT]
        if result.shed:
            layers, labels = [*layers, [m.shed for m in moments]], [*labels, "shed"]
            colours.append(SECOND)
        if result.failed:
            layers, labels = [*layers, [m.failed for m in moments]], [*labels, "failed"]
            colours.append(WARNING)
        axes.stackplot(seconds, *layers, colors=colours, labels=labels, alpha=0.28, linewidth=0)
        axes.plot(seconds, layers[0], color=ACCENT)
        axes.set(xlabel="second of the run", ylabel="requests a second", xlim=(0, result.load.duration_s))
        axes.set_ylim(0)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        if len(labels) > 1:
            axes.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))

    return draw("outcomes", "Requests in each second by outcome", plot)


def distribution(result: LoadResult) -> Markup:
    """The client's distribution of latency, and the engine's own beside it."""

    def plot(axes: Axes) -> None:
        client = result.cdf
        points = list(client)
        axes.plot([at for at, _ in client], [share for _, share in client], color=ACCENT, label="client")
        if result.server:
            seen = [(edge, share) for edge, share in result.server.cdf if 0 < share < 1]
            points += seen
            edges, shares = [edge for edge, _ in seen], [share for _, share in seen]
            axes.plot(edges, shares, color=SECOND, marker="o", markersize=3, linewidth=1.2, label="engine")
            axes.legend(loc="lower right")
        if result.verdict:
            axes.axvline(result.verdict.promise.limit_s, color=INK, linewidth=0.9, linestyle=(0, (2, 2)))
        milliseconds_axis(axes, [at for at, _ in points])
        axes.set(ylabel="share of requests", ylim=(0, 1.03))
        axes.yaxis.set_major_formatter(PercentFormatter(1))

    return draw("distribution", "Distribution of latency", plot)


def batch_sizes(result: LoadResult) -> Markup:
    """How many rows the engine scored together."""
    bars = result.server.batch_rows if result.server else ()

    def plot(axes: Axes) -> None:
        axes.bar(range(len(bars)), [n for _, n in bars], color=ACCENT, alpha=0.75, width=0.7)
        axes.set_xticks(range(len(bars)), [f"≤ {edge:g}" if edge > 1 else "1" for edge, _ in bars])
        axes.set(xlabel="rows in a batch", ylabel="batches")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))

    return draw("batches", "Batches by size", plot)


def machine_over_time(result: LoadResult) -> Markup:
    """Processor use of machine and engine."""

    def plot(axes: Axes) -> None:
        times = [moment.at_s for moment in result.machine]
        axes.plot(
            times, [100 * m.machine for m in result.machine], color=MUTED, label="machine, % of all cores"
        )
        if all(moment.engine_cores is not None for moment in result.machine):
            engine = [100 * (moment.engine_cores or 0.0) for moment in result.machine]
            axes.plot(times, engine, color=ACCENT, label="engine, % of one core")
        axes.set(xlabel="seconds", ylabel="processor, %")
        axes.set_ylim(0)
        axes.legend(ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))

    return draw("processor", "Use of processors", plot)


def memory_over_time(result: LoadResult) -> Markup:
    """Resident memory of the engine."""

    def plot(axes: Axes) -> None:
        times = [moment.at_s for moment in result.machine]
        sizes = [(moment.engine_bytes or 0) / 2**20 for moment in result.machine]
        axes.plot(times, sizes, color=ACCENT)
        axes.set(xlabel="seconds", ylabel="resident memory, MiB")
        axes.set_ylim(0, 1.1 * max(sizes, default=0.0) or 1.0)  # a flat line would lie on the frame

    return draw("memory", "Resident memory of the engine", plot)


def capacity_curve(capacity: Capacity) -> Markup:
    """Latency against throughput, up to the capacity and beyond."""

    def plot(axes: Axes) -> None:
        measured: dict[str, Any] = {"marker": "o", "markersize": 3.5}
        simulated: dict[str, Any] = {"linewidth": 1.0, "linestyle": (0, (4, 2))}
        _percentiles_by_rate(axes, capacity.curve, "", measured)
        _percentiles_by_rate(axes, capacity.predicted_curve, ", simulated", simulated)
        limit_ms = 1000 * capacity.promise.limit_s
        axes.axhline(limit_ms, color=INK, linewidth=0.9, linestyle=(0, (2, 2)))
        axes.axvline(capacity.rate, color=GRID, linewidth=1.4)
        axes.annotate(
            f"{capacity.promise}",
            (capacity.curve[0].rate, limit_ms),
            (0, 4),
            textcoords="offset points",
            fontsize=9,
        )
        _logarithmic(axes)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.set(xlabel="Poisson arrivals a second", ylabel="latency, ms")
        axes.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0), columnspacing=1.0)

    return draw("curve", "Latency against throughput", plot)


def _percentiles_by_rate(axes: Axes, trials: Sequence[Trial], suffix: str, style: dict[str, Any]) -> None:
    answered = [trial for trial in trials if trial.p50_s and trial.p99_s]
    if not answered:
        return
    rates = [trial.rate for trial in answered]
    for name, colour in (("p50", ACCENT), ("p99", SECOND)):
        ms = [1000 * getattr(trial, f"{name}_s") for trial in answered]
        axes.plot(rates, ms, color=colour, label=f"{name}{suffix}", **style)


def search_path(capacity: Capacity) -> Markup:
    """The rates tried, in order, and whether they held."""

    def plot(axes: Axes) -> None:
        for held, marker, colour, label in ((True, "o", ACCENT, "kept"), (False, "x", WARNING, "missed")):
            found = [
                (turn, trial.rate)
                for turn, trial in enumerate(capacity.trials, 1)
                if keeps(capacity.promise, trial) is held
            ]
            axes.plot(
                [turn for turn, _ in found],
                [rate for _, rate in found],
                marker,
                color=colour,
                markersize=5,
                label=label,
            )
        if capacity.rate:
            axes.axhline(capacity.rate, color=GRID, linewidth=1.4)
        axes.set(xlabel="run", ylabel="Poisson arrivals a second")
        axes.set_ylim(0, 1.05 * max(trial.rate for trial in capacity.trials))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.legend(ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))

    return draw("search", "Rates tried", plot)
