"""A soak as a self-contained page: all of it over one axis of time, then the checks and what was held."""

import datetime
from collections.abc import Callable, Iterable
from pathlib import Path

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from engine.pages.figures import ACCENT, INK, MUTED, SECOND, THIRD, WARNING, draw
from engine.pages.machine import machine
from engine.pages.rendering import to_the_minute, write_page
from load_tests.soak.growth import MIB
from load_tests.soak.looks import REPLICA, REST, SERVER, Look, Moment
from load_tests.soak.result import Growth, Report, Soak

PACKAGES = ("tandem-scoring", "ray", "numba", "numpy", "pyarrow")
Value = Callable[[Look], float]
Plot = Callable[[Axes, Soak], None]


def write_soak_page(report: Report, path: Path) -> Path:
    """Write the page of a soak; returns ``path``."""
    soak = report.soak
    values: dict[str, object] = {
        "title": "Soak test",
        "kicker": f"Tandem · soak test · {to_the_minute(datetime.datetime.now())}",
        "headline": _headline(report),
        "lead": describe(soak),
        "facts": _facts(soak),
        "checks": report.checks,
        "caption": _caption(soak),
        "timeline": timeline(soak),
        "tables": _tables(report),
        "command": soak.setting.command,
        "machine": machine(PACKAGES),
    }
    return write_page(path, "load_tests.soak", "soak.html", values)


def _headline(report: Report) -> str:
    failed = [check.name for check in report.checks if not check.holds]
    if len(failed) > 1:
        return f"{len(failed)} of {len(report.checks)} checks failed."
    return f"Failed: {failed[0]}." if failed else "Everything held."


def describe(soak: Soak) -> str:
    """A soak in a sentence or two."""
    setting = soak.setting
    replicas = f", {setting.n_replicas} replicas" if setting.n_replicas else ""
    return (
        f"The engine {setting.engine}{replicas}: {setting.duration_s:,.0f} s of {setting.rate:g} requests"
        f" a second from {setting.n_users} users, in JSON, binary tensors and Arrow over HTTP and over gRPC,"
        " of 1 and 32 rows."
        f" {_happened(soak)}."
    )


def _happened(soak: Soak) -> str:
    events = (("batch job", soak.jobs), ("reload", soak.reloads), ("killed replica", soak.kills))
    counts = [f"{len(found)} {name}{'s' if len(found) > 1 else ''}" for name, found in events if found]
    return " · ".join(counts) or "Nothing else happened"


def _caption(soak: Soak) -> str:
    marks = "Dashed: reloads. Solid red: killed replicas. " if soak.setting.n_replicas else ""
    return f"{marks}Shaded: batch jobs."


def timeline(soak: Soak) -> Markup:
    """Requests, latency, what is in flight, memory, descriptors and threads over one axis of time."""
    panels: list[tuple[str, Plot]] = [
        ("requests a second", _requests),
        ("latency, ms", _latency),
        ("in flight", _in_flight),
        ("memory, MiB", lambda axes, soak: _held(axes, soak, _mebibytes)),
        ("descriptors", lambda axes, soak: _held(axes, soak, lambda look: look.n_descriptors)),
        ("threads", lambda axes, soak: _held(axes, soak, lambda look: look.n_threads)),
        ("memory, MiB", lambda axes, soak: _held(axes, soak, _mebibytes, roles=(REST,))),
    ]
    last_s = max((moment.at_s for moment in soak.moments), default=soak.setting.duration_s)

    def plot(axes: Axes) -> None:
        figure = axes.figure
        axes.remove()
        if not isinstance(figure, Figure):
            return
        stack = figure.subplots(len(panels), 1, sharex=True)
        for part, (label, draw_part) in zip(stack, panels, strict=True):
            draw_part(part, soak)
            _events(part, soak)
            part.set(ylabel=label, xlim=(0, last_s))
            if part.get_yscale() == "linear":
                part.set_ylim(0, max(1.0, 1.15 * part.dataLim.ymax))
                part.yaxis.set_major_locator(MaxNLocator(4, integer=True))
                part.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
            part.legend(ncols=4, loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0)
        figure.align_ylabels(stack)
        stack[-1].set_xlabel("seconds since the load began")

    return draw("soak", "A soak test over time", plot, width=10.6, height=1.85 * len(panels))


def _requests(axes: Axes, soak: Soak) -> None:
    whole = [second for second in soak.seconds if second.second < int(soak.setting.duration_s)]
    at = [second.second + 0.5 for second in whole]
    axes.plot(at, [second.answered for second in whole], color=ACCENT, linewidth=1.2, label="answered")
    for name, colour, counts in (
        ("refused", SECOND, [second.refused for second in whole]),
        ("failed", WARNING, [second.failed for second in whole]),
    ):
        shown = [(x, count) for x, count in zip(at, counts, strict=True) if count]
        if shown:
            axes.plot(*zip(*shown, strict=True), "o", color=colour, markersize=4, label=name)


def _latency(axes: Axes, soak: Soak) -> None:
    for name, colour, pick in (
        ("p50", ACCENT, [second.p50_s for second in soak.seconds]),
        ("p99", SECOND, [second.p99_s for second in soak.seconds]),
    ):
        known = [(s.second + 0.5, 1000 * v) for s, v in zip(soak.seconds, pick, strict=True) if v is not None]
        axes.plot([x for x, _ in known], [ms for _, ms in known], color=colour, linewidth=1.2, label=name)
    axes.set_yscale("log")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _in_flight(axes: Axes, soak: Soak) -> None:
    known = [(moment.at_s, moment.in_flight) for moment in soak.moments if moment.in_flight is not None]
    times, values = [at for at, _ in known], [value for _, value in known]
    axes.plot(times, values, color=THIRD, linewidth=1.2, label="the engine's gauge")


def _mebibytes(look: Look) -> float:
    return look.rss_bytes / MIB


def _held(axes: Axes, soak: Soak, value: Value, roles: tuple[str, ...] = (SERVER, REPLICA)) -> None:
    """One line for each process of these roles; the rest is one."""
    colours = {SERVER: INK, REPLICA: ACCENT, REST: MUTED}
    named: set[str] = set()
    for (role, _), points in _by_process(soak.moments, value).items():
        if role not in roles:
            continue
        label = None if role in named else {REPLICA: "each replica"}.get(role, role)
        named.add(role)
        times, values = [at for at, _ in points], [held for _, held in points]
        axes.plot(times, values, color=colours[role], linewidth=1.4, label=label)


def _by_process(moments: Iterable[Moment], value: Value) -> dict[tuple[str, int], list[tuple[float, float]]]:
    found: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for moment in moments:
        for look in moment.looks:
            found.setdefault((look.role, look.pid), []).append((moment.at_s, value(look)))
    return found


def _events(axes: Axes, soak: Soak) -> None:
    for job in soak.jobs:
        axes.axvspan(job.began_s, job.ended_s, color=THIRD, alpha=0.1, linewidth=0)
    for reload in soak.reloads:
        axes.axvline(reload.at_s, color=MUTED, linewidth=0.9, linestyle=(0, (3, 2)))
    for kill in soak.kills:
        axes.axvline(kill.at_s, color=WARNING, linewidth=1.1)


def _facts(soak: Soak) -> list[tuple[str, str, str]]:
    account = soak.account
    facts = [
        (f"{account.answered:,}", f"of {account.sent:,} requests answered", ""),
        (f"{account.lost + account.missing:,}", "lost without an excuse", "bad" if account.lost else "good"),
        (f"{account.refused:,}", "refused by policy", ""),
    ]
    if soak.kills:
        facts.append((f"{account.killed:,}", "in flight at a kill", ""))
    return [*facts, (f"{sum(job.rows for job in soak.jobs):,}", "rows scored beside", "")]


def _tables(report: Report) -> list[dict[str, object]]:
    soak = report.soak
    held = ("process", "watched", "memory", "rise", "flat up to", "descriptors", "rise", "threads", "rise")
    kinds = [(kind, f"{count:,}") for kind, count in soak.by_kind.items()]
    tables = [
        _table("What the processes held", held, [growth_cells(growth) for growth in report.growths]),
        _table("Requests by wire format × rows", ("kind", "sent"), kinds),
    ]
    if soak.losses:
        tables.append(
            _table("Failed requests", ("sent at, and why", ""), [(loss, "") for loss in soak.losses])
        )
    return tables


def growth_cells(growth: Growth) -> tuple[str, ...]:
    """What a process held and how it grew, as cells of a table."""
    return (
        growth.who,
        f"{growth.seconds:,.0f} s",
        f"{growth.rss_bytes / MIB:,.0f} MiB",
        f"{growth.rss_rise / MIB:+.1f} MiB",
        f"{growth.rss_bound / MIB:.0f} MiB",
        f"{growth.n_descriptors:.0f}",
        f"{growth.descriptors_rise:+.1f}",
        f"{growth.n_threads:.0f}",
        f"{growth.threads_rise:+.1f}",
    )


def _table(title: str, headings: tuple[str, ...], rows: object) -> dict[str, object]:
    return {"title": title, "headings": headings, "rows": rows}
