"""From real flights to equal bits: train, pack, score in bulk, serve, compare, load, one page."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import polars as pl

from engine.demo.commands import running, say, show, tandem, wait_until_ready
from engine.demo.flights import FEATURES, FLIGHT_KEY, LABEL, flights, split, write_parts
from engine.demo.online import n_differing, score_online
from engine.demo.outcome import BatchScores, Lane, Outcome, read_scores
from engine.demo.training import train
from engine.errors import TandemError
from engine.packing import pack
from load_tests.results.result import LoadResult, read_result
from load_tests.target import Target

MODEL = "late"
N_PARTS = 8
N_INGRESS_ROWS = 10_000
LOAD_USERS = 16
LOAD_S = 10
START_LIMIT_S = 90.0


@dataclass(frozen=True, slots=True)
class Places:
    """Where the demonstration leaves what it made."""

    root: Path

    @property
    def model(self) -> Path:
        """LightGBM's text file."""
        return self.root / "late.txt"

    @property
    def flights(self) -> Path:
        """The held-out flights as Parquet."""
        return self.root / "flights"

    @property
    def bundles(self) -> Path:
        """The folder of bundles; ``late`` in it points to the newest."""
        return self.root / "bundles"

    @property
    def scores(self) -> Path:
        """The scored Parquet."""
        return self.root / "scores"

    @property
    def load(self) -> Path:
        """The load test's result."""
        return self.root / "load.json"

    @property
    def request(self) -> Path:
        """A request of one flight, for curl."""
        return self.root / "request.json"

    @property
    def log(self) -> Path:
        """What the engine said while it served."""
        return self.root / "serve.log"

    @property
    def page(self) -> Path:
        """The page of the result."""
        return self.root / "report.html"


def run_demo(places: Places) -> Outcome:
    """Run the whole demonstration; nothing of it keeps running."""
    started = time.monotonic()
    places.root.mkdir(parents=True, exist_ok=True)
    with _step("Train on ten months of flights"):
        held_out, n_trained, train_s = _train(places)
    with _step("Pack the model into a bundle"):
        bundle = _pack(places)
    with _step(f"Score {held_out.height:,} held-out flights from Parquet through Ray Data"):
        batch = _score(places, bundle)
    with _step("Serve it on Ray Serve, compare scores bit by bit, and load it"):
        start_s, lanes, load = _serve(places, bundle, held_out, batch)
    return Outcome(n_trained, train_s, bundle, batch, start_s, lanes, load, time.monotonic() - started)


def _train(places: Places) -> tuple[pl.DataFrame, int, float]:
    known, held_out = split(flights())
    for old in places.flights.glob("*.parquet"):
        old.unlink()
    write_parts(held_out, places.flights, n_parts=N_PARTS)
    places.request.write_bytes(msgspec.json.encode({"rows": held_out.select(FEATURES).head(1).to_dicts()}))
    started = time.monotonic()
    train(known, places.model)
    return held_out, known.height, time.monotonic() - started


def _pack(places: Places) -> Path:
    options = ["--name", MODEL, "--out", str(places.bundles), "--sample", str(places.flights)]
    show(["pack", str(places.model), *options])
    bundle = pack(places.model, name=MODEL, out=places.bundles, sample=places.flights)
    latest = places.bundles / MODEL
    latest.unlink(missing_ok=True)
    latest.symlink_to(bundle.name)
    return bundle


def _score(places: Places, bundle: Path) -> BatchScores:
    started = time.monotonic()
    tandem(
        "score", str(bundle), "--input", str(places.flights), "--output", str(places.scores),
        "--keep", f"{FLIGHT_KEY},{LABEL}", "--runner", "ray", "--mode", "overwrite", "--restart",
    )  # fmt: skip
    return read_scores(places.scores, seconds=time.monotonic() - started)


def _serve(
    places: Places, bundle: Path, held_out: pl.DataFrame, batch: BatchScores
) -> tuple[float, tuple[Lane, ...], LoadResult]:
    direct, ingress = free_ports(2)
    command = (
        "serve",
        "--model",
        f"{MODEL}={bundle}",
        "--port",
        str(direct),
        "--ingress-port",
        str(ingress),
        "--jobs-port",
        "0",
    )
    with running(*command, log=places.log) as process:
        start_s = wait_until_ready(
            process, lambda: _is_ready(direct) and _is_ready(ingress), places.log, limit_s=START_LIMIT_S
        )
        lanes = (
            _compare("direct", direct, held_out, batch),
            _compare("ingress", ingress, held_out.head(N_INGRESS_ROWS), batch),
        )
        tandem(
            "load", f"http://127.0.0.1:{direct}", "--sample", str(places.flights),
            "--users", str(LOAD_USERS), "--duration", f"{LOAD_S}s", "--json", str(places.load),
        )  # fmt: skip
    return start_s, lanes, read_result(places.load)


def _compare(name: str, port: int, rows: pl.DataFrame, batch: BatchScores) -> Lane:
    online = score_online(port, MODEL, rows)
    differing = n_differing(batch.scores[: rows.height], online.scores)
    return Lane(name, rows.height, differing, rows.height / online.seconds)


def _is_ready(port: int) -> bool:
    try:
        return Target("127.0.0.1", port).ask("GET", "/v2/health/ready")[0] == 200
    except TandemError:
        return False


def free_ports(n: int) -> list[int]:
    """Ports of loopback that nothing listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports


@contextmanager
def _step(title: str) -> Iterator[None]:
    say(f"\n── {title}")
    started = time.monotonic()
    yield
    say(f"   {time.monotonic() - started:.1f} s")
