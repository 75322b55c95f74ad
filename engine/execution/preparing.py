"""Preparing a run: plan it again, find or make its lowered model, record the facts.

One run that fails is recorded as failed; the others go on.
"""

from __future__ import annotations

from engine.domain.errors import Cancelled, SpeedrailError, StageError
from engine.domain.experiment import Progress, Run, RunStatus
from engine.execution.recorder import Recorder
from engine.execution.transforming import Transformed, find_transformed, transform, transform_key
from engine.execution.work import TRANSFORM_SHARE, Prepared, Work
from engine.launch import plan_of, refusals_of

MAX_CRASHES = 10
"""Attempts at one run that ended with the death of the worker, before it is given up."""


def prepare(work: Work, run: Run) -> Prepared | None:
    """Begin an attempt and transform; None when the run ended here, which is then recorded."""
    recorder = _recorder(work, run, work.storage.runs.start(run.id))
    if run.status is RunStatus.RUNNING and run.attempt >= MAX_CRASHES:
        recorder.finish(RunStatus.INTERRUPTED, problems=(_too_many_crashes(run).as_problem(),))
        return None
    plan = plan_of(run, work.artifact, work.storage)
    if not plan.runs:
        recorder.finish(RunStatus.REFUSED, problems=refusals_of(plan))
        return None
    try:
        lowered = transformed(work, recorder)
        recorder.transformed(lowered, keep=work.experiment.keep_models)
    except Cancelled:
        raise
    except SpeedrailError as error:
        # a child that was ended by a cancel looks like one that died
        work.leash.check()
        recorder.fail(error)
        return None
    recorder.progress(Progress("waiting to be measured", TRANSFORM_SHARE))
    return Prepared(recorder, plan, lowered)


def prepare_again(work: Work, baseline: Run) -> Prepared:
    """A baseline that has its result, to be measured beside new runs. Raises SpeedrailError."""
    recorder = _recorder(work, baseline, baseline.attempt)
    return Prepared(recorder, plan_of(baseline, work.artifact, work.storage), transformed(work, recorder), is_open=False)


def _recorder(work: Work, run: Run, attempt: int) -> Recorder:
    return Recorder(run, attempt, work.storage, work.place / f"{run.id}.log", work.report)


def transformed(work: Work, recorder: Recorder) -> Transformed:
    """The run's lowered model for this workload, found in the store or made. Raises SpeedrailError."""
    plan = plan_of(recorder.run, work.artifact, work.storage)
    key = transform_key(work.artifact, plan, work.experiment, work.settings)
    if found := find_transformed(key, work.storage):
        recorder.say("transform: found in the store")
        return found
    recorder.say("transform: begins")

    def report(progress: Progress) -> None:
        recorder.progress(Progress(progress.stage, progress.fraction * TRANSFORM_SHARE, progress.seconds_left))

    made = transform(
        work.artifact, plan, work.experiment, work.storage, work.settings, work.leash, recorder.log, report
    )
    recorder.say("transform: done")
    return made


def _too_many_crashes(run: Run) -> SpeedrailError:
    return StageError(
        f"The worker died {run.attempt} times while it worked on this run.",
        mend="The host may lack memory for it. Choose a smaller batch, or repeat it when the host is less busy.",
    )
