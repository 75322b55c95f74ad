"""Rows to domain objects and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from engine.domain.artifact import Artifact
from engine.domain.experiment import Experiment, Run, RunStatus, StageFacts
from engine.domain.metrics import Measurement, Provenance, Ratio, Verdict
from storage.schema import ArtifactRow, ExperimentRow, MeasurementRow, RunDetailsRow, RunRow, StageRow, TagRow

HEADLINE = ("latency", "latency_p90", "throughput", "peak_memory", "size", "quality")
"""Metrics whose medians are columns of `runs`, named as the metric."""


def artifact_of(row: ArtifactRow) -> Artifact:
    return Artifact(
        id=row.id, name=row.name, size_bytes=row.size_bytes, created_at=row.created_at, card=row.card, source=row.source
    )


def experiment_of(row: ExperimentRow) -> Experiment:
    """Needs `row.artifact` loaded."""
    return Experiment(
        id=row.id,
        name=row.name,
        artifact_id=row.artifact.id,
        workload=row.workload,
        created_at=row.created_at,
        target=row.target,
        guard_rail=row.guard_rail,
        dataset=row.dataset,
        calibration=row.calibration,
        keep_models=row.keep_models,
        cancel_requested=row.cancel_requested,
        extra=row.extra,
    )


def run_of(row: RunRow) -> Run:
    """Needs experiment, artifact, details, measurements, stages and tags loaded."""
    details = row.details
    return Run(
        id=row.id,
        experiment_id=row.experiment.id,
        artifact_id=row.artifact.id,
        recipe=row.recipe,
        runtime=row.runtime,
        status=RunStatus(row.status),
        created_at=row.created_at,
        name=row.name,
        notes=details.notes,
        tags=tuple(t.tag for t in row.tags),
        attempt=row.attempt,
        progress=details.progress,
        problems=details.problems,
        facts=tuple(StageFacts(s.technique, s.seconds, s.facts, s.remarks) for s in row.stages),
        measurements=tuple(_measurement_of(m) for m in row.measurements),
        speedup=speedup_of(row),
        verdict=Verdict(row.verdict) if row.verdict else None,
        remarks=details.remarks,
        environment=details.environment,
        started_at=row.started_at,
        finished_at=row.finished_at,
        lowered_id=row.lowered_id,
    )


def speedup_of(row: RunRow) -> Ratio | None:
    if row.speedup is None or row.speedup_low is None or row.speedup_high is None:
        return None
    return Ratio(row.speedup, (row.speedup_low, row.speedup_high))


def _measurement_of(row: MeasurementRow) -> Measurement:
    ci95 = None if row.low is None or row.high is None else (row.low, row.high)
    return Measurement(row.name, row.unit, row.median, ci95, row.samples, Provenance(row.provenance))


def measurement_rows(measurements: Iterable[Measurement]) -> list[MeasurementRow]:
    return [
        MeasurementRow(
            position=position,
            name=m.name,
            unit=m.unit,
            median=m.median,
            low=m.ci95[0] if m.ci95 else None,
            high=m.ci95[1] if m.ci95 else None,
            samples=m.samples,
            provenance=m.provenance.value,
        )
        for position, m in enumerate(measurements)
    ]


def stage_rows(facts: Iterable[StageFacts]) -> list[StageRow]:
    return [
        StageRow(position=position, technique=f.technique, seconds=f.seconds, facts=dict(f.facts), remarks=f.remarks)
        for position, f in enumerate(facts)
    ]


def techniques_of(recipe: str) -> str:
    """` pruning quantization ` of a canonical recipe; the baseline's is one space."""
    chosen = recipe.partition("@")[0]
    names = [c.partition("(")[0] for c in chosen.split("+") if c]
    return " ".join(["", *names, ""]) if names else " "


def headline_of(measurements: Iterable[Measurement]) -> dict[str, float]:
    """The medians that are columns of `runs`, those that were measured."""
    return {m.name: m.median for m in measurements if m.name in HEADLINE}


def set_speedup(row: RunRow, speedup: Ratio | None, verdict: Verdict | None) -> None:
    row.speedup = speedup.median if speedup else None
    row.speedup_low, row.speedup_high = speedup.ci95 if speedup else (None, None)
    row.verdict = verdict.value if verdict else None


def set_measurements(row: RunRow, measurements: Sequence[Measurement], guard_rail: float) -> None:
    """Side rows, headline columns, and whether the run is acceptable. Status is set before."""
    row.measurements = measurement_rows(measurements)
    headline = headline_of(measurements)
    for name in HEADLINE:
        setattr(row, name, headline.get(name, row.size if name == "size" else None))
    quality = headline.get("quality")
    row.acceptable = row.status == RunStatus.SUCCEEDED.value and quality is not None and quality >= guard_rail


def new_run_row(run: Run, experiment: ExperimentRow) -> RunRow:
    """A run that is not stored yet, with everything it carries."""
    row = RunRow(
        id=run.id,
        experiment=experiment,
        artifact=experiment.artifact,
        created_at=run.created_at,
        started_at=run.started_at,
        finished_at=run.finished_at,
        status=run.status.value,
        runtime=run.runtime,
        techniques=techniques_of(run.recipe),
        attempt=run.attempt,
        recipe=run.recipe,
        name=run.name,
        lowered_id=run.lowered_id,
        details=RunDetailsRow(
            notes=run.notes,
            progress=run.progress,
            problems=run.problems,
            remarks=run.remarks,
            environment=run.environment,
        ),
        stages=stage_rows(run.facts),
        tags=[TagRow(tag=tag) for tag in sorted(set(run.tags))],
    )
    set_measurements(row, run.measurements, experiment.guard_rail)
    set_speedup(row, run.speedup, run.verdict)
    row.lowered_bytes = int(row.size or 0) if run.lowered_id else 0
    return row
