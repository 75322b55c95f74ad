"""What repositories return where a domain object would be too much or too little."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar

from engine.domain.artifact import Artifact
from engine.domain.errors import Problem
from engine.domain.experiment import Experiment, Progress, RunStatus
from engine.domain.host import HostFacts
from engine.domain.metrics import Verdict

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Items `offset` to `offset + limit` of `total`."""

    items: tuple[T, ...]
    total: int
    offset: int
    limit: int


@dataclass(frozen=True, slots=True)
class ArtifactSummary:
    """`best_speedup`: greatest speedup of a succeeded run that keeps its guard-rail."""

    artifact: Artifact
    runs: int
    best_speedup: float | None


@dataclass(frozen=True, slots=True)
class ExperimentSummary:
    """`best_speedup`: greatest speedup of a succeeded run that keeps the guard-rail."""

    experiment: Experiment
    artifact_name: str
    counts: dict[RunStatus, int]
    best_speedup: float | None

    @property
    def runs(self) -> int:
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Which runs History shows. Empty fields do not filter.

    `text`: every space-separated part must be found (as words, the last one possibly
    a beginning) in recipe, name, notes, tags, artifact name or experiment name.
    `created_from` ≤ created_at < `created_to`. `metric_ranges`: metric name (or
    `speedup`) to inclusive bounds in the metric's unit, None for open; a run that lacks
    the metric is left out.
    """

    text: str = ""
    artifact_id: str = ""
    experiment_id: str = ""
    technique: str = ""
    runtime: str = ""
    statuses: tuple[RunStatus, ...] = ()
    created_from: datetime | None = None
    created_to: datetime | None = None
    tag: str = ""
    metric_ranges: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """A row of History: medians in the units of engine.domain.metrics."""

    id: str
    experiment_id: str
    artifact_id: str
    artifact_name: str
    experiment_name: str
    name: str
    recipe: str
    runtime: str
    status: RunStatus
    created_at: datetime
    finished_at: datetime | None
    tags: tuple[str, ...]
    latency: float | None
    latency_p90: float | None
    throughput: float | None
    peak_memory: float | None
    size: float | None
    quality: float | None
    speedup: float | None
    speedup_low: float | None
    speedup_high: float | None
    verdict: Verdict | None
    acceptable: bool
    lowered_bytes: int
    """Space its downloadable files hold; 0 when none are kept."""

    @property
    def is_baseline(self) -> bool:
        return self.recipe == ""


@dataclass(frozen=True, slots=True)
class Share:
    """A read-only link to one experiment. The token itself is stored nowhere."""

    id: str
    experiment_id: str
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class IntakeJob:
    """An upload on its way to becoming an artifact."""

    id: str
    name: str
    path: str
    source: str
    created_at: datetime
    status: RunStatus = RunStatus.QUEUED
    progress: Progress | None = None
    problem: Problem | None = None
    artifact_id: str = ""


@dataclass(frozen=True, slots=True)
class StoredDataset:
    """A dataset in the store, as lists show it."""

    id: str
    name: str
    items: int
    labelled: bool
    size_bytes: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class HostBeat:
    """A worker's last sign of life."""

    host: str
    worker_id: str
    facts: HostFacts
    doing: str
    """The experiment or intake it works on, or empty."""
    at: datetime


@dataclass(frozen=True, slots=True)
class Space:
    """Bytes: what each kind of thing holds, and what is left where files are stored."""

    artifacts: int
    runs: int
    datasets: int
    database: int
    free: int | None
    """None for an object store, which does not say."""

    @property
    def held(self) -> int:
        return self.artifacts + self.runs + self.datasets + self.database
