"""Locust users that send real rows to an engine; ``tandem load`` runs this file, Locust may too.

    locust -f load_tests/realtime.py --host http://127.0.0.1:8080 --sample flights.parquet JsonRows

Closed loop by default: each user sends its next request when the last one is answered. With
``--rate`` arrivals are Poisson, whether or not the engine keeps up, and latency counts from the
moment a request was due.
"""

import argparse
import itertools
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import gevent
import grpc.experimental.gevent
import msgspec
import psutil
from locust import FastHttpUser, LoadTestShape, User, events, task
from locust.env import Environment
from locust.exception import StopTest
from locust.runners import MasterRunner, WorkerRunner

from engine.errors import InvalidInput, TandemError
from load_tests.generator_health import GeneratorHealth, Observation
from load_tests.payloads.grpc_request import STATUSES, infer_call
from load_tests.payloads.sample import read_sample
from load_tests.payloads.wire import Request, Wire, encode, with_deadline
from load_tests.progress import progress_line, show_live
from load_tests.results.recording import Recording
from load_tests.shapes import intensity
from load_tests.target import parse_url

WATCH_EVERY_S = 0.1
LAST_REPORT_S = 4.0
"""Workers report every three seconds; a master waits for the last report."""
WAIT_FOR_WORKERS_S = 120.0


class Run:
    """What the users of one Locust process share: requests to send, and what became of them."""

    def __init__(self) -> None:
        self.requests: dict[Wire, list[Request]] = {}
        self.recording = Recording()
        self.health = GeneratorHealth()
        self.open_loop = False
        self.started = time.time()
        self.ends = float("inf")

    def prepare(self, environment: Environment) -> None:
        """Encode the requests of this run, once per process, before the clock starts."""
        options = environment.parsed_options
        target = parse_url(environment.host or "")
        model = options.model or target.only_model()
        sample = read_sample(options.sample, target.features(model))
        for wire in {user.wire for user in environment.user_classes}:
            requests = encode(wire, model, sample, options.rows_per_request)
            self.requests[wire] = with_deadline(requests, options.deadline or None)
        self.open_loop = bool(options.rate)
        self.recording, self.health, self.started = Recording(), GeneratorHealth(), time.time()
        self.ends = self.started + duration_of(options)


RUN = Run()


class OnRealRows(User):  # type: ignore[misc]
    """What users of all wire formats share: a place in the sample, and when to send."""

    abstract = True
    wire: Wire

    def on_start(self) -> None:
        """Take a place in the sample and, in an open loop, a share of the rate."""
        requests = RUN.requests[self.wire]
        start = random.randrange(len(requests))
        self.requests = itertools.cycle(requests[start:] + requests[:start])
        options = self.environment.parsed_options
        self.rate = options.rate / max(1, options.num_users or 1) if options.rate else 0.0
        self.due = time.perf_counter()

    @task
    def score(self) -> None:
        """Send the next request, in an open loop at the moment it is due; rest when the run is over."""
        if time.time() >= RUN.ends:
            gevent.sleep(WATCH_EVERY_S)
            return
        delay_s = self._await_arrival() if self.rate else 0.0
        if time.time() - delay_s < RUN.ends:
            self.send(next(self.requests), delay_s)

    def send(self, request: Request, delay_s: float) -> None:
        """Send a request that is ``delay_s`` late already, and fire Locust's event."""
        raise NotImplementedError

    def _await_arrival(self) -> float:
        """Wait for the next arrival of this user's Poisson process; returns how late it is sent."""
        options = self.environment.parsed_options
        while True:
            self.due += random.expovariate(self.rate)
            passed_s = time.time() - RUN.started + self.due - time.perf_counter()
            if random.random() < intensity(options.shape, min(passed_s / duration_of(options), 1.0)):
                break
        gevent.sleep(max(0.0, self.due - time.perf_counter()))
        return max(0.0, time.perf_counter() - self.due)


class ScoringUser(OnRealRows, FastHttpUser):  # type: ignore[misc]
    """Sends rows over HTTP."""

    abstract = True
    default_headers = {"Accept-Encoding": "identity"}
    network_timeout = connection_timeout = 30.0

    def send(self, request: Request, delay_s: float) -> None:
        """Send a request over this user's connection."""
        self.client.post(
            request.path,
            data=request.body,
            headers=request.headers,
            name=f"{self.wire} x{request.n_rows}",
            context={"delay_s": delay_s},
        )


class JsonRows(ScoringUser):
    """``POST /v1/models/{m}/score`` with rows in JSON."""

    wire: Wire = "rows"


class OipJson(ScoringUser):
    """``POST /v2/models/{m}/infer`` with one JSON tensor per feature."""

    wire: Wire = "oip"


class BinaryTensors(ScoringUser):
    """``POST /v2/models/{m}/infer`` with tensors as raw bytes."""

    wire: Wire = "binary"


class ArrowStream(ScoringUser):
    """``POST /v1/models/{m}/score`` with an Arrow IPC stream."""

    wire: Wire = "arrow"


class Grpc(OnRealRows):
    """``ModelInfer`` over gRPC, one channel for each user."""

    wire: Wire = "grpc"

    def on_start(self) -> None:
        """Open the channel."""
        super().on_start()
        grpc.experimental.gevent.init_gevent()
        host = parse_url(self.environment.host or "").host
        self.channel = grpc.insecure_channel(
            f"{host}:{self.environment.parsed_options.grpc_port}", [("grpc.use_local_subchannel_pool", 1)]
        )
        self.call = infer_call(self.channel)

    def send(self, request: Request, delay_s: float) -> None:
        """Send a request over this user's channel."""
        started, error, status = time.time(), None, grpc.StatusCode.OK
        began = time.perf_counter()
        try:
            self.call(request.body, timeout=self.environment.parsed_options.deadline or 30.0)
        except grpc.RpcError as raised:
            error, status = raised, raised.code()
        self.environment.events.request.fire(
            request_type="gRPC",
            name=f"{self.wire} x{request.n_rows}",
            response_time=1000 * (time.perf_counter() - began),
            response_length=0,
            context={"delay_s": delay_s, "status": STATUSES.get(status, 500)},
            exception=error,
            start_time=started,
            response=None,
        )


class ShapedLoad(LoadTestShape):  # type: ignore[misc]
    """Follows ``--shape`` in the number of users for as long as ``--seconds`` says."""

    use_common_options = True

    def tick(self) -> tuple[int, float] | None:
        """Users wanted now, and how many to start a second; ``None`` at the end."""
        options = self.runner.environment.parsed_options
        passed_s, duration_s = self._passed_s(), duration_of(options)
        if passed_s >= duration_s + (LAST_REPORT_S if isinstance(self.runner, MasterRunner) else 0.0):
            return None
        peak = options.num_users or 1
        # In an open loop the users are only hands; the rate is what it is.
        share = 1.0 if options.rate else intensity(options.shape, min(passed_s / duration_s, 1.0))
        return max(1, round(peak * share)), max(100, peak)

    def _passed_s(self) -> float:
        """Workers begin when their requests are encoded; a master learns of it from their reports."""
        passed_s = time.time() - RUN.started
        if isinstance(self.runner, MasterRunner) and not RUN.recording.seconds:
            return 0.0 if passed_s < WAIT_FOR_WORKERS_S else float("inf")
        return passed_s


def duration_of(options: argparse.Namespace) -> float:
    """Seconds to send for; Locust keeps its own ``--run-time`` from workers."""
    return float(options.seconds or options.run_time or "inf")


@events.init_command_line_parser.add_listener
def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of these tests beside Locust's own."""
    group = parser.add_argument_group("scoring")
    group.add_argument("--sample", required=True, help="Parquet file or folder to draw rows from")
    group.add_argument("--model", default="", help="name of the model; needed where there are several")
    group.add_argument("--rows-per-request", type=int, default=1, help="rows in each request")
    group.add_argument("--grpc-port", type=int, default=8081, help="port of the engine's gRPC server")
    group.add_argument("--rate", type=float, default=0.0, help="Poisson arrivals a second; 0: closed loop")
    group.add_argument(
        "--seconds", type=float, default=0.0, help="how long to send; --run-time, for workers too"
    )
    group.add_argument("--shape", default="constant", help="constant, steps, spike or diurnal")
    group.add_argument("--deadline", type=float, default=0.0, help="seconds a request waits at most")
    group.add_argument("--recording", default="", help="file to write what was measured to")
    group.add_argument("--parent", type=int, default=0, help="process that started this one: end with it")


@events.init.add_listener
def start_watching(environment: Environment, **_: Any) -> None:
    """Collect what workers saw, watch this process, show progress."""
    # Ctrl-C ends the main greenlet wherever it strikes; it is no error of the one that it struck.
    hub = gevent.get_hub()
    hub.NOT_ERROR = (*hub.NOT_ERROR, KeyboardInterrupt)
    if not isinstance(environment.runner, WorkerRunner) and sys.stderr.isatty():
        gevent.spawn(_show_progress)
    gevent.spawn(_watch_generator)
    if parent := environment.parsed_options.parent:
        gevent.spawn(_end_with, os.getppid() if isinstance(environment.runner, WorkerRunner) else parent)


@events.test_start.add_listener
def prepare(environment: Environment, **_: Any) -> None:
    """Make the requests ready; what is wrong with the call ends the run with one sentence."""
    try:
        RUN.prepare(environment)
    except TandemError as error:
        print(f"error: {error}", file=sys.stderr)
        environment.process_exit_code = 2 if isinstance(error, InvalidInput) else 5
        environment.runner.quit()
        raise StopTest(str(error)) from error


@events.request.add_listener
def record(
    response_time: float, context: dict[str, float], exception: Exception | None, start_time: float,
    response: Any, **_: Any,
) -> None:  # fmt: skip
    """Count one request, and in an open loop how late it was sent."""
    delay_s = context.get("delay_s", 0.0)
    status = getattr(response, "status_code", 0) or int(context.get("status", 0))
    at_s = max(0.0, start_time - delay_s - RUN.started)
    reason = _reason(status, response, exception) if exception else ""
    RUN.recording.add(at_s, delay_s + response_time / 1000, status, reason)
    if RUN.open_loop:
        RUN.recording.delays.add(delay_s)


def _reason(status: int, response: Any, exception: Exception) -> str:
    if isinstance(exception, grpc.Call):
        return f"{exception.code().name} {(exception.details() or '')[:120]}"
    if response is not None and status >= 400:
        return f"{status} {response.text[:120]}"
    return f"{type(exception).__name__}: {exception}"


@events.report_to_master.add_listener
def send_recording(data: dict[str, object], **_: Any) -> None:
    """A worker hands over what it saw since its last report."""
    data["recording"] = msgspec.msgpack.encode(RUN.recording)
    data["health"] = msgspec.msgpack.encode(RUN.health.worst())
    RUN.recording = Recording()


@events.worker_report.add_listener
def receive_recording(data: dict[str, bytes], **_: Any) -> None:
    """The master adds what a worker saw; its clock starts with theirs."""
    theirs = msgspec.msgpack.decode(data["recording"], type=Recording)
    if theirs.seconds and not RUN.recording.seconds:
        RUN.started = time.time() - max(theirs.seconds)
    RUN.recording.merge(theirs)
    RUN.health.add(msgspec.msgpack.decode(data["health"], type=Observation))


@events.quitting.add_listener
def write_recording(environment: Environment, **_: Any) -> None:
    """Leave the measurements for ``tandem load``; it decides whether the run was good."""
    path = environment.parsed_options.recording
    if path and not isinstance(environment.runner, WorkerRunner):
        Path(path).write_bytes(msgspec.msgpack.encode((RUN.recording, RUN.health.verdict())))
        environment.process_exit_code = environment.process_exit_code or 0


def _end_with(parent: int) -> None:
    """End all of this run when nobody waits for its result any more: who started this process was killed."""
    while os.getppid() == parent:
        gevent.sleep(WATCH_EVERY_S)
    os.killpg(0, signal.SIGKILL)


def _watch_generator() -> None:
    process = psutil.Process()
    process.cpu_percent()
    while True:
        due = time.perf_counter() + WATCH_EVERY_S
        gevent.sleep(WATCH_EVERY_S)
        RUN.health.add(Observation(process.cpu_percent() / 100, time.perf_counter() - due))


def _show_progress() -> None:
    while True:
        gevent.sleep(1.0)
        at = int(time.time() - RUN.started) - 1
        second = RUN.recording.seconds.get(at)
        if second is not None:
            show_live(progress_line(at, second))
