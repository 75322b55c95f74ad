"""Uploads on their way to becoming artifacts."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import select

from engine.domain.errors import NotFound, Problem
from engine.domain.experiment import Progress, RunStatus
from storage.database import Database
from storage.schema import IntakeRow
from storage.views import IntakeJob


class Intakes:
    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, job: IntakeJob) -> None:
        with self._database.write() as session:
            session.add(
                IntakeRow(
                    id=job.id,
                    name=job.name,
                    path=job.path,
                    source=job.source,
                    status=job.status.value,
                    created_at=job.created_at,
                    updated_at=datetime.now(UTC),
                    progress=job.progress,
                    problem=job.problem,
                    artifact_id=job.artifact_id,
                )
            )

    def update(
        self,
        job_id: str,
        status: RunStatus,
        progress: Progress | None = None,
        problem: Problem | None = None,
        artifact_id: str = "",
    ) -> None:
        """The job's whole state; what is not given is cleared. Raises NotFound."""
        with self._database.write() as session:
            row = session.get(IntakeRow, job_id, with_for_update=True)
            if row is None:
                raise _missing(job_id)
            row.status = status.value
            row.progress = progress
            row.problem = problem
            row.artifact_id = artifact_id
            row.updated_at = datetime.now(UTC)

    def get(self, job_id: str) -> IntakeJob:
        """Raises NotFound."""
        with self._database.read() as session:
            row = session.get(IntakeRow, job_id)
        if row is None:
            raise _missing(job_id)
        return _job_of(row)

    def recent(self, limit: int = 20) -> list[IntakeJob]:
        """Newest first."""
        with self._database.read() as session:
            rows = session.scalars(select(IntakeRow).order_by(IntakeRow.created_at.desc(), IntakeRow.id).limit(limit))
            return [_job_of(row) for row in rows]

    def unfinished(self) -> list[str]:
        """Ids of queued and running jobs, oldest first."""
        open_statuses = (RunStatus.QUEUED.value, RunStatus.RUNNING.value)
        with self._database.read() as session:
            return list(
                session.scalars(
                    select(IntakeRow.id).where(IntakeRow.status.in_(open_statuses)).order_by(IntakeRow.created_at)
                )
            )


def _missing(job_id: str) -> NotFound:
    return NotFound(f"There is no intake {job_id!r}.", mend="Upload the model again.")


def _job_of(row: IntakeRow) -> IntakeJob:
    return IntakeJob(
        id=row.id,
        name=row.name,
        path=row.path,
        source=row.source,
        created_at=row.created_at,
        status=RunStatus(row.status),
        progress=row.progress,
        problem=row.problem,
        artifact_id=row.artifact_id,
    )
