"""Experiments, runs, blocks and rounds."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from engine.domain.errors import Problem
from engine.domain.host import Environment
from engine.domain.metrics import LATENCY, Measurement, Provenance, Ratio, Verdict
from engine.domain.noise import NOISY
from engine.domain.workload import DatasetRef, Target, Workload


class RunStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    REFUSED = "refused"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    PROJECTED = "projected"
    """Computed for hardware that is not here; nothing was run."""

    @property
    def is_final(self) -> bool:
        return self not in (RunStatus.QUEUED, RunStatus.RUNNING)

    @property
    def has_result(self) -> bool:
        return self in (RunStatus.SUCCEEDED, RunStatus.PROJECTED)


LOSS_CURVE = "loss_curve"
"""An attachment: a list, one entry a training: `title`, `metric` of the held-out part, why it `ended`, and its `points`
(`step`, `seconds`, `cpu_seconds`, `loss`, `quality`)."""
SENSITIVITY = "sensitivity"
"""An attachment: what the answers lose (`measure`, `damage`) when one of `places` is cut by one of `shares`, and the `proposed` shares."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A table or a series beside a run's numbers: a loss curve, an operator profile, a timeline.

    `kind` says what it is and how a page draws it; a run has at most one of a kind.
    `data` is JSON as that kind defines it (see pages.parts.attachments).
    """

    kind: str
    data: Any


@dataclass(frozen=True, slots=True)
class StageFacts:
    """What a stage did, read from the produced files, never from the config.

    `facts` is flat: name to number, text or flag (`parameters_before`, `ffn_width_after`).
    `remarks` are sentences for a person (`Masks are still dense: no speedup.`).
    """

    technique: str
    seconds: float
    facts: dict[str, float | int | str | bool]
    remarks: tuple[str, ...] = ()
    attachments: tuple[Attachment, ...] = ()
    """Stored with the run (`storage.runs.attachments`), not with the facts."""


@dataclass(frozen=True, slots=True)
class Round:
    """One turn of one run within a block: raw samples by metric name."""

    run_id: str
    block: int
    index: int
    samples: dict[str, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run is. `fraction` in [0, 1]; `seconds_left` is an estimate or None."""

    stage: str
    fraction: float
    seconds_left: float | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """One plan executed once."""

    id: str
    experiment_id: str
    artifact_id: str
    recipe: str
    """Canonical spelling; the empty string is the baseline."""
    runtime: str
    status: RunStatus
    created_at: datetime
    name: str = ""
    notes: str = ""
    tags: tuple[str, ...] = ()
    attempt: int = 0
    progress: Progress | None = None
    problems: tuple[Problem, ...] = ()
    """Why it was refused, failed or interrupted."""
    facts: tuple[StageFacts, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    speedup: Ratio | None = None
    verdict: Verdict | None = None
    remarks: tuple[str, ...] = ()
    """Sentences on what the numbers mean, why nothing was gained among them."""
    environment: Environment | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    lowered_id: str = ""
    """Key of the saved lowered files (for download), or empty."""

    @property
    def is_baseline(self) -> bool:
        return self.recipe == ""

    @property
    def provenance(self) -> Provenance:
        """Of its latency, on which every comparison rests; measured while there is none."""
        latency = self.measurement(LATENCY.name)
        return latency.provenance if latency else Provenance.MEASURED

    @property
    def is_noisy(self) -> bool:
        """Whether the machine was disturbed while it was measured (see engine.domain.noise)."""
        return any(remark.startswith(NOISY) for remark in self.remarks)

    def measurement(self, name: str) -> Measurement | None:
        return next((m for m in self.measurements if m.name == name), None)

    def value(self, name: str) -> float | None:
        found = self.measurement(name)
        return found.median if found else None


@dataclass(frozen=True, slots=True)
class Experiment:
    """One artifact, one workload, one dataset, many recipes, one baseline."""

    id: str
    name: str
    artifact_id: str
    workload: Workload
    created_at: datetime
    target: Target | None = None
    guard_rail: float = 0.99
    """Least `quality` (retained, relative to the baseline) that is acceptable."""
    dataset: DatasetRef | None = None
    calibration: DatasetRef | None = None
    keep_models: bool = True
    """Keep each run's lowered files so that they can be downloaded."""
    cancel_requested: bool = False
    extra: dict[str, Any] = field(default_factory=dict)
