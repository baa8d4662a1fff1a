"""Which runner a job gets: this process, or a Ray cluster."""

import os
from collections.abc import Callable, Sequence
from typing import Literal

from engine.batch.fragments import Footer
from engine.batch.plan import Plan, Unit
from engine.batch.records import Records
from engine.bundle import Manifest
from engine.config import Batch

Run = Callable[[Records, Plan, Sequence[Unit]], None]
"""Commits all the units given, or raises."""

SECONDS_WORTH_A_CLUSTER = 30.0
"""Of the local runner, by the estimate; below it, handing tasks out costs more than it gains."""


def choose(settings: Batch, model: Manifest, footers: Sequence[Footer] = ()) -> Run:
    """The runner for a job; in this process it goes on with the footers that were read for the plan.

    ``auto`` is this process, see ``runner_for``.
    """
    if settings.runner == "ray":
        from engine import ray_compat

        ray_compat.prepare(os.environ.get("RAY_ADDRESS"))
        from engine.batch.cluster import run_cluster

        return lambda records, plan, units: run_cluster(records, units, plan.device)
    threads = settings.threads or available_cores()
    if model.kind == "onnx":  # other people's native code runs where it can do no harm
        from engine.batch.supervised import run_supervised

        return lambda records, _plan, units: run_supervised(records, units, threads=threads)
    from engine.batch.local import run_local
    from engine.batch.work import make_work

    return lambda records, plan, units: run_local(
        make_work(plan, records, model.schema, footers), units, threads=threads
    )


def runner_for(settings: Batch, estimated_s: Callable[[], float]) -> Literal["local", "ray"]:
    """The runner asked for; with ``auto``, a cluster that runs already is used for jobs that take long here.

    Args:
        settings: What was asked for.
        estimated_s: What the job would take in this process; called only where it decides.
    """
    if settings.runner != "auto":
        return settings.runner
    return "ray" if "RAY_ADDRESS" in os.environ and estimated_s() >= SECONDS_WORTH_A_CLUSTER else "local"


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
