"""Deleting runs and experiments, and the files nobody refers to any more."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TypeVar

from sqlalchemy import delete, exists, or_, select
from sqlalchemy.orm import Session

from engine.domain.errors import InvalidInput
from engine.domain.experiment import RunStatus
from storage.database import Database
from storage.files import FileStore
from storage.schema import ArtifactRow, DatasetRow, ExperimentRow, RunRow, run_search

_CHUNK = 500
T = TypeVar("T")


def chunked(keys: Sequence[T]) -> Iterator[Sequence[T]]:
    """Databases limit the values of one statement."""
    for start in range(0, len(keys), _CHUNK):
        yield keys[start : start + _CHUNK]


def remove_runs(session: Session, keys: Sequence[int]) -> set[str]:
    """Delete runs with all their side rows; returns the file keys they referred to.

    Raises InvalidInput when one of them is being done.
    """
    lowered: set[str] = set()
    for some in chunked(keys):
        chosen = RunRow.key.in_(some)
        busy = session.scalar(select(RunRow.id).where(chosen, RunRow.status == RunStatus.RUNNING.value).limit(1))
        if busy is not None:
            raise InvalidInput(
                "A run that is being done cannot be deleted.", mend="Cancel its experiment first.", where=busy
            )
        lowered.update(session.scalars(select(RunRow.lowered_id).where(chosen, RunRow.lowered_id != "").distinct()))
        session.execute(delete(run_search).where(run_search.c.rowid.in_(some)))
        session.execute(delete(RunRow).where(chosen).execution_options(synchronize_session=False))
    return lowered


def remove_experiments(session: Session, keys: Sequence[int]) -> set[str]:
    """Delete experiments with their runs and shares; returns the runs' file keys."""
    lowered: set[str] = set()
    for some in chunked(keys):
        runs = session.scalars(select(RunRow.key).where(RunRow.experiment_key.in_(some))).all()
        lowered |= remove_runs(session, runs)
        session.execute(
            delete(ExperimentRow).where(ExperimentRow.key.in_(some)).execution_options(synchronize_session=False)
        )
    return lowered


def sweep_files(database: Database, files: FileStore, keys: Collection[str]) -> int:
    """Delete those of these file keys that no row refers to; returns bytes freed.

    Runs after the rows are gone, so that a crash between leaves files too many rather
    than too few, and in a write transaction of its own, so that nobody can begin to
    refer to a key (record_stage, add) between the question and the deletion.
    """
    freed = 0
    for key in sorted(keys):
        with database.write() as session:
            if not is_referenced(session, key):
                freed += files.delete(key)
    return freed


def is_referenced(session: Session, key: str) -> bool:
    return bool(
        session.scalar(
            select(
                or_(
                    exists().where(RunRow.lowered_id == key),
                    exists().where(ArtifactRow.id == key),
                    exists().where(DatasetRow.id == key),
                )
            )
        )
    )
