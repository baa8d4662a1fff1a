"""A soak as values: what was asked for, what was seen, and what is wrong with it."""

import msgspec

from load_tests.soak.account import Account, Second
from load_tests.soak.beside import JobRun
from load_tests.soak.looks import Moment


class Setting(msgspec.Struct, frozen=True):
    """What a soak was asked to do.

    Attributes:
        engine: ``on Ray`` or ``--local``.
        n_replicas: Replicas asked for; 0 without Ray.
        duration_s: How long requests were sent.
        rate: Requests a second.
        n_users: Each with a connection over HTTP and a channel of gRPC.
        command: To run it again.
    """

    engine: str
    n_replicas: int
    duration_s: float
    rate: float
    n_users: int
    command: str


class Reload(msgspec.Struct, frozen=True):
    """A reload: when it was asked for, in seconds since the run began, and what the engine said."""

    at_s: float
    took_s: float
    said: str


class Kill(msgspec.Struct, frozen=True):
    """A killed replica: when, in seconds since the run began, which, and when all ran again."""

    at_s: float
    pid: int
    back_after_s: float | None


class Check(msgspec.Struct, frozen=True):
    """One thing that must hold: its name, whether it does, and the numbers in words."""

    name: str
    holds: bool
    words: str


class Growth(msgspec.Struct, frozen=True):
    """How what a process holds changed while it was watched, the time in which it settled left out.

    Attributes:
        who: Role, and process id where it is one process.
        seconds: How long it was watched.
        rss_bytes: Median resident memory.
        rss_rise: What its slope adds up to, in bytes.
        rss_bound: The largest rise that counts as flat.
        n_descriptors: Median of open descriptors.
        descriptors_rise: What their slope adds up to.
        n_threads: Median of threads.
        threads_rise: What their slope adds up to.
    """

    who: str
    seconds: float
    rss_bytes: float
    rss_rise: float
    rss_bound: float
    n_descriptors: float
    descriptors_rise: float
    n_threads: float
    threads_rise: float


class Soak(msgspec.Struct, frozen=True):
    """Everything a soak saw.

    Attributes:
        setting: What was asked for.
        account: Requests by what became of them.
        by_kind: Requests sent by kind (wire format × rows).
        losses: Reasons of the first failed requests, with the second in which they were sent.
        n_answers: Most different answers that one request had.
        n_scores: Most different scores that the same rows had, over all wires.
        seconds: Requests second by second.
        moments: Looks at the engine, one a second.
        reloads: Reloads in order.
        kills: Kills in order.
        jobs: Batch jobs in order.
        in_flight_after: The engine's gauge once all requests had ended; ``None`` without metrics.
        counted: Requests that the engine's counter says it answered during the run.
        is_whole: Whether the command and all replicas ran at the end.
        leftovers: Processes of the engine that outlived it.
    """

    setting: Setting
    account: Account
    by_kind: dict[str, int]
    losses: tuple[str, ...]
    n_answers: int
    n_scores: int
    seconds: tuple[Second, ...]
    moments: tuple[Moment, ...]
    reloads: tuple[Reload, ...]
    kills: tuple[Kill, ...]
    jobs: tuple[JobRun, ...]
    in_flight_after: float | None
    counted: float | None
    is_whole: bool
    leftovers: tuple[str, ...] = ()


class Report(msgspec.Struct, frozen=True):
    """A soak with its verdict, as written to JSON."""

    checks: tuple[Check, ...]
    growths: tuple[Growth, ...]
    soak: Soak
