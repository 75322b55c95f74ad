"""Runs as pages and the command line see them; what the worker writes is in `results`."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Select, delete, insert, select, update
from sqlalchemy.orm import Session, joinedload, selectinload

from engine.domain.errors import InvalidInput
from engine.domain.experiment import Run
from storage.history import search_runs
from storage.mapping import run_of, tag_values
from storage.removal import chunked, remove_runs, sweep_files
from storage.results import Results, locked, missing
from storage.schema import RunRow, TagRow, run_search
from storage.views import Page, RunFilter, RunSummary
from storage.words import document


class Runs(Results):
    """Reads, labels and deletes; `Results` has the worker's writes."""

    def get(self, run_id: str) -> Run:
        """Raises NotFound."""
        with self._database.read() as session:
            row = session.scalar(_whole().where(RunRow.id == run_id))
            if row is None:
                raise missing(run_id)
            return run_of(row)

    def of_experiment(self, experiment_id: str) -> list[Run]:
        """In the order they were added; empty for an unknown experiment."""
        with self._database.read() as session:
            rows = session.scalars(_whole().where(RunRow.experiment.has(id=experiment_id)).order_by(RunRow.key))
            return [run_of(row) for row in rows]

    def search(
        self, filter_: RunFilter, sort: str = "created_at", descending: bool = True, offset: int = 0, limit: int = 100
    ) -> Page[RunSummary]:
        """A page of History with the exact total.

        `sort`: a column of RunSummary or any metric's name; runs without a value come
        last either way. Raises InvalidInput for another word.
        """
        with self._database.read() as session:
            return search_runs(session, filter_, sort, descending, offset, limit)

    def annotate(
        self, run_id: str, *, name: str | None = None, notes: str | None = None, tags: Sequence[str] | None = None
    ) -> None:
        """Set what is given, leave the rest. Tags are stripped, empty ones vanish. Raises NotFound."""
        with self._database.write() as session:
            row = locked(session, run_id)
            found: dict[str, str] = {}
            if name is not None:
                row.name, found["name"] = name, document(name)
            if notes is not None:
                row.details.notes, found["notes"] = notes, document(notes)
            if tags is not None:
                chosen = tag_values(tags, row.key)
                session.execute(delete(TagRow).where(TagRow.run_key == row.key))
                if chosen:
                    session.execute(insert(TagRow), chosen)
                found["tags"] = document(" ".join(v["tag"] for v in chosen))
            if found:
                session.execute(update(run_search).where(run_search.c.rowid == row.key).values(**found))

    def delete(self, run_ids: Sequence[str]) -> int:
        """Bytes freed; unknown ids are passed over.

        Files that another run or an artifact refers to are kept. Raises InvalidInput
        when a run is being done, or when a baseline would go and others of its
        experiment would stay without it.
        """
        with self._database.write() as session:
            keys = _keys(session, run_ids)
            _refuse_widows(session, keys)
            orphans = remove_runs(session, keys)
        return sweep_files(self._database, self._files, orphans)

    def space(self, run_ids: Sequence[str]) -> int:
        """Bytes that the files of these runs hold, each counted once."""
        held: dict[str, int] = {}
        with self._database.read() as session:
            for some in chunked(_keys(session, run_ids)):
                chosen = select(RunRow.lowered_id, RunRow.lowered_bytes).where(
                    RunRow.key.in_(some), RunRow.lowered_id != ""
                )
                held.update(session.execute(chosen).all())
        return sum(held.values())

    def tags(self) -> list[str]:
        """Every tag in use, in alphabetical order."""
        with self._database.read() as session:
            return list(session.scalars(select(TagRow.tag).distinct().order_by(TagRow.tag)))


def _whole() -> Select[RunRow]:
    """Runs with everything `run_of` needs, in a fixed number of queries."""
    return select(RunRow).options(
        joinedload(RunRow.experiment),
        joinedload(RunRow.artifact),
        joinedload(RunRow.details),
        selectinload(RunRow.measurements),
        selectinload(RunRow.stages),
        selectinload(RunRow.tags),
    )


def _keys(session: Session, run_ids: Sequence[str]) -> list[int]:
    keys: list[int] = []
    for some in chunked(run_ids):
        keys += session.scalars(select(RunRow.key).where(RunRow.id.in_(some)))
    return keys


def _refuse_widows(session: Session, keys: Sequence[int]) -> None:
    """A comparison without its baseline says nothing."""
    leaving = set(keys)
    for some in chunked(keys):
        baselines = session.execute(
            select(RunRow.id, RunRow.experiment_key).where(RunRow.key.in_(some), RunRow.recipe == "")
        )
        for run_id, experiment_key in baselines.all():
            siblings = set(session.scalars(select(RunRow.key).where(RunRow.experiment_key == experiment_key)))
            if siblings - leaving:
                raise InvalidInput(
                    "This is the baseline of runs that would stay.",
                    mend="Delete the other runs too, or the whole experiment.",
                    where=run_id,
                )
