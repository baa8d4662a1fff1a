"""One job from its call to its published output: plan, attach or resume, run, publish."""

import datetime
import importlib.metadata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from engine.batch.conflicts import check_apart, check_appendable, find_record
from engine.batch.layout import layout_of
from engine.batch.manifest import QUARANTINE, Done, JobRecord, OutputManifest, Part, encode
from engine.batch.output import JobStore, Output, open_output
from engine.batch.plan import PLAN, Options, Plan, Unit, carries_on, differences
from engine.batch.planning import Planned, make_plan
from engine.batch.records import Records
from engine.batch.runners import available_cores, choose, runner_for
from engine.bundle import Bundle, read_bundle
from engine.config import Batch
from engine.errors import Conflict, InvalidTable, JobChanged, ScoringFailed, StorageFailed

if TYPE_CHECKING:
    from engine.batch.estimate import Estimate

MAX_REPORTED_REASONS = 3
MOST_OF_ID = 56
"""Characters of an id that leave room for a number."""


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """What became of a job.

    Attributes:
        job: Its id.
        output: Where the scores are.
        manifest: What was published there.
        resumed: Units that an earlier driver had finished.
        attached: The output was there already; nothing was done.
        done: Every unit's record, empty if nothing was done.
    """

    job: str
    output: str
    manifest: OutputManifest
    resumed: int
    attached: bool
    done: tuple[Done, ...] = ()

    @property
    def record(self) -> JobRecord:
        """This job's record in the manifest."""
        return next(record for record in self.manifest.jobs if record.job == self.job)

    @property
    def summary(self) -> str:
        """What became of the job, in a line for people."""
        before = " by an earlier run; nothing was left to do" if self.attached else ""
        return f"{self.record.rows_out:,} rows scored into {self.output}{before}{self._of_bad_rows()}"

    def _of_bad_rows(self) -> str:
        rows = self.record.rows_bad
        if not rows:
            return ""
        if self.record.options.on_bad_row == "quarantine":
            return f"; {rows:,} bad rows are set aside in {self.output.rstrip('/')}/{QUARANTINE}"
        return f"; {rows:,} of them are bad and have no score"


Show = Callable[[Records, Plan], AbstractContextManager[None]]


def score_files(
    bundle: str,
    inputs: Sequence[str],
    output: str,
    *,
    settings: Batch = Batch(),  # noqa: B008 (frozen)
    job: str = "",
    restart: bool = False,
    show: Show = lambda _records, _plan: nullcontext(),
) -> Result:
    """Score Parquet files into a directory, exactly once.

    Called again with the same model, options and input, it resumes what an earlier call left, or
    finds the output already published and changes nothing.

    Args:
        bundle: Directory of the bundle.
        inputs: Files, directories or globs.
        output: Directory or object-store prefix for the result.
        settings: Options, as in the config file.
        job: An id of the caller's own; the same id is the same job.
        restart: Give up what an unfinished job left at this output.
        show: Wraps the run, to show its progress.

    Raises:
        InvalidInput: Model, input or options do not fit, with the place.
        Conflict: The output or an unfinished job is in the way.
        Failed: A disk, a store or a backend failed; call again to resume.
    """
    model = read_bundle(bundle)
    place = open_output(output)
    planned = _planned(model, bundle, inputs, output, settings, job)
    if restart:
        _give_up(place)
    if (finished := _published(place, planned.plan, settings, output)) is not None:
        return finished
    planned = replace(planned, plan=_admitted(place, model, planned.plan, settings, output))
    plan = _carried_on(place, planned.plan, settings)
    with _alone(place, plan, show):
        # Whoever held the job before may have finished it, or some of its units.
        if (finished := _published(place, plan, settings, output)) is not None:
            return finished
        return _run(place, model, replace(planned, plan=plan), settings, output, show)


def dry_run(
    bundle: str,
    inputs: Sequence[str],
    output: str,
    *,
    settings: Batch = Batch(),  # noqa: B008 (frozen)
) -> "Estimate":
    """What ``score_files`` would take; reads one row group, writes nothing. Raises as it does."""
    model = read_bundle(bundle)
    place = open_output(output)
    planned = _planned(model, bundle, inputs, output, settings)
    if (manifest := place.manifest()) is None or find_record(manifest, planned.plan, settings.mode) is None:
        _admitted(place, model, planned.plan, settings, output)
        place.check_all_is_ours()
    return _estimated(place, model, planned, settings)


def _estimated(place: Output, model: Bundle, planned: Planned, settings: Batch) -> "Estimate":
    from engine.batch.estimate import estimate, take_sample
    from engine.batch.work import make_work

    lenient = msgspec.structs.replace(planned.plan.options, on_bad_row="null")
    planned = replace(planned, plan=msgspec.structs.replace(planned.plan, options=lenient))
    records = Records.of(place.store(planned.plan.job), planned.plan)
    sample = take_sample(planned, make_work(planned.plan, records, model.manifest.schema))
    return estimate(planned, sample, cores=settings.threads or available_cores())


def options_of(settings: Batch) -> Options:
    """The settings that decide what the output holds."""
    return Options(**{name: getattr(settings, name) for name in Options.__struct_fields__})


def _planned(
    model: Bundle, bundle: str, inputs: Sequence[str], output: str, settings: Batch, job: str = ""
) -> Planned:
    planned = make_plan(model, bundle, inputs, options_of(settings), job, settings.device)
    check_apart(planned.plan, output)
    return planned


def _published(place: Output, plan: Plan, settings: Batch, output: str) -> Result | None:
    """The result if this very job is published; raises if the output is otherwise in the way."""
    manifest = place.manifest()
    record = manifest and find_record(manifest, plan, settings.mode)
    if not manifest or not record:
        return None
    place.forget(record.job)  # what a driver left that was killed after publishing
    return Result(record.job, output, manifest, 0, True)


def _admitted(place: Output, model: Bundle, plan: Plan, settings: Batch, output: str) -> Plan:
    """The plan to run at an output that may hold others' results; raises if they do not go together.

    A job that writes anew what stands among others' rows is another one, lest it be taken for done.
    """
    manifest = place.manifest()
    if manifest is None:
        return plan
    if settings.mode == "append":
        check_appendable(manifest, plan, layout_of(plan, model.manifest.schema.output), output)
    number = 2
    job = plan.job
    begun = place.unfinished()
    while manifest.holds(job) or (job not in begun and place.keeps_version(job)):
        job = f"{plan.job[:MOST_OF_ID]}-{number}"
        number += 1
    return msgspec.structs.replace(plan, job=job)


def _carried_on(place: Output, wanted: Plan, settings: Batch) -> Plan:
    """The plan to run: the one wanted, under the id of the unfinished job that it carries on, if any.

    Raises ``JobChanged`` if an unfinished job at the output is another one; jobs that append do
    not mind each other.
    """
    manifest = place.manifest()
    others = []
    for job in place.unfinished():
        if manifest is not None and manifest.holds(job):
            place.forget(job)  # its driver was killed after publishing
        else:
            others.append(job)
    if settings.mode == "append":
        others = [job for job in others if job == wanted.job]
    for job in others:
        if (found := Records.found(place.store(job))) is None:
            continue
        _check_carried_on(*found, wanted)
        wanted = msgspec.structs.replace(wanted, job=job)
    return wanted


def _check_carried_on(records: Records, stored: Plan, wanted: Plan) -> None:
    changes = differences(stored, wanted)
    if changes and not carries_on(stored, wanted, records.units_done()):
        raise JobChanged(
            f"job {stored.job} did not finish at this output, and {'; '.join(changes)};"
            " call it as before to finish it, or with --restart to give it up"
        )


@contextmanager
def _alone(place: Output, plan: Plan, show: Show) -> Iterator[None]:
    """Hold the job; while another process runs it, show its progress and wait for its end."""
    with place.alone(plan.job, wait=False) as alone:
        if alone:
            yield
            return
    found = Records.found(place.store(plan.job))
    with show(*found) if found else nullcontext(), place.alone(plan.job, wait=True):
        pass
    with place.alone(plan.job, wait=True):
        yield


def _run(place: Output, model: Bundle, planned: Planned, settings: Batch, output: str, show: Show) -> Result:
    try:
        return _run_and_publish(place, model, planned, settings, output, show)
    except (StorageFailed, ScoringFailed, JobChanged):
        # Object stores have no locks: another driver may have published, and removed what this one was at.
        if (finished := _published(place, planned.plan, settings, output)) is None:
            raise
        return finished


def _run_and_publish(
    place: Output, model: Bundle, planned: Planned, settings: Batch, output: str, show: Show
) -> Result:
    plan = planned.plan
    records = _followed(place.store(plan.job), plan)
    resumed = records.units_done()
    left = [unit for unit in plan.units if unit.index not in resumed]
    if left:
        share = sum(unit.rows for unit in left) / max(plan.rows, 1)
        runner = runner_for(settings, lambda: share * _estimated(place, model, planned, settings).seconds)
        settings = msgspec.structs.replace(settings, runner=runner)
        with show(records, plan):
            choose(settings, model.manifest, planned.footers)(records, plan, left)
    if (finished := _published(place, plan, settings, output)) is None:
        done = tuple(_done(records, unit) for unit in plan.units)
        record, parts = _summary(model, plan, done)
        manifest = place.publish(record, parts, settings.mode)
        return Result(plan.job, output, manifest, len(resumed), False, done)
    return finished


def _followed(store: JobStore, plan: Plan) -> Records:
    """The records of a plan that the job follows from now on, with what an earlier plan finished of it."""
    records = Records.of(store, plan)
    if not store.put(PLAN, encode(plan)) and (found := Records.found(store)) and found[0] != records:
        _check_carried_on(*found, plan)
        records.take_over(found[0])
        store.replace(PLAN, encode(plan))
    return records


def _give_up(place: Output) -> None:
    for job in place.unfinished():
        with place.alone(job, wait=False) as alone:
            if not alone:
                raise Conflict(f"job {job} is running at this output; wait for it or stop it")
            place.forget(job)


def _done(records: Records, unit: Unit) -> Done:
    if (done := records.done(unit.index)) is None:
        raise ScoringFailed(f"unit {unit.name} was not finished; call the job again to resume it")
    return done


def _check_bad(rows_bad: int, rows_in: int, reasons: Counter[str], limit: float) -> None:
    if rows_bad > limit * rows_in:
        told = "; ".join(
            f"{count:,} × {reason}" for reason, count in reasons.most_common(MAX_REPORTED_REASONS)
        )
        raise InvalidTable(
            f"expected at most {limit:.2%} bad rows, got {rows_bad:,} of {rows_in:,} ({told});"
            " nothing was published; raise --max-bad-fraction or cure the input, and call the job again"
        )


def _summary(model: Bundle, plan: Plan, done: Sequence[Done]) -> tuple[JobRecord, list[Part]]:
    """What the manifest says of the job, and its files; raises if too many rows are bad."""
    reasons: Counter[str] = Counter()
    for unit in done:
        reasons.update(unit.reasons)
    rows_in, rows_bad = sum(unit.rows_in for unit in done), sum(unit.rows_bad for unit in done)
    _check_bad(rows_bad, rows_in, reasons, plan.options.max_bad_fraction)
    record = JobRecord(
        job=plan.job,
        model=model.label,
        revision=plan.revision,
        bundle=plan.bundle,
        inputs=plan.inputs,
        files=plan.files,
        options=plan.options,
        rows_in=rows_in,
        rows_out=sum(unit.rows_out for unit in done),
        rows_bad=rows_bad,
        reasons=dict(reasons),
        n_units=len(done),
        score_columns=model.manifest.schema.output.columns,
        engine=importlib.metadata.version("tandem-scoring"),
        finished=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    return record, [part for unit in done for part in unit.parts]
