"""The History page's query: filter, sort, count exactly, one numbered page.

How it stays in milliseconds at 100,000 runs on SQLite (measured in
benchmarks/history_100k.py):

- Each sort column has an index that also holds every filtered column, so any filter
  under any sort walks one index; only the rows shown are looked up.
- Text, tags and free metrics give *sets* of keys. A small set is fetched and sorted; a
  large one is probed while the sort's index is walked. SQLite cannot tell which is
  which, having no statistics of a MATCH, so it is told.
- Offsets, not keysets: pages have numbers, and skipping 100,000 index entries takes
  some milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

from sqlalchemy import ColumnElement, Select, and_, func, select, text
from sqlalchemy.orm import InstrumentedAttribute, Session

from engine.domain.errors import InvalidInput
from engine.domain.metrics import METRICS
from storage.mapping import run_summary_of
from storage.schema import HEADLINE, SORTED, ArtifactRow, ExperimentRow, MeasurementRow, RunRow, TagRow, run_search
from storage.views import Page, RunFilter, RunSummary
from storage.words import fts5_query, phrases, tsquery

SORTS = (*SORTED, "name", "finished_at")
"""The last two have no index: a whole scan, some tens of milliseconds."""
_RANGES = (*HEADLINE, "speedup", "speedup_low", "speedup_high")
_SMALL = 10_000
"""Below so many keys, looking rows up beats walking an index of all runs."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A filter as SQL: conditions on columns, and sets of keys to be in."""

    conditions: list[ColumnElement[bool]]
    sets: list[Select[int]]
    """The smallest first."""
    smallest: int | None
    """Its size, None without sets."""

    @property
    def walks(self) -> bool:
        """Whether to walk an index of all runs rather than to look up a few."""
        return self.smallest is None or self.smallest > _SMALL


def search_runs(
    session: Session, filter_: RunFilter, sort: str, descending: bool, offset: int, limit: int
) -> Page[RunSummary]:
    """See `Runs.search`."""
    if sort not in SORTS and sort not in METRICS:
        raise InvalidInput(
            f"Runs cannot be sorted by {sort!r}.", mend=f"Choose one of: {', '.join([*SORTS, *METRICS])}."
        )
    wanted = _wanted(session, filter_)
    total = _count(session, wanted)
    keys: Sequence[int] = ()
    if offset < total:
        keys = session.scalars(_sorted(wanted, sort, descending).offset(offset).limit(limit)).all()
    return Page(_summaries(session, keys), total, offset, limit)


def _count(session: Session, wanted: _Wanted) -> int:
    if wanted.smallest is not None and len(wanted.sets) == 1 and not wanted.conditions:
        return wanted.smallest
    if not wanted.sets:
        return session.scalar(select(func.count()).select_from(RunRow).where(*wanted.conditions)) or 0
    driving, *others = wanted.sets
    found = driving.subquery()
    conditions = [*wanted.conditions, *(RunRow.key.in_(keys) for keys in others)]
    # `+ 0` keeps SQLite from asking the full-text index about every single run instead
    joined = select(func.count()).select_from(found).join(RunRow, RunRow.key == found.c[0] + 0).where(*conditions)
    return session.scalar(joined) or 0


def _sorted(wanted: _Wanted, sort: str, descending: bool) -> Select[int]:
    statement = select(RunRow.key).where(*wanted.conditions, *(RunRow.key.in_(keys) for keys in wanted.sets))
    column: ColumnElement[object]
    if sort in SORTS:
        column = getattr(RunRow, sort)
        if sort in SORTED and wanted.walks:
            statement = statement.with_hint(RunRow, f"INDEXED BY ix_runs_by_{sort}", "sqlite")
    else:
        measured = select(MeasurementRow.run_key, MeasurementRow.median).where(MeasurementRow.name == sort).subquery()
        statement = statement.outerjoin(measured, measured.c.run_key == RunRow.key)
        column = measured.c.median
    if descending:
        return statement.order_by(column.desc().nulls_last(), RunRow.key.desc())
    return statement.order_by(column.asc().nulls_last(), RunRow.key.asc())


def _wanted(session: Session, f: RunFilter) -> _Wanted:
    sets: list[Select[int]] = []
    if f.experiment_id:
        experiment = select(ExperimentRow.key).where(ExperimentRow.id == f.experiment_id).scalar_subquery()
        sets.append(select(RunRow.key).where(RunRow.experiment_key == experiment))
    if f.tag:
        sets.append(select(TagRow.run_key).where(TagRow.tag == f.tag))
    if f.text.strip():
        sets.append(_found(session, f.text))
    conditions = _conditions(session, f)
    for name, (low, high) in f.metric_ranges.items():
        if name in _RANGES:
            column = getattr(RunRow, name)
            conditions.append(and_(column.is_not(None), *_bounds(column, low, high)))
        elif name in METRICS:
            bounds = _bounds(MeasurementRow.median, low, high)
            sets.append(select(MeasurementRow.run_key).where(MeasurementRow.name == name, *bounds))
        else:
            raise InvalidInput(
                f"There is no metric {name!r}.", mend=f"Choose one of: {', '.join([*METRICS, *_RANGES])}."
            )
    sized = sorted(((_size(session, keys), keys) for keys in sets), key=itemgetter(0))
    return _Wanted(conditions, [keys for _, keys in sized], sized[0][0] if sized else None)


def _size(session: Session, keys: Select[int]) -> int:
    return session.scalar(select(func.count()).select_from(keys.subquery())) or 0


def _conditions(session: Session, f: RunFilter) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if f.artifact_id:
        # a value, not a subquery: PostgreSQL plans better when it sees it
        key = session.scalar(select(ArtifactRow.key).where(ArtifactRow.id == f.artifact_id))
        found.append(RunRow.artifact_key == (key if key is not None else -1))
    if f.runtime:
        found.append(RunRow.runtime == f.runtime)
    if f.statuses:
        found.append(RunRow.status.in_([s.value for s in f.statuses]))
    if f.created_from:
        found.append(RunRow.created_at >= f.created_from)
    if f.created_to:
        found.append(RunRow.created_at < f.created_to)
    if f.technique:
        found.append(RunRow.techniques.contains(f" {f.technique} ", autoescape=True))
    return found


def _bounds(column: InstrumentedAttribute[float], low: float | None, high: float | None) -> list[ColumnElement[bool]]:
    return [*([column >= low] if low is not None else []), *([column <= high] if high is not None else [])]


def _found(session: Session, query: str) -> Select[int]:
    """Keys of the runs that the full-text index finds; none for a query without a word."""
    keys = select(run_search.c.rowid)
    if not phrases(query):
        return keys.where(text("1 = 0"))
    if session.get_bind().dialect.name == "sqlite":
        return keys.where(text("run_search MATCH :words").bindparams(words=fts5_query(query)))
    return keys.where(text("document @@ to_tsquery('simple', :words)").bindparams(words=tsquery(query)))


def _summaries(session: Session, keys: Sequence[int]) -> tuple[RunSummary, ...]:
    """Rows for these keys, in their order."""
    tags: dict[int, list[str]] = {}
    for key, tag in session.execute(
        select(TagRow.run_key, TagRow.tag).where(TagRow.run_key.in_(keys)).order_by(TagRow.tag)
    ):
        tags.setdefault(key, []).append(tag)
    rows = session.execute(
        select(RunRow, ArtifactRow.id, ArtifactRow.name, ExperimentRow.id, ExperimentRow.name)
        .join(RunRow.artifact)
        .join(RunRow.experiment)
        .where(RunRow.key.in_(keys))
    )
    by_key = {row[0].key: run_summary_of(*row, tags=tuple(tags.get(row[0].key, ()))) for row in rows}
    return tuple(by_key[key] for key in keys)
