"""What an experiment that is being carried out consists of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engine.domain.artifact import Artifact
from engine.domain.experiment import Experiment, Progress, Run, RunStatus
from engine.domain.plan import Plan
from engine.execution.leash import Leash
from engine.execution.recorder import Recorder, Report
from engine.execution.transforming import Transformed
from engine.settings import Settings
from storage import Storage

OPEN = (RunStatus.QUEUED, RunStatus.RUNNING)
TRANSFORM_SHARE = 0.5
"""Of a run's progress bar; measuring has the rest."""


@dataclass(frozen=True, slots=True)
class Work:
    """An experiment being carried out, with everything that takes."""

    experiment: Experiment
    artifact: Artifact
    storage: Storage
    settings: Settings
    leash: Leash
    place: Path
    """A directory for logs and answers, removed at the end."""
    report: Report
    offer_turn: Callable[[], None]
    """Called between two pieces of work: an intake that waits for the host gets it."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A run whose model lies ready to be opened."""

    recorder: Recorder
    plan: Plan
    transformed: Transformed
    is_open: bool = True
    """False: a baseline that has its result and is measured again beside new runs."""

    @property
    def run(self) -> Run:
        return self.recorder.run

    def progress(self, progress: Progress) -> None:
        """Progress of the second half of the run."""
        fraction = TRANSFORM_SHARE + (1 - TRANSFORM_SHARE) * progress.fraction
        if self.is_open:
            self.recorder.progress(Progress(progress.stage, fraction, progress.seconds_left))


def open_runs(experiment_id: str, storage: Storage) -> list[Run]:
    """Runs that are queued, or were begun by somebody who may have died; the baseline first."""
    runs = [run for run in storage.runs.of_experiment(experiment_id) if run.status in OPEN]
    return sorted(runs, key=lambda run: not run.is_baseline)
