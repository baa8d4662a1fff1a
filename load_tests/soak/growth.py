"""How much the engine's processes grew: each one's memory, and all replicas' descriptors and threads."""

import statistics
from collections.abc import Iterator, Sequence

from load_tests.soak.flatness import n_settling, rise
from load_tests.soak.looks import REPLICA, REST, SERVER, Look, Moment
from load_tests.soak.result import Growth

MIB = 1 << 20
FLAT_BYTES = 24 * MIB
FLAT_SHARE = 0.05
"""Memory is flat when it rises by no more than the larger of these two over the whole run."""
FLAT_COUNT = 8
"""So many more descriptors or threads are no leak: a connection here, a pool's thread there."""
LEAST_SHARE, LEAST_S = 0.25, 20.0
"""A process must have lived for such a part of the run, or so long, to be judged."""

Series = list[tuple[float, Look]]


def growths_of(moments: Sequence[Moment], n_replicas: int) -> tuple[Growth, ...]:
    """The server and each replica that lived long enough, then all replicas together, then the rest.

    All replicas together count only while there are ``n_replicas`` of them: descriptors move from one
    to another with the clients' connections, their sum does not.
    """
    duration_s = moments[-1].at_s - moments[0].at_s if moments else 0.0
    found = []
    for who, series in _each(moments):
        if series[-1][0] - series[0][0] >= min(LEAST_S, LEAST_SHARE * duration_s):
            found.append(_growth(who, series))
    together = [(moment.at_s, _sum(moment)) for moment in moments if _count(moment) == n_replicas > 1]
    if together:
        found.append(_growth("replicas together", together))
    rest = [(moment.at_s, look) for moment in moments for look in moment.looks if look.role == REST]
    return (*found, *((_growth(REST, rest),) if rest else ()))


def _each(moments: Sequence[Moment]) -> Iterator[tuple[str, Series]]:
    series: dict[tuple[str, int], Series] = {}
    for moment in moments:
        for look in moment.looks:
            if look.role in {SERVER, REPLICA}:
                series.setdefault((look.role, look.pid), []).append((moment.at_s, look))
    for (role, pid), looks in series.items():
        yield f"{role} {pid}", looks


def _growth(who: str, series: Series) -> Growth:
    settled = series[n_settling([at for at, _ in series]) :]
    times = [at for at, _ in settled]
    rss = [look.rss_bytes for _, look in settled]
    descriptors = [look.n_descriptors for _, look in settled]
    threads = [look.n_threads for _, look in settled]
    return Growth(
        who=who,
        seconds=times[-1] - times[0],
        rss_bytes=statistics.median(rss),
        rss_rise=rise(times, rss),
        rss_bound=max(FLAT_BYTES, FLAT_SHARE * statistics.median(rss)),
        n_descriptors=statistics.median(descriptors),
        descriptors_rise=rise(times, descriptors),
        n_threads=statistics.median(threads),
        threads_rise=rise(times, threads),
    )


def _count(moment: Moment) -> int:
    return sum(look.role == REPLICA for look in moment.looks)


def _sum(moment: Moment) -> Look:
    looks = [look for look in moment.looks if look.role == REPLICA]
    return Look(
        0,
        REPLICA,
        sum(look.rss_bytes for look in looks),
        sum(look.n_descriptors for look in looks),
        sum(look.n_threads for look in looks),
    )
