"""What must hold after a soak, judged from what it saw; each check names its numbers."""

from collections.abc import Sequence

from load_tests.soak.growth import FLAT_BYTES, FLAT_COUNT, FLAT_SHARE, MIB
from load_tests.soak.looks import REST
from load_tests.soak.result import Check, Growth, Soak

LEAST_ANSWERED = 0.9
"""An engine that refuses more than a tenth of a moderate load has not been tested."""


def checks_of(soak: Soak, growths: Sequence[Growth]) -> tuple[Check, ...]:
    """All checks, in the order in which people ask."""
    on_ray = (_reloads(soak), _kills(soak)) if soak.setting.n_replicas else ()
    return (
        _accounted(soak),
        _answered(soak),
        _counters(soak),
        _answers(soak),
        _scores(soak),
        _in_flight(soak),
        *on_ray,
        _jobs(soak),
        _memory(growths),
        _counts(growths),
        _processes(soak),
    )


def _accounted(soak: Soak) -> Check:
    account = soak.account
    words = f"{account.sent:,} sent: {account.answered:,} answered, {account.refused:,} refused, "
    words += (
        f"{account.killed:,} in flight at a kill, {account.lost:,} lost, {account.missing:,} without an end"
    )
    return Check(
        "every request accounted for", account.sent > 0 and not account.lost + account.missing, words
    )


def _answered(soak: Soak) -> Check:
    share = soak.account.answered / max(1, soak.account.sent)
    words = f"{100 * share:.2f} % answered, at least {100 * LEAST_ANSWERED:.0f} % asked for"
    return Check("the load was carried", share >= LEAST_ANSWERED, words)


def _counters(soak: Soak) -> Check:
    ours = soak.account.answered + soak.account.refused
    if soak.counted is None:
        return Check("the engine counted the same", False, "it gave no metrics")
    failed = soak.account.killed + soak.account.lost
    words = f"the engine counted {soak.counted:,.0f} answers, its clients {ours:,}; {failed:,} failed"
    return Check("the engine counted the same", abs(soak.counted - ours) <= failed, words)


def _answers(soak: Soak) -> Check:
    words = f"one request had {soak.n_answers} different answers at most, of {_n_revisions(soak)} revisions"
    return Check("equal requests have equal answers", 0 < soak.n_answers <= _n_revisions(soak), words)


def _scores(soak: Soak) -> Check:
    words = f"the same rows had {soak.n_scores} different scores at most, of {_n_revisions(soak)} revisions"
    return Check("every wire gives the same bits", 0 < soak.n_scores <= _n_revisions(soak), words)


def _n_revisions(soak: Soak) -> int:
    return 2 if soak.reloads else 1


def _in_flight(soak: Soak) -> Check:
    after = soak.in_flight_after
    words = "no metrics" if after is None else f"{after:,.0f} once all requests had ended"
    return Check("in flight is back at 0", after == 0, words)


def _reloads(soak: Soak) -> Check:
    done = [
        reload
        for reload in soak.reloads
        if reload.said.startswith("reloaded: ") and "nothing" not in reload.said
    ]
    failed = [reload.said for reload in soak.reloads if reload not in done]
    words = f"{len(done)} of {len(soak.reloads)}" + (f"; {failed[0]}" if failed else "")
    return Check("every reload took effect", bool(done) and not failed, words)


def _kills(soak: Soak) -> Check:
    back = [kill.back_after_s for kill in soak.kills if kill.back_after_s is not None]
    words = f"{len(back)} of {len(soak.kills)}" + (f", after {max(back):.1f} s at most" if back else "")
    return Check("killed replicas came back", bool(back) and len(back) == len(soak.kills), words)


def _jobs(soak: Soak) -> Check:
    faults = [job.fault for job in soak.jobs if job.fault]
    rows = sum(job.rows for job in soak.jobs if not job.fault)
    words = f"{len(soak.jobs) - len(faults)} of {len(soak.jobs)}, {rows:,} rows"
    words += f"; {faults[0]}" if faults else ", each row once, with the model's score"
    return Check("batch jobs are complete", bool(soak.jobs) and not faults, words)


def _memory(growths: Sequence[Growth]) -> Check:
    judged = [growth for growth in growths if _is_one(growth)]
    worst = max(judged, key=lambda growth: growth.rss_rise / growth.rss_bound, default=None)
    if worst is None:
        return Check("memory is flat", False, "no process lived long enough to be judged")
    words = (
        f"{worst.who} rose most, by {worst.rss_rise / MIB:.1f} MiB in {worst.seconds:.0f} s; flat is up to "
    )
    words += f"{FLAT_BYTES // MIB} MiB or {100 * FLAT_SHARE:.0f} %, here {worst.rss_bound / MIB:.0f} MiB"
    return Check("memory is flat", worst.rss_rise <= worst.rss_bound, words)


def _counts(growths: Sequence[Growth]) -> Check:
    together = any(growth.who == "replicas together" for growth in growths)
    judged = [g for g in growths if g.who != REST and not (together and g.who.startswith("replica "))]
    descriptors = max((growth.descriptors_rise for growth in judged), default=0.0)
    threads = max((growth.threads_rise for growth in judged), default=0.0)
    words = f"descriptors rose by {descriptors:.1f}, threads by {threads:.1f}; up to {FLAT_COUNT} are no leak"
    return Check(
        "no leaked descriptors or threads", bool(judged) and max(descriptors, threads) <= FLAT_COUNT, words
    )


def _processes(soak: Soak) -> Check:
    if not soak.is_whole:
        return Check("the engine was whole at the end and left nothing", False, "a process was missing")
    words = f"still there after it had stopped: {', '.join(soak.leftovers)}" if soak.leftovers else "it did"
    return Check("the engine was whole at the end and left nothing", not soak.leftovers, words)


def _is_one(growth: Growth) -> bool:
    return growth.who not in {REST, "replicas together"}
