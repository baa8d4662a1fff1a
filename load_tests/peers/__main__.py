"""``python -m load_tests.peers``: the endpoint beside other people's servers.

    python -m load_tests.peers --only tandem-local triton --rounds 3 --seconds 4

Each server runs alone, in rounds, so that the machine's moods meet all of them; medians are quoted.
"""

import argparse
import statistics
import sys
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from engine.pages.machine import installed, machine
from load_tests.environments import PeerUnavailable
from load_tests.peers.asking import ServerFailed
from load_tests.peers.contenders import CONTENDERS, Contender
from load_tests.peers.measuring import Measured, measure
from load_tests.peers.model import shared_model

CACHE = Path(".cache/peers")
Rounds = dict[str, list[list[Measured]]]


def main() -> None:
    """Measure and print."""
    options = _options()
    model = shared_model(CACHE / "model")
    rounds: Rounds = {name: [] for name in options.only}
    for turn in range(options.rounds):
        for name in list(rounds):
            print(
                f"round {turn + 1} of {options.rounds}: {CONTENDERS[name].name}", file=sys.stderr, flush=True
            )
            try:
                rounds[name].append(measure(CONTENDERS[name], model, seconds=options.seconds))
            except (ServerFailed, PeerUnavailable) as error:
                print(f"  left out: {error}", file=sys.stderr)
                rounds.pop(name)
    medians = {name: _medians(measured) for name, measured in rounds.items() if measured}
    print_table(medians, options)
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(medians), indent=1))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS))
    parser.add_argument("--rounds", type=int, default=3, help="times each server is measured")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--json", type=Path, help="file for the medians")
    return parser.parse_args()


def _medians(rounds: list[list[Measured]]) -> list[Measured]:
    """One measurement per width, each number the median over the rounds."""
    return [
        Measured(
            together[0].connections,
            *(
                statistics.median(getattr(measured, name) for measured in together)
                for name in ("qps", "p50_s", "p99_s", "failed")
            ),
        )
        for together in zip(*rounds, strict=True)
    ]


def print_table(medians: dict[str, list[Measured]], options: argparse.Namespace) -> None:
    """Print the servers with ratios to the first of their wire, versions, machine and command."""
    console = Console(width=140, highlight=False)
    for wire in ("JSON", "gRPC"):
        chosen = {name: found for name, found in medians.items() if CONTENDERS[name].grpc == (wire == "gRPC")}
        if chosen:
            console.print(_table(wire, chosen))
    versions = {_versions(CONTENDERS[name]) for name in medians} - {""}
    about = {**machine(("tandem-scoring", "ray")), "peers": "; ".join(sorted(versions)) or "none"}
    console.print(" · ".join(f"{key} {value}" for key, value in about.items()), soft_wrap=True)
    arguments = f"--rounds {options.rounds} --seconds {options.seconds:g} --only {' '.join(options.only)}"
    console.print(f"python -m load_tests.peers {arguments}", soft_wrap=True)


def _table(wire: str, medians: dict[str, list[Measured]]) -> Table:
    title = f"One row of 23 features in {wire} a request, LightGBM 100 × 31"
    table = Table(title=title, title_justify="left")
    table.add_column("server", no_wrap=True)
    for heading in ("c=1 p50", "c=1 req/s", "c=16 req/s", "c=64 req/s", "c=64 p99", "lost", "first ÷ this"):
        table.add_column(heading, justify="right", no_wrap=True)
    first = next(iter(medians.values()))
    for name, measured in medians.items():
        ratio = first[-1].qps / measured[-1].qps if measured[-1].qps else 0.0
        table.add_row(CONTENDERS[name].name, *_cells(measured), f"{ratio:.2f}")
    return table


def _cells(measured: list[Measured]) -> list[str]:
    one, _, most = measured
    rates = [f"{width.qps:,.0f}" for width in measured]
    return [f"{1000 * one.p50_s:.2f} ms", *rates, f"{1000 * most.p99_s:.1f} ms", f"{100 * most.failed:.1f} %"]


def _versions(contender: Contender) -> str:
    if not contender.peer:
        return ", ".join(f"{name} {installed(name)}" for name in contender.packages)
    pinned = (Path(__file__).parent / f"{contender.peer}.txt").read_text().splitlines()
    return ", ".join(line.replace("==", " ") for line in pinned if line.split("==")[0] in contender.packages)


if __name__ == "__main__":
    main()
