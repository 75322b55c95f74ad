"""Experiments: created whole with their runs, cancelled by a flag the worker reads."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import cast

from sqlalchemy import ColumnElement, Table, func, insert, or_, select, update
from sqlalchemy.orm import Session, joinedload

from engine.domain.errors import NotFound
from engine.domain.experiment import Experiment, Run, RunStatus
from storage.artifacts import find_artifact
from storage.database import Database
from storage.files import FileStore
from storage.mapping import (
    Values,
    details_values,
    experiment_of,
    measurement_values,
    run_values,
    search_values,
    stage_values,
    tag_values,
)
from storage.removal import remove_experiments, sweep_files
from storage.schema import (
    ArtifactRow,
    Base,
    ExperimentRow,
    MeasurementRow,
    RunDetailsRow,
    RunRow,
    StageRow,
    TagRow,
    run_search,
)
from storage.views import ExperimentSummary, Page
from storage.words import document


class Experiments:
    def __init__(self, database: Database, files: FileStore) -> None:
        self._database = database
        self._files = files

    def create(self, experiment: Experiment, runs: Sequence[Run]) -> None:
        """The experiment and all its runs with what they carry, or nothing.

        Raises NotFound when the artifact is gone.
        """
        self.create_all([(experiment, runs)])

    def create_all(self, experiments: Sequence[tuple[Experiment, Sequence[Run]]]) -> None:
        """Many in one transaction, in a few statements, as a history is taken over."""
        with self._database.write() as session:
            artifacts = {
                artifact_id: find_artifact(session, artifact_id)
                for artifact_id in {experiment.artifact_id for experiment, _ in experiments}
            }
            rows = [_row_of(experiment, artifacts[experiment.artifact_id]) for experiment, _ in experiments]
            session.add_all(rows)
            session.flush()
            _add_runs(session, [(row, run) for row, (_, runs) in zip(rows, experiments, strict=True) for run in runs])

    def add_runs(self, experiment_id: str, runs: Sequence[Run]) -> None:
        """More runs for an experiment; an earlier wish to cancel it is forgotten. Raises NotFound."""
        with self._database.write() as session:
            row = _find(session, experiment_id)
            row.cancel_requested = False
            _add_runs(session, [(row, run) for run in runs])

    def get(self, experiment_id: str) -> Experiment:
        """Raises NotFound."""
        with self._database.read() as session:
            return experiment_of(_find(session, experiment_id))

    def unfinished(self) -> list[str]:
        """Ids of experiments with a queued or running run, oldest first."""
        open_statuses = (RunStatus.QUEUED.value, RunStatus.RUNNING.value)
        with self._database.read() as session:
            waiting = select(RunRow.experiment_key).where(RunRow.status.in_(open_statuses))
            return list(
                session.scalars(
                    select(ExperimentRow.id).where(ExperimentRow.key.in_(waiting)).order_by(ExperimentRow.created_at)
                )
            )

    def list(self, text: str = "", offset: int = 0, limit: int = 100) -> Page[ExperimentSummary]:
        """Newest first; `text` is looked for in names of experiments and artifacts."""
        matching = _matching(text)
        with self._database.read() as session:
            total = (
                session.scalar(select(func.count(ExperimentRow.key)).join(ExperimentRow.artifact).where(*matching)) or 0
            )
            rows = session.scalars(
                select(ExperimentRow)
                .join(ExperimentRow.artifact)
                .where(*matching)
                .options(joinedload(ExperimentRow.artifact))
                .order_by(ExperimentRow.created_at.desc(), ExperimentRow.key.desc())
                .offset(offset)
                .limit(limit)
            ).all()
            counts, best = _figures(session, [r.key for r in rows])
        items = tuple(
            ExperimentSummary(experiment_of(r), r.artifact.name, counts[r.key], best.get(r.key)) for r in rows
        )
        return Page(items, total, offset, limit)

    def rename(self, experiment_id: str, name: str) -> None:
        """Raises NotFound."""
        with self._database.write() as session:
            row = _find(session, experiment_id)
            row.name = name
            its_runs = select(RunRow.key).where(RunRow.experiment_key == row.key)
            session.execute(
                update(run_search).where(run_search.c.rowid.in_(its_runs)).values(experiment=document(name))
            )

    def request_cancel(self, experiment_id: str) -> None:
        """Asks the worker to end it; the worker marks the runs. Raises NotFound."""
        with self._database.write() as session:
            _find(session, experiment_id).cancel_requested = True

    def cancel_requested(self, experiment_id: str) -> bool:
        """Also true of an experiment that was deleted: nobody waits for it."""
        with self._database.read() as session:
            wish = session.scalar(select(ExperimentRow.cancel_requested).where(ExperimentRow.id == experiment_id))
        return wish is not False

    def delete(self, experiment_id: str) -> int:
        """With its runs and shares; bytes freed. Raises NotFound, or InvalidInput while a run is being done."""
        with self._database.write() as session:
            orphans = remove_experiments(session, [_find(session, experiment_id).key])
        return sweep_files(self._database, self._files, orphans)


def _find(session: Session, experiment_id: str) -> ExperimentRow:
    row = session.scalar(
        select(ExperimentRow).where(ExperimentRow.id == experiment_id).options(joinedload(ExperimentRow.artifact))
    )
    if row is None:
        raise NotFound(f"There is no experiment {experiment_id!r}.", mend="It may have been deleted; see History.")
    return row


def _row_of(experiment: Experiment, artifact: ArtifactRow) -> ExperimentRow:
    return ExperimentRow(
        id=experiment.id,
        name=experiment.name,
        artifact=artifact,
        workload=experiment.workload,
        created_at=experiment.created_at,
        target=experiment.target,
        guard_rail=experiment.guard_rail,
        dataset=experiment.dataset,
        calibration=experiment.calibration,
        keep_models=experiment.keep_models,
        cancel_requested=experiment.cancel_requested,
        extra=dict(experiment.extra),
    )


def _add_runs(session: Session, runs: Sequence[tuple[ExperimentRow, Run]]) -> None:
    """Insert runs with all they carry, a statement a table; experiments are flushed."""
    if not runs:
        return
    inserted = insert(_table(RunRow)).returning(RunRow.key, sort_by_parameter_order=True)
    keys = session.scalars(inserted, [run_values(run, experiment) for experiment, run in runs])
    keyed = [(key, experiment, run) for key, (experiment, run) in zip(keys, runs, strict=True)]
    side: list[tuple[Table, list[Values]]] = [
        (_table(RunDetailsRow), [{"run_key": key, **details_values(run)} for key, _, run in keyed]),
        (_table(MeasurementRow), [v for key, _, run in keyed for v in measurement_values(run.measurements, key)]),
        (_table(StageRow), [v for key, _, run in keyed for v in stage_values(run.facts, key)]),
        (_table(TagRow), [v for key, _, run in keyed for v in tag_values(run.tags, key)]),
        (run_search, [search_values(run, key, e.artifact.name, e.name) for key, e, run in keyed]),
    ]
    for table, rows in side:
        if rows:
            session.execute(insert(table), rows)


def _table(row: type[Base]) -> Table:
    # the ORM's own bulk insert takes twice as long
    return cast(Table, row.__table__)


def _matching(text: str) -> list[ColumnElement[bool]]:
    return [
        or_(ExperimentRow.name.icontains(part, autoescape=True), ArtifactRow.name.icontains(part, autoescape=True))
        for part in text.split()
    ]


def _figures(session: Session, keys: Sequence[int]) -> tuple[dict[int, dict[RunStatus, int]], dict[int, float]]:
    """Runs by experiment and status, and best acceptable speedup by experiment."""
    of_these = RunRow.experiment_key.in_(keys)
    counted = (
        select(RunRow.experiment_key, RunRow.status, func.count())
        .where(of_these)
        .group_by(RunRow.experiment_key, RunRow.status)
    )
    counts: dict[int, dict[RunStatus, int]] = defaultdict(dict)
    for key, status, number in session.execute(counted):
        counts[key][RunStatus(status)] = number
    best = (
        select(RunRow.experiment_key, func.max(RunRow.speedup))
        .where(of_these, RunRow.acceptable, RunRow.speedup.is_not(None))
        .group_by(RunRow.experiment_key)
    )
    return counts, dict(session.execute(best).all())  # type: ignore[arg-type]
