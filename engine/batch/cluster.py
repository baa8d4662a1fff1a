"""Runs units on a Ray cluster: one fused Ray Data task (name, read and score, write) per unit.

Done records are the only truth: Ray may lose, repeat or drop tasks; what it leaves is run again.
A unit is one block: Ray merges and cuts the blocks of a task as it likes, except where there is one. So the
source only names a unit; read there, all its rows would lie in memory before the first is scored.
"""

import logging
import math
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import pyarrow as pa
import ray
from ray.data import DataContext, Datasource, read_datasource
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasink, ReadTask
from ray.exceptions import RayError

from engine import ray_compat
from engine.batch.blocks import Label, described
from engine.batch.failures import FOLDER, as_error, failures, record_failure
from engine.batch.plan import Unit
from engine.batch.records import Records
from engine.batch.supervised import run_supervised
from engine.batch.work import work_of
from engine.bundle import Device
from engine.errors import ScoringFailed, TandemError

ROUNDS = 2
"""How often the cluster gets what is left, before the caller isolates it."""
NICENESS = 19
"""Below the replicas that answer requests on the same cores."""
REMOTE = {"num_cpus": 1, "max_retries": 1}
"""Equal for read, map and write, or Ray does not fuse them; bounded, or a killer of workers loops."""
TASKS_PER_GPU = 16
"""At most so many tasks share a GPU: each is a process that takes some of its memory."""
GPU_PARTS = 10_000
"""Ray counts a GPU in parts of that size."""


def run_cluster(records: Records, units: Sequence[Unit], device: Device) -> None:
    """Run units on the cluster at hand: the one connected to, ``RAY_ADDRESS``, or a new one here.

    What the cluster lost again and again is left to a process of this machine that may die of it.
    Raises the first unit's error; units of the same run that have none are committed all the same.
    """
    known = records.store.names(FOLDER)
    with _connected():
        for _ in range(ROUNDS):
            done = records.units_done()
            if left := [unit for unit in units if unit.index not in done]:
                _run_translated(records, left, remote_options(device, ray.cluster_resources()))
            if found := failures(records.store, known=known):
                raise as_error(found[0])
    done = records.units_done()
    if lost := [unit for unit in units if unit.index not in done]:
        run_supervised(records, lost, threads=1)


class UnitsDatasource(Datasource):  # type: ignore[misc]
    """The names of a job's units as Ray Data read tasks."""

    def __init__(self, units: Sequence[Unit]) -> None:
        super().__init__()
        self._units = units

    def estimate_inmemory_data_size(self) -> int | None:
        """Unknown: blocks never leave their task."""
        return None

    def get_read_tasks(
        self,
        parallelism: int,  # noqa: ARG002
        per_task_row_limit: int | None = None,  # noqa: ARG002
        data_context: DataContext | None = None,  # noqa: ARG002
    ) -> list[ReadTask]:
        """One task per unit, whatever parallelism Ray would like."""
        unknown = BlockMetadata(num_rows=None, size_bytes=None, exec_stats=None, input_files=None)
        return [ReadTask(partial(name_block, unit.index), unknown) for unit in self._units]


class UnitsDatasink(Datasink):  # type: ignore[misc]
    """Writes and commits units."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def write(self, blocks: Iterable[pa.Table], ctx: Any) -> None:
        """Commit the unit of each block, or record the error that it carries."""
        for block in blocks:
            label = Label.of(block)
            error = label.error or write_block(self._records, block, runner=f"ray {ctx.op_name}")
            if error is not None:
                record_failure(self._records.store, label.unit, *error)


def name_block(index: int) -> list[pa.Table]:
    """The one block of a unit before anything is read: its name."""
    return [Label(index).alone()]


def score_block(block: pa.Table, records: Records) -> pa.Table:
    """The scored rows of the unit that a block names, or the error that reading or scoring them raised."""
    _yield_to_replicas()
    pa.set_cpu_count(1)
    index = Label.of(block).unit
    try:
        work = work_of(records)
        unit = work.plan.units[index]
        scored = list(work.score_all(unit, work.read(unit)))
    except TandemError as error:
        return Label(index, error=described(error)).alone()
    label = Label(index, rows=sum(n_rows for n_rows, _ in scored))
    tables = [table for _, table in scored if table.num_rows]
    return label.on_all(tables) if tables else label.alone()


def write_block(records: Records, block: pa.Table, *, runner: str) -> tuple[str, str] | None:
    """Write and commit the unit of a scored block; the error that stopped it, if any."""
    label, work = Label.of(block), work_of(records)
    writer = work.writer(work.plan.units[label.unit], runner)
    try:
        writer.read(label.rows)
        for table in label.tables(block):
            writer.write(table)
        writer.commit()
    except TandemError as error:
        return described(error)
    finally:
        writer.abort()
    return None


def remote_options(device: Device, resources: Mapping[str, float]) -> dict[str, Any]:
    """What each task asks of a cluster with these resources: a share of a GPU if it may use one.

    As large a share as lets every CPU have its task, so that tasks spread over all GPUs.
    """
    gpus, cpus = resources.get("GPU", 0.0), resources.get("CPU", 1.0)
    if device == "cpu" or not gpus or not ray_compat.blocks_may_share_gpus():
        return dict(REMOTE)
    share = min(1.0, max(gpus / cpus, 1 / TASKS_PER_GPU))
    return {**REMOTE, "num_gpus": math.floor(share * GPU_PARTS) / GPU_PARTS}


def _run_translated(records: Records, units: Sequence[Unit], remote: Mapping[str, Any]) -> None:
    try:
        _run(records, units, remote)
    except RayError as error:
        reason = str(error).splitlines()[0]
        raise ScoringFailed(
            f"the Ray cluster failed under the job ({reason}); what is committed stays: call the job again"
            " to resume it, with --runner local if there is no cluster any more"
        ) from error


def _run(records: Records, units: Sequence[Unit], remote: Mapping[str, Any]) -> None:
    with warnings.catch_warnings(), _data_context(), ray_compat.prompt_execution():
        data = read_datasource(
            UnitsDatasource(units),
            override_num_blocks=len(units),  # else Ray splits the blocks, and does not fuse
            ray_remote_args=dict(remote),
        )
        arguments = {"records": records}
        scored = ray_compat.map_blocks(data, score_block, arguments, **remote)
        scored.write_datasink(UnitsDatasink(records), ray_remote_args=dict(remote))


@contextmanager
def _data_context() -> Iterator[None]:
    """Ray Data as a mere scheduler: no block shaping, no polling, no output, no opinion on errors."""
    # Copying a context sets its own deprecated fields, and ``ray_remote_args`` leaves Ray in 2.64;
    # in 2.60 nothing else bounds the retries of a read.
    warnings.simplefilter("ignore", DeprecationWarning)
    context = DataContext.get_current().copy()
    context.target_max_block_size = None
    context.memory_usage_poll_interval_s = None
    context.max_errored_blocks = -1
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = -1
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with DataContext.current(context):
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def _connected() -> Iterator[None]:
    if ray.is_initialized():
        yield
        return
    if "RAY_ADDRESS" in os.environ:
        ray.init(log_to_driver=False, logging_level="ERROR")
    else:
        ray.init(**ray_compat.local_cluster_options())
    try:
        yield
    finally:
        ray.shutdown()


def _yield_to_replicas() -> None:
    """Lower the priority of every thread of this worker; a worker serves one job only."""
    if not os.path.isdir("/proc/self/task"):
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
        return
    for thread in os.listdir("/proc/self/task"):
        try:
            os.setpriority(os.PRIO_PROCESS, int(thread), NICENESS)
        except ProcessLookupError:
            continue  # the thread ended meanwhile
