"""What the processes of a running engine hold: memory, descriptors, threads."""

import msgspec
import psutil

from load_tests.server_view import Series

SERVER, REPLICA, REST = "server", "replica", "Ray and jobs"
REPLICA_TITLE = "ray::ServeReplica:"


class Look(msgspec.Struct, frozen=True):
    """One process, or the sum of many.

    Attributes:
        pid: Its id; 0 for a sum.
        role: ``server`` (the process that was started), ``replica``, or the rest.
        rss_bytes: Resident memory.
        n_descriptors: Open descriptors.
        n_threads: Threads.
    """

    pid: int
    role: str
    rss_bytes: int
    n_descriptors: int
    n_threads: int


class Moment(msgspec.Struct, frozen=True):
    """One look at everything.

    Attributes:
        at_s: Seconds since the run began.
        looks: The engine's processes.
        in_flight: Requests under way as the engine counts them; ``None`` where it gave no metrics.
        counted: Requests that it says it answered so far.
    """

    at_s: float
    looks: tuple[Look, ...]
    in_flight: float | None
    counted: float | None


def look_at(pid: int) -> tuple[Look, ...]:
    """The engine that is process ``pid``: itself, each replica, and all else that it started as one sum."""
    try:
        server = psutil.Process(pid)
        family = [(server, SERVER), *((child, _role(child)) for child in server.children(recursive=True))]
    except psutil.NoSuchProcess:
        return ()
    looks = [look for process, role in family if (look := _look(process, role))]
    rest = [look for look in looks if look.role == REST]
    return (*(look for look in looks if look.role != REST), *((_sum(rest),) if rest else ()))


def replicas_of(pid: int) -> set[int]:
    """Ids of the engine's replicas."""
    return {look.pid for look in look_at(pid) if look.role == REPLICA}


def in_flight(series: Series | None) -> float | None:
    """The gauge of requests under way, over all models."""
    return _total(series, "tandem_in_flight")


def counted(series: Series | None) -> float | None:
    """The counter of requests answered with any status, over all models and doors."""
    return _total(series, "tandem_requests_total")


def _total(series: Series | None, name: str) -> float | None:
    if series is None:
        return None
    return sum(value for (metric, _), value in series.items() if metric == name)


def _role(process: psutil.Process) -> str:
    try:
        title = " ".join(process.cmdline())
    except psutil.Error:
        return REST
    return REPLICA if title.startswith(REPLICA_TITLE) else REST


def _look(process: psutil.Process, role: str) -> Look | None:
    try:
        with process.oneshot():
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
            rss = int(process.memory_info().rss)
            return Look(process.pid, role, rss, process.num_fds(), process.num_threads())
    except psutil.Error:
        return None


def _sum(looks: list[Look]) -> Look:
    return Look(
        0,
        REST,
        sum(look.rss_bytes for look in looks),
        sum(look.n_descriptors for look in looks),
        sum(look.n_threads for look in looks),
    )
