"""What the worker writes of a run, fenced by attempt."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session, joinedload

from engine.domain.errors import InvalidInput, NotFound, Problem, StorageError
from engine.domain.experiment import Attachment, Progress, Round, RunStatus, StageFacts
from engine.domain.host import Environment
from engine.domain.metrics import Measurement, Ratio, Verdict
from storage.database import Database
from storage.files import FileStore
from storage.mapping import Values, measurement_values, result_values, stage_values
from storage.removal import sweep_files
from storage.schema import AttachmentRow, Base, LogRow, MeasurementRow, RoundRow, RunRow, StageRow

_REPEATABLE = (RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.INTERRUPTED)


class Results:
    """An attempt is a fence: `start` makes a new one, and every write of a result says
    on whose behalf it is. A write of an attempt that has been superseded changes
    nothing and returns False; its writer should stop.
    """

    def __init__(self, database: Database, files: FileStore) -> None:
        self._database = database
        self._files = files

    def start(self, run_id: str) -> int:
        """The number of a new attempt; all earlier ones are fenced out. Raises NotFound.

        What earlier attempts recorded (stages, rounds) stays, for a resumed experiment.
        """
        with self._database.write() as session:
            row = locked(session, run_id)
            row.attempt += 1
            row.status = RunStatus.RUNNING.value
            row.started_at = datetime.now(UTC)
            row.finished_at = None
            return row.attempt

    def progress(self, run_id: str, attempt: int, progress: Progress) -> bool:
        """Where the run is. False: fenced out."""
        with self._database.write() as session:
            row = _of_attempt(session, run_id, attempt)
            if row is not None:
                row.details.progress = progress
            return row is not None

    def record_stage(
        self, run_id: str, attempt: int, facts: Sequence[StageFacts], lowered_id: str, size_bytes: int
    ) -> bool:
        """All stages' facts and the lowered files, replacing earlier ones. False: fenced out.

        `lowered_id`: key of the saved files in `storage.files`, which must be there
        (else StorageError), or empty; `size_bytes`: what the runtime needs on disk.
        """
        with self._database.write() as session:
            row = _of_attempt(session, run_id, attempt)
            if row is None:
                return False
            if lowered_id and not self._files.exists(lowered_id):
                raise StorageError("The run's files are not in the store.", mend="Repeat the run.", where=lowered_id)
            _replace(session, StageRow, row.key, stage_values(facts, row.key))
            _attach(session, row.key, [each for stage in facts for each in stage.attachments])
            row.lowered_id = lowered_id
            row.lowered_bytes = size_bytes if lowered_id else 0
            row.size = float(size_bytes)
            return True

    def record_attachments(self, run_id: str, attempt: int, attachments: Sequence[Attachment]) -> bool:
        """Beside the run's numbers; each replaces an earlier one of its kind. False: fenced out."""
        with self._database.write() as session:
            row = _of_attempt(session, run_id, attempt)
            if row is not None:
                _attach(session, row.key, attachments)
            return row is not None

    def attachments(self, run_id: str) -> dict[str, Any]:
        """Data by kind; empty for an unknown run."""
        with self._database.read() as session:
            rows = session.scalars(
                select(AttachmentRow).join(RunRow, RunRow.key == AttachmentRow.run_key).where(RunRow.id == run_id)
            )
            return {row.kind: row.data for row in rows}

    def record_round(self, round_: Round, attempt: int) -> bool:
        """Raw samples of one turn; the same block and index again replaces them. False: fenced out."""
        with self._database.write() as session:
            row = _of_attempt(session, round_.run_id, attempt)
            if row is None:
                return False
            session.merge(
                RoundRow(
                    run_key=row.key,
                    block=round_.block,
                    index=round_.index,
                    attempt=attempt,
                    samples={name: tuple(values) for name, values in round_.samples.items()},
                )
            )
            return True

    def rounds(self, run_id: str) -> list[Round]:
        """In the order of block and index; empty for an unknown run."""
        with self._database.read() as session:
            rows = session.scalars(
                select(RoundRow)
                .join(RunRow, RunRow.key == RoundRow.run_key)
                .where(RunRow.id == run_id)
                .order_by(RoundRow.block, RoundRow.index)
            )
            return [Round(run_id, r.block, r.index, r.samples) for r in rows]

    def finish(
        self,
        run_id: str,
        attempt: int,
        status: RunStatus,
        *,
        measurements: Sequence[Measurement] = (),
        speedup: Ratio | None = None,
        verdict: Verdict | None = None,
        remarks: Sequence[str] = (),
        problems: Sequence[Problem] = (),
        environment: Environment | None = None,
    ) -> bool:
        """The one result of this attempt, whole. False: fenced out, or already finished.

        Raises InvalidInput for a status that is not an end.
        """
        if not status.is_final:
            raise InvalidInput(f"{status} is not an end of a run.", where=run_id)
        with self._database.write() as session:
            row = _of_attempt(session, run_id, attempt)
            if row is None or RunStatus(row.status).is_final:
                return False
            values = result_values(status, measurements, speedup, verdict, row.experiment.guard_rail)
            values["size"] = values["size"] or row.size
            _set(row, values | {"finished_at": datetime.now(UTC)})
            _set(row.details, {"progress": None, "problems": tuple(problems), "remarks": tuple(remarks)})
            row.details.environment = environment
            _replace(session, MeasurementRow, row.key, measurement_values(measurements, row.key))
            return True

    def requeue(self, run_id: str) -> None:
        """Repeat a failed, cancelled or interrupted run from nothing; its log stays.

        An earlier wish to cancel its experiment is forgotten. Raises NotFound, and
        InvalidInput for a run in another status.
        """
        with self._database.write() as session:
            row = locked(session, run_id)
            if row.status not in _REPEATABLE:
                raise InvalidInput(f"A run that is {row.status} cannot be repeated.", where=run_id)
            lowered_id = row.lowered_id
            _set(row, result_values(RunStatus.QUEUED, (), None, None, 1.0))
            _set(row, {"attempt": row.attempt + 1, "started_at": None, "finished_at": None})
            _set(row, {"lowered_id": "", "lowered_bytes": 0})
            _set(row.details, {"progress": None, "problems": (), "remarks": (), "environment": None})
            for side in (MeasurementRow, StageRow, RoundRow, AttachmentRow):
                _replace(session, side, row.key, [])
            row.experiment.cancel_requested = False
        sweep_files(self._database, self._files, {lowered_id} - {""})

    def append_log(self, run_id: str, text: str) -> None:
        """Raises NotFound."""
        with self._database.write() as session:
            key = session.scalar(select(RunRow.key).where(RunRow.id == run_id))
            if key is None:
                raise missing(run_id)
            # neither database takes lone surrogates, PostgreSQL no NUL either
            clean = text.encode("utf-8", "replace").decode().replace("\x00", "\N{REPLACEMENT CHARACTER}")
            session.add(LogRow(run_key=key, text=clean))

    def log(self, run_id: str) -> str:
        """Everything appended so far; empty for an unknown run."""
        with self._database.read() as session:
            parts = session.scalars(
                select(LogRow.text)
                .join(RunRow, RunRow.key == LogRow.run_key)
                .where(RunRow.id == run_id)
                .order_by(LogRow.key)
            )
            return "".join(parts)


def missing(run_id: str) -> NotFound:
    return NotFound(f"There is no run {run_id!r}.", mend="It may have been deleted; see History.")


def locked(session: Session, run_id: str) -> RunRow:
    """The run, which no other transaction can change until this one ends. Raises NotFound."""
    row = session.scalar(
        select(RunRow)
        .where(RunRow.id == run_id)
        .options(joinedload(RunRow.details), joinedload(RunRow.experiment))
        .with_for_update(of=RunRow)
    )
    if row is None:
        raise missing(run_id)
    return row


def _of_attempt(session: Session, run_id: str, attempt: int) -> RunRow | None:
    """The locked run if `attempt` is its newest. Raises NotFound."""
    row = locked(session, run_id)
    return row if row.attempt == attempt else None


def _attach(session: Session, run_key: int, attachments: Sequence[Attachment]) -> None:
    for each in attachments:
        session.merge(AttachmentRow(run_key=run_key, kind=each.kind, data=each.data))


def _set(row: Base, values: Values) -> None:
    for name, value in values.items():
        setattr(row, name, value)


def _replace(
    session: Session, side: type[MeasurementRow | StageRow | RoundRow | AttachmentRow], run_key: int, rows: Sequence[Values]
) -> None:
    """All of a run's rows in a side table."""
    session.execute(delete(side).where(side.run_key == run_key).execution_options(synchronize_session=False))
    if rows:
        session.execute(insert(side), rows)
