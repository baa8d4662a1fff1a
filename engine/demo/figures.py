"""The demonstration's figures: how good the scores are, how fast they come."""

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from engine.demo.outcome import BatchScores
from engine.pages.figures import ACCENT, GRID, MUTED, SECOND, draw, milliseconds_axis
from load_tests.results.result import LoadResult

N_BINS = 40
N_CALIBRATION_BINS = 12


def roc_figure(batch: BatchScores) -> Markup:
    """The ROC curve of the batch's scores."""

    def plot(axes: Axes) -> None:
        false_positives, true_positives = batch.roc()
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle=(0, (3, 3)))
        axes.plot(false_positives, true_positives, color=ACCENT)
        axes.fill_between(
            false_positives, true_positives, false_positives, color=ACCENT, alpha=0.1, linewidth=0
        )
        axes.text(0.97, 0.06, f"AUC {batch.auc:.3f}", ha="right", fontsize=12, transform=axes.transAxes)
        axes.set(xlabel="punctual flights flagged", ylabel="late flights found", xlim=(0, 1), ylim=(0, 1.01))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1))

    return draw("roc", "ROC curve of the held-out flights", plot)


def score_figure(batch: BatchScores) -> Markup:
    """How scores are spread over late and punctual flights."""

    def plot(axes: Axes) -> None:
        bins = np.linspace(0, 1, N_BINS + 1)
        for late, colour, label in ((False, ACCENT, "punctual"), (True, SECOND, "late")):
            heights, edges = np.histogram(batch.scores[batch.late == late], bins)
            share = heights / heights.sum()
            axes.stairs(share, edges, color=colour, fill=True, alpha=0.16, linewidth=0)
            axes.stairs(share, edges, color=colour, label=label, linewidth=1.5)
        axes.set(xlabel="score: probability of a late arrival", ylabel="share of flights", xlim=(0, 1))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.legend()

    return draw("scores", "Distribution of scores", plot, width=10.6, height=2.7)


def calibration_figure(batch: BatchScores) -> Markup:
    """Scores against what happened, in groups of equally many flights."""

    def plot(axes: Axes) -> None:
        groups = np.array_split(np.argsort(batch.scores), N_CALIBRATION_BINS)
        predicted = [float(batch.scores[group].mean()) for group in groups]
        observed = [float(batch.late[group].mean()) for group in groups]
        top = 1.08 * max(*predicted, *observed)
        axes.plot([0, top], [0, top], color=MUTED, linewidth=0.9, linestyle=(0, (3, 3)))
        axes.plot(predicted, observed, color=ACCENT, marker="o", markersize=4.5)
        axes.set(xlabel="mean score", ylabel="share that was late", xlim=(0, top), ylim=(0, top))
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))

    return draw("calibration", "Calibration of the scores", plot)


def latency_figure(result: LoadResult) -> Markup:
    """The distribution of latency under load."""

    def plot(axes: Axes) -> None:
        latencies = [point[0] for point in result.cdf]
        shares = [point[1] for point in result.cdf]
        axes.plot(latencies, shares, color=ACCENT, drawstyle="steps-post")
        axes.fill_between(latencies, shares, step="post", color=ACCENT, alpha=0.1, linewidth=0)
        for label, latency_s, share in _marks(result):
            axes.plot([latency_s, latency_s], [0, share], color=GRID, linewidth=1.2)
            axes.plot([latency_s], [share], "o", color=ACCENT, markersize=4)
            axes.annotate(label, (latency_s, share), (7, -12), textcoords="offset points", fontsize=9)
        milliseconds_axis(axes, latencies)
        axes.set(ylabel="share of requests", ylim=(0, 1.04))
        axes.yaxis.set_major_formatter(PercentFormatter(1))

    return draw("latency", "Distribution of latency", plot)


def throughput_figure(result: LoadResult) -> Markup:
    """Requests answered in each second of the run."""

    def plot(axes: Axes) -> None:
        whole = [moment for moment in result.moments if moment.second < int(result.load.duration_s)]
        seconds, answered = [moment.second + 0.5 for moment in whole], [moment.ok for moment in whole]
        axes.plot(seconds, answered, color=ACCENT, marker="o", markersize=3.5)
        axes.fill_between(seconds, answered, color=ACCENT, alpha=0.1, linewidth=0)
        axes.set(xlabel="second of the run", ylabel="requests answered", xlim=(0, result.load.duration_s))
        axes.set_ylim(0, 1.12 * max(answered, default=1))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")

    return draw("throughput", "Requests answered each second", plot)


def _marks(result: LoadResult) -> list[tuple[str, float, float]]:
    latency = result.latency
    marks = (("p50", latency.p50_s, 0.5), ("p99", latency.p99_s, 0.99))
    return [(f"{name}  {1000 * at:.2f} ms", at, share) for name, at, share in marks if at is not None]
