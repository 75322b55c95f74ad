"""Carrying out experiments and intakes: what the worker and the command line call.

Our own rows are the truth. Whoever calls `run_experiment` again, after a crash or
because the queue delivered twice, goes on from what they say: transforms are found
by content, finished rounds stay, finished runs are left alone.
"""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.domain.errors import Cancelled, Problem, SpeedrailError
from engine.domain.experiment import Progress, Run, RunStatus
from engine.domain.metrics import Provenance
from engine.execution.computing import compute
from engine.execution.leash import Leash, Stopping
from engine.execution.lock import FileLock, HostLock
from engine.execution.measuring import fail_without_baseline, measure
from engine.execution.preparing import prepare, prepare_again
from engine.execution.recorder import Report, Superseded
from engine.execution.scratch import scratch
from engine.execution.transforming import transform_key, workers_in
from engine.execution.work import Prepared, Work, open_runs
from engine.fleet import demand_files
from engine.launch import plan_of
from engine.settings import Settings
from storage import Storage

log = logging.getLogger("speedrail.execute")
_leashes: set[Leash] = set()
_stopping = threading.Event()


def experiment_lock(settings: Settings, experiment_id: str) -> Path:
    """Held by whoever carries out this experiment on this host."""
    return settings.home / "locks" / f"experiment-{experiment_id}.lock"


def run_experiment(
    experiment_id: str,
    storage: Storage,
    settings: Settings,
    report: Report = lambda run, progress: None,
    *,
    host: HostLock | None = None,
    wait: Callable[[str], None] = lambda holder: None,
) -> bool:
    """Bring every queued or interrupted run of an experiment to its end.

    False, at once: somebody else on this host is at it. `host`: the lock under
    which models are loaded (this installation's by default); `wait(holder)` is called
    while somebody else has it. A run's failure is recorded with the run, not raised.
    """
    lock = FileLock(experiment_lock(settings, experiment_id))
    if not lock.try_acquire():
        return False
    with lock:
        try:
            _run(experiment_id, storage, settings, report, host or HostLock(settings.home), wait)
        except Superseded as run:
            log.warning("run %s is done elsewhere; leaving the experiment to it", run)
        except (Cancelled, KeyboardInterrupt, SystemExit) as end:
            _end_all(experiment_id, storage, RunStatus.CANCELLED, ())
            if not isinstance(end, Cancelled):
                raise
        except Exception as error:
            # a bug of ours or a full disk: recorded, or it would be tried for ever
            log.exception("experiment %s", experiment_id)
            _end_all(experiment_id, storage, RunStatus.FAILED, (_problem(error),))
    return True


def end_cancelled(experiment_id: str, storage: Storage, settings: Settings) -> None:
    """End a cancelled experiment that nobody has begun; who has begun it ends it himself."""
    lock = FileLock(experiment_lock(settings, experiment_id))
    if storage.experiments.cancel_requested(experiment_id) and lock.try_acquire("cancel"):
        with lock:
            _end_all(experiment_id, storage, RunStatus.CANCELLED, ())


def run_intake(intake_id: str, storage: Storage, settings: Settings) -> None:
    """Bring an intake to its end; its failure is recorded with it, not raised."""
    from engine.intake.service import take_in

    job = storage.intakes.get(intake_id)
    if job.status.is_final:
        return

    def report(progress: Progress) -> None:
        storage.intakes.update(intake_id, RunStatus.RUNNING, progress=progress)

    try:
        with HostLock(settings.home).hold(f"intake of {job.name}", lambda holder: _check_stopping()):
            artifact = take_in(Path(job.path), job.name, job.source, storage, settings, report)
        storage.intakes.update(intake_id, RunStatus.SUCCEEDED, artifact_id=artifact.id)
    except Exception as error:  # noqa: BLE001 whatever it was, who uploaded must be told
        _check_stopping()
        log.warning("intake %s: %s", intake_id, error)
        storage.intakes.update(intake_id, RunStatus.FAILED, problem=_problem(error))


def stop_all() -> None:
    """End every child of this process; what was being done stays unfinished and resumable."""
    _stopping.set()
    for leash in tuple(_leashes):
        leash.pull(Stopping())


def _run(
    experiment_id: str,
    storage: Storage,
    settings: Settings,
    report: Report,
    host: HostLock,
    wait: Callable[[str], None],
) -> None:
    note = f"experiment {experiment_id}"
    with _leashed(lambda: storage.experiments.cancel_requested(experiment_id), settings) as leash:

        def waiting(holder: str) -> None:
            leash.check()
            wait(holder)

        with host.hold(note, waiting), scratch(settings) as place:
            experiment = storage.experiments.get(experiment_id)
            artifact = storage.artifacts.get(experiment.artifact_id)
            demand_files(artifact, storage, settings)
            work = Work(
                experiment, artifact, storage, settings, leash, place, report, lambda: host.offer_turn(note, waiting)
            )
            try:
                # recipes may be added while the first ones are measured
                while runs := open_runs(experiment_id, storage):
                    _carry_out(work, runs)
            finally:
                _forget_models(work)


def _carry_out(work: Work, runs: list[Run]) -> None:
    """Transform each, then measure them together with the baseline; at last compute what cannot be measured here."""
    prepared: list[Prepared] = []
    plans = [plan_of(run, work.artifact, work.storage) for run in runs]
    work.leash.expect(workers_in(plan) for plan in plans if plan.runs)
    for run in runs:
        if ready := prepare(work, run):
            prepared.append(ready)
        work.offer_turn()
    candidates = [p for p in prepared if not p.run.is_baseline]
    baseline = next((p for p in prepared if p.run.is_baseline), None)
    if baseline is None and candidates:
        baseline = _finished_baseline(work)
    if baseline is None:
        fail_without_baseline(candidates)
        return
    measure(work, baseline, [p for p in candidates if p.plan.provenance is Provenance.MEASURED])
    for each in candidates:
        if each.plan.provenance is not Provenance.MEASURED:
            compute(work, each, baseline)
            work.offer_turn()


def _finished_baseline(work: Work) -> Prepared | None:
    runs = work.storage.runs.of_experiment(work.experiment.id)
    baseline = next(run for run in runs if run.is_baseline)
    return prepare_again(work, baseline) if baseline.status is RunStatus.SUCCEEDED else None


def _forget_models(work: Work) -> None:
    """Delete the lowered files of an experiment that keeps none."""
    if not work.experiment.keep_models:
        for run in work.storage.runs.of_experiment(work.experiment.id):
            plan = plan_of(run, work.artifact, work.storage)
            work.storage.files.delete(transform_key(work.artifact, plan, work.experiment, work.settings))


@contextmanager
def _leashed(cancelled: Callable[[], bool], settings: Settings) -> Iterator[Leash]:
    leash = Leash(cancelled, settings.sandbox_level)
    _leashes.add(leash)
    try:
        _check_stopping()
        with leash:
            yield leash
    except Exception:
        # children that were ended by a stop look like children that died
        _check_stopping()
        raise
    finally:
        _leashes.discard(leash)


def _check_stopping() -> None:
    if _stopping.is_set():
        raise Stopping


def _end_all(experiment_id: str, storage: Storage, status: RunStatus, problems: tuple[Problem, ...]) -> None:
    for run in open_runs(experiment_id, storage):
        storage.runs.finish(run.id, storage.runs.start(run.id), status, problems=problems)


def _problem(error: Exception) -> Problem:
    if isinstance(error, SpeedrailError):
        return error.as_problem()
    what = f"Something unexpected happened: {type(error).__name__}: {error}"
    return Problem(
        "SpeedrailError", what, mend="Please report it with the log.", detail="".join(traceback.format_exception(error))
    )
