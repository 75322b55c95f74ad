"""Tables. Classes here end in Row and never leave this package.

`runs` is one wide, typed table that holds everything History filters, sorts and
shows; what only a run's own page needs lies in `run_details` and the side tables, so
that a scan of a hundred thousand runs reads few pages. Rows refer to each other by
integer keys for the same reason; the ids people see are unique columns.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, MetaData, String, Table, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from engine.domain.artifact import ModelCard
from engine.domain.calibration import Calibration
from engine.domain.errors import Problem
from engine.domain.experiment import Progress
from engine.domain.host import Environment, HostFacts
from engine.domain.workload import DatasetRef, Target, Workload
from storage.columns import Encoded, Moment

Key = BigInteger().with_variant(Integer, "sqlite")
"""SQLite makes only an INTEGER PRIMARY KEY an alias of its rowid."""


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: Moment, int: BigInteger}  # noqa: RUF012


def _parent(table: str) -> ForeignKey:
    return ForeignKey(f"{table}.key", ondelete="CASCADE")


class ArtifactRow(Base):
    __tablename__ = "artifacts"

    key: Mapped[int] = mapped_column(Key, primary_key=True)
    id: Mapped[str] = mapped_column(String(64), unique=True)
    name: Mapped[str]
    size_bytes: Mapped[int]
    created_at: Mapped[datetime]
    card: Mapped[ModelCard] = mapped_column(Encoded(ModelCard))
    source: Mapped[str]


class ExperimentRow(Base):
    __tablename__ = "experiments"
    __table_args__ = (Index(None, "created_at", "key"),)

    key: Mapped[int] = mapped_column(Key, primary_key=True)
    id: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    artifact_key: Mapped[int] = mapped_column(ForeignKey("artifacts.key"), index=True)
    workload: Mapped[Workload] = mapped_column(Encoded(Workload))
    created_at: Mapped[datetime]
    target: Mapped[Target | None] = mapped_column(Encoded(Target))
    guard_rail: Mapped[float]
    dataset: Mapped[DatasetRef | None] = mapped_column(Encoded(DatasetRef))
    calibration: Mapped[DatasetRef | None] = mapped_column(Encoded(DatasetRef))
    keep_models: Mapped[bool]
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    extra: Mapped[dict[str, Any]] = mapped_column(Encoded(dict[str, Any]))

    artifact: Mapped[ArtifactRow] = relationship(lazy="raise")


HEADLINE = ("latency", "latency_p90", "throughput", "peak_memory", "size", "quality")
"""Metrics whose medians are columns of `runs`, named as the metric."""
FILTERED = ("created_at", "artifact_key", "status", "runtime", "techniques", "speedup", *HEADLINE)
"""Columns that History's filters read."""
SORTED = ("created_at", "recipe", "status", "runtime", "verdict", *HEADLINE, "speedup", "speedup_low", "speedup_high")
"""Columns that History sorts by. Each has an index in this order that also contains
everything in FILTERED, so that any filter under any sort walks one index and never
looks up a row it does not show: 3 ms instead of 47 at page 400 of 100,000 runs."""


class RunRow(Base):
    __tablename__ = "runs"

    key: Mapped[int] = mapped_column(Key, primary_key=True)
    id: Mapped[str] = mapped_column(unique=True)
    experiment_key: Mapped[int] = mapped_column(_parent("experiments"))
    artifact_key: Mapped[int] = mapped_column(ForeignKey("artifacts.key"))
    created_at: Mapped[datetime]
    status: Mapped[str]
    runtime: Mapped[str]
    techniques: Mapped[str]
    """` pruning quantization `: each id between spaces, so that one can be looked for."""
    attempt: Mapped[int] = mapped_column(default=0)
    latency: Mapped[float | None]
    latency_p90: Mapped[float | None]
    throughput: Mapped[float | None]
    peak_memory: Mapped[float | None]
    size: Mapped[float | None]
    quality: Mapped[float | None]
    speedup: Mapped[float | None]
    speedup_low: Mapped[float | None]
    speedup_high: Mapped[float | None]
    verdict: Mapped[str | None]
    acceptable: Mapped[bool] = mapped_column(default=False)
    """Succeeded, measured, with a quality that keeps its experiment's guard-rail."""
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    recipe: Mapped[str]
    name: Mapped[str]
    lowered_id: Mapped[str] = mapped_column(default="", index=True)
    lowered_bytes: Mapped[int] = mapped_column(default=0)

    experiment: Mapped[ExperimentRow] = relationship(lazy="raise")
    artifact: Mapped[ArtifactRow] = relationship(lazy="raise")
    details: Mapped[RunDetailsRow] = relationship(lazy="raise", passive_deletes=True)
    measurements: Mapped[list[MeasurementRow]] = relationship(
        lazy="raise", passive_deletes=True, cascade="all, delete-orphan", order_by="MeasurementRow.position"
    )
    stages: Mapped[list[StageRow]] = relationship(
        lazy="raise", passive_deletes=True, cascade="all, delete-orphan", order_by="StageRow.position"
    )
    tags: Mapped[list[TagRow]] = relationship(
        lazy="raise", passive_deletes=True, cascade="all, delete-orphan", order_by="TagRow.tag"
    )

    __table_args__ = (
        Index(None, "artifact_key", "acceptable", "speedup"),
        Index(None, "experiment_key", "status", "acceptable", "speedup"),
        *(Index(f"ix_runs_by_{name}", name, "key", *(c for c in FILTERED if c != name)) for name in SORTED),
    )


class RunDetailsRow(Base):
    """What only the run's own page shows; one row a run."""

    __tablename__ = "run_details"

    run_key: Mapped[int] = mapped_column(_parent("runs"), primary_key=True, autoincrement=False)
    notes: Mapped[str] = mapped_column(Text, default="")
    progress: Mapped[Progress | None] = mapped_column(Encoded(Progress))
    problems: Mapped[tuple[Problem, ...]] = mapped_column(Encoded(tuple[Problem, ...]), default=())
    remarks: Mapped[tuple[str, ...]] = mapped_column(Encoded(tuple[str, ...]), default=())
    environment: Mapped[Environment | None] = mapped_column(Encoded(Environment))


class MeasurementRow(Base):
    __tablename__ = "measurements"
    __table_args__ = (Index(None, "name", "median", "run_key"), {"sqlite_with_rowid": False})

    run_key: Mapped[int] = mapped_column(_parent("runs"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    position: Mapped[int]
    unit: Mapped[str]
    median: Mapped[float]
    low: Mapped[float | None]
    high: Mapped[float | None]
    samples: Mapped[int]
    provenance: Mapped[str]


class StageRow(Base):
    """Facts of one stage of a run's plan."""

    __tablename__ = "stages"

    run_key: Mapped[int] = mapped_column(_parent("runs"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    technique: Mapped[str]
    seconds: Mapped[float]
    facts: Mapped[dict[str, Any]] = mapped_column(Encoded(dict[str, float | int | str | bool]))
    remarks: Mapped[tuple[str, ...]] = mapped_column(Encoded(tuple[str, ...]))


class AttachmentRow(Base):
    """A table or a series beside a run's numbers; only the run's own page reads it."""

    __tablename__ = "attachments"

    run_key: Mapped[int] = mapped_column(_parent("runs"), primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    data: Mapped[Any] = mapped_column(Encoded(Any), nullable=False)


class RoundRow(Base):
    """Raw samples of one turn of one run within a block."""

    __tablename__ = "rounds"

    run_key: Mapped[int] = mapped_column(_parent("runs"), primary_key=True)
    block: Mapped[int] = mapped_column(primary_key=True)
    index: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int]
    samples: Mapped[dict[str, tuple[float, ...]]] = mapped_column(Encoded(dict[str, tuple[float, ...]]))


class TagRow(Base):
    __tablename__ = "run_tags"
    __table_args__ = (Index(None, "tag", "run_key"), {"sqlite_with_rowid": False})

    run_key: Mapped[int] = mapped_column(_parent("runs"), primary_key=True)
    tag: Mapped[str] = mapped_column(primary_key=True)


class LogRow(Base):
    __tablename__ = "logs"

    key: Mapped[int] = mapped_column(Key, primary_key=True)
    run_key: Mapped[int] = mapped_column(_parent("runs"), index=True)
    text: Mapped[str] = mapped_column(Text)


class ShareRow(Base):
    __tablename__ = "shares"

    id: Mapped[str] = mapped_column(primary_key=True)
    experiment_key: Mapped[int] = mapped_column(_parent("experiments"), index=True)
    token_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]

    experiment: Mapped[ExperimentRow] = relationship(lazy="raise")


class IntakeRow(Base):
    __tablename__ = "intakes"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    path: Mapped[str]
    source: Mapped[str]
    status: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(index=True)
    updated_at: Mapped[datetime]
    progress: Mapped[Progress | None] = mapped_column(Encoded(Progress))
    problem: Mapped[Problem | None] = mapped_column(Encoded(Problem))
    artifact_id: Mapped[str]


class DatasetRow(Base):
    __tablename__ = "datasets"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    items: Mapped[int]
    labelled: Mapped[bool]
    size_bytes: Mapped[int]
    created_at: Mapped[datetime]
    file_name: Mapped[str]


class HostRow(Base):
    __tablename__ = "hosts"

    host: Mapped[str] = mapped_column(primary_key=True)
    worker_id: Mapped[str] = mapped_column(primary_key=True)
    facts: Mapped[HostFacts] = mapped_column(Encoded(HostFacts))
    doing: Mapped[str]
    beat_at: Mapped[datetime]


class CalibrationRow(Base):
    """A host's newest calibration."""

    __tablename__ = "calibrations"

    host: Mapped[str] = mapped_column(primary_key=True)
    measured_at: Mapped[datetime]
    calibration: Mapped[Calibration] = mapped_column(Encoded(Calibration))


run_search = Table(
    "run_search", MetaData(), *(Column(n, Text) for n in ("recipe", "name", "notes", "tags", "artifact", "experiment")),
    Column("rowid", BigInteger, primary_key=True),
)  # fmt: skip
"""Words of each run for the full-text index: an FTS5 table on SQLite, a table with a
tsvector on PostgreSQL (see the first migration), hence outside `Base.metadata`."""
