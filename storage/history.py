"""The History page's query: filter, sort, count, one numbered page."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Select, Subquery, and_, false, func, select, text
from sqlalchemy.orm import InstrumentedAttribute, Session

from engine.domain.errors import InvalidInput
from engine.domain.experiment import RunStatus
from engine.domain.metrics import METRICS, Verdict
from storage.mapping import HEADLINE
from storage.schema import ArtifactRow, ExperimentRow, MeasurementRow, RunRow, TagRow, run_search
from storage.views import Page, RunFilter, RunSummary
from storage.words import fts5_query, phrases, tsquery

SORTS: dict[str, InstrumentedAttribute[object]] = {
    name: getattr(RunRow, name)
    for name in (
        "created_at", "finished_at", "name", "recipe", "runtime", "status", "verdict", *HEADLINE,
        "speedup", "speedup_low", "speedup_high", "lowered_bytes",
    )
}  # fmt: skip
_RANGES = (*HEADLINE, "speedup", "speedup_low", "speedup_high", "lowered_bytes")


def search_runs(
    session: Session, filter_: RunFilter, sort: str, descending: bool, offset: int, limit: int
) -> Page[RunSummary]:
    """See `Runs.search`."""
    conditions = _conditions(session, filter_)
    total = session.scalar(select(func.count()).select_from(RunRow).where(*conditions)) or 0
    keys = _ordered(select(RunRow.key).where(*conditions), sort, descending).offset(offset).limit(limit)
    wanted = list(session.scalars(keys)) if offset < total else []
    return Page(_summaries(session, wanted), total, offset, limit)


def _ordered(statement: Select[int], sort: str, descending: bool) -> Select[int]:
    column: ColumnElement[object]
    if sort in SORTS:
        column = SORTS[sort].expression
    elif sort in METRICS:
        measured = _measured(sort)
        statement = statement.outerjoin(measured, measured.c.run_key == RunRow.key)
        column = measured.c.median
    else:
        raise InvalidInput(
            f"Runs cannot be sorted by {sort!r}.", mend=f"Choose one of: {', '.join([*SORTS, *METRICS])}."
        )
    if descending:
        return statement.order_by(column.desc().nulls_last(), RunRow.key.desc())
    return statement.order_by(column.asc().nulls_last(), RunRow.key.asc())


def _measured(name: str) -> Subquery:
    return select(MeasurementRow.run_key, MeasurementRow.median).where(MeasurementRow.name == name).subquery()


def _conditions(session: Session, f: RunFilter) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if f.artifact_id:
        found.append(
            RunRow.artifact_key == select(ArtifactRow.key).where(ArtifactRow.id == f.artifact_id).scalar_subquery()
        )
    if f.experiment_id:
        key = select(ExperimentRow.key).where(ExperimentRow.id == f.experiment_id).scalar_subquery()
        found.append(RunRow.experiment_key == key)
    if f.technique:
        found.append(RunRow.techniques.contains(f" {f.technique} ", autoescape=True))
    if f.runtime:
        found.append(RunRow.runtime == f.runtime)
    if f.statuses:
        found.append(RunRow.status.in_([s.value for s in f.statuses]))
    if f.created_from:
        found.append(RunRow.created_at >= f.created_from)
    if f.created_to:
        found.append(RunRow.created_at < f.created_to)
    if f.tag:
        found.append(RunRow.key.in_(select(TagRow.run_key).where(TagRow.tag == f.tag)))
    found += [_within(name, low, high) for name, (low, high) in f.metric_ranges.items()]
    if f.text.strip():
        found.append(_text(session, f.text))
    return found


def _within(name: str, low: float | None, high: float | None) -> ColumnElement[bool]:
    if name in _RANGES:
        column = getattr(RunRow, name)
        return and_(column.is_not(None), *_bounds(column, low, high))
    if name not in METRICS:
        raise InvalidInput(f"There is no metric {name!r}.", mend=f"Choose one of: {', '.join([*METRICS, *_RANGES])}.")
    measured = select(MeasurementRow.run_key).where(
        MeasurementRow.name == name, *_bounds(MeasurementRow.median, low, high)
    )
    return RunRow.key.in_(measured)


def _bounds(column: InstrumentedAttribute[float], low: float | None, high: float | None) -> list[ColumnElement[bool]]:
    return [*([column >= low] if low is not None else []), *([column <= high] if high is not None else [])]


def _text(session: Session, query: str) -> ColumnElement[bool]:
    if not phrases(query):
        return false()
    if session.get_bind().dialect.name == "sqlite":
        match = text("run_search MATCH :words").bindparams(words=fts5_query(query))
    else:
        match = text("document @@ to_tsquery('simple', :words)").bindparams(words=tsquery(query))
    return RunRow.key.in_(select(run_search.c.rowid).where(match))


def _summaries(session: Session, keys: list[int]) -> tuple[RunSummary, ...]:
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
    by_key = {row[0].key: row for row in rows}
    return tuple(_summary(*by_key[key], tuple(tags.get(key, ()))) for key in keys)


def _summary(
    run: RunRow, artifact_id: str, artifact_name: str, experiment_id: str, experiment_name: str, tags: tuple[str, ...]
) -> RunSummary:
    return RunSummary(
        id=run.id,
        experiment_id=experiment_id,
        artifact_id=artifact_id,
        artifact_name=artifact_name,
        experiment_name=experiment_name,
        name=run.name,
        recipe=run.recipe,
        runtime=run.runtime,
        status=RunStatus(run.status),
        created_at=run.created_at,
        finished_at=run.finished_at,
        tags=tags,
        latency=run.latency,
        latency_p90=run.latency_p90,
        throughput=run.throughput,
        peak_memory=run.peak_memory,
        size=run.size,
        quality=run.quality,
        speedup=run.speedup,
        speedup_low=run.speedup_low,
        speedup_high=run.speedup_high,
        verdict=Verdict(run.verdict) if run.verdict else None,
        acceptable=run.acceptable,
        lowered_bytes=run.lowered_bytes,
    )
