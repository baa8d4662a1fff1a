"""``make soak``: an engine under mixed load, with reloads, killed replicas and batch jobs beside.

    python -m load_tests.soak --minutes 10 --rate 100
    python -m load_tests.soak --local --seconds 60

The exit code is 1 when a check fails. The page, the JSON and the engine's log lie in ``--out``.
"""

import argparse
import shlex
import sys
import tempfile
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from engine.errors import TandemError
from load_tests.soak.checks import checks_of
from load_tests.soak.growth import growths_of
from load_tests.soak.page import growth_cells, write_soak_page
from load_tests.soak.result import Report, Setting
from load_tests.soak.run import run_soak


def main(arguments: list[str] | None = None) -> int:
    """Soak, print, write; 1 when a check fails, 2 when there was nothing to check."""
    options = _options(arguments)
    setting = Setting(
        engine="--local" if options.local else "on Ray",
        n_replicas=0 if options.local else options.replicas,
        duration_s=options.seconds or 60.0 * options.minutes,
        rate=options.rate,
        n_users=options.users,
        command=shlex.join(["python", "-m", "load_tests.soak", *(arguments or sys.argv[1:])]),
    )
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="soak-", ignore_cleanup_errors=True) as folder:
        try:
            soak = run_soak(setting, Path(folder))
        except TandemError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        finally:
            _keep_log(Path(folder) / "engine.log", options.out)
    growths = growths_of(soak.moments, setting.n_replicas)
    report = Report(checks_of(soak, growths), growths, soak)
    (options.out / "soak.json").write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))
    page = write_soak_page(report, options.out / "soak.html")
    print_report(report)
    print(f"{page}: the same with plots")
    return 0 if all(check.holds for check in report.checks) else 1


def print_report(report: Report) -> None:
    """Print what the processes held, then every check; what failed comes last."""
    console = Console(highlight=False, width=150)
    held = Table(pad_edge=False, box=None)
    headings = (
        "process",
        "watched",
        "memory",
        "rise",
        "flat up to",
        "descriptors",
        "rise",
        "threads",
        "rise",
    )
    for heading in headings:
        held.add_column(heading, justify="left" if heading == "process" else "right", no_wrap=True)
    for growth in report.growths:
        held.add_row(*growth_cells(growth))
    console.print(held)
    for check in sorted(report.checks, key=lambda check: not check.holds):
        mark, colour = ("ok    ", "green") if check.holds else ("FAILED", "red")
        console.print(f"{mark} {check.name}: {check.words}", style=colour, markup=False, soft_wrap=True)
    for loss in report.soak.losses[:5]:
        console.print(f"       failed at {loss}", style="dim", markup=False, soft_wrap=True)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m load_tests.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="how long to send requests")
    parser.add_argument("--seconds", type=float, help="the same, for a try")
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second")
    parser.add_argument("--users", type=int, default=16, help="each with a connection and a gRPC channel")
    parser.add_argument(
        "--replicas", type=int, default=2, help="on Ray; at least 2, so that one is left at a kill"
    )
    parser.add_argument("--local", action="store_true", help="one process without Ray: no reloads, no kills")
    parser.add_argument("--out", type=Path, default=Path(".cache/soak"), help="folder for page, JSON and log")
    options = parser.parse_args(arguments)
    if options.replicas < 2 or min(options.rate, options.users, options.minutes, options.seconds or 1) <= 0:
        parser.error("expected two replicas or more, and positive numbers")
    return options


def _keep_log(log: Path, out: Path) -> None:
    if log.exists():
        (out / "engine.log").write_bytes(log.read_bytes())


if __name__ == "__main__":
    sys.exit(main())
