"""Rows to domain objects and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from engine.domain.artifact import Artifact
from engine.domain.experiment import Experiment, Run, RunStatus, StageFacts
from engine.domain.metrics import Measurement, Provenance, Ratio, Verdict
from storage.schema import HEADLINE, ArtifactRow, ExperimentRow, MeasurementRow, RunRow
from storage.views import RunSummary
from storage.words import document

Values = dict[str, Any]


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


def run_summary_of(
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


def techniques_of(recipe: str) -> str:
    """` pruning quantization ` of a canonical recipe; the baseline's is one space."""
    chosen = recipe.partition("@")[0]
    names = [c.partition("(")[0] for c in chosen.split("+") if c]
    return " ".join(["", *names, ""]) if names else " "


# What follows is rows as plain values: they are inserted many at a time.


def run_values(run: Run, experiment: ExperimentRow) -> Values:
    """A new row of `runs` with everything the run carries."""
    values = {
        "id": run.id,
        "experiment_key": experiment.key,
        "artifact_key": experiment.artifact_key,
        "created_at": run.created_at,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "runtime": run.runtime,
        "techniques": techniques_of(run.recipe),
        "attempt": run.attempt,
        "recipe": run.recipe,
        "name": run.name,
        "lowered_id": run.lowered_id,
        "lowered_bytes": int(run.value("size") or 0) if run.lowered_id else 0,
    }
    return values | result_values(run.status, run.measurements, run.speedup, run.verdict, experiment.guard_rail)


def result_values(
    status: RunStatus,
    measurements: Sequence[Measurement],
    speedup: Ratio | None,
    verdict: Verdict | None,
    guard_rail: float,
) -> Values:
    """The columns of `runs` that say how it ended: headline medians, speedup, verdict."""
    medians = {m.name: m.median for m in measurements}
    quality = medians.get("quality")
    measured = all(m.provenance is Provenance.MEASURED for m in measurements if m.name == "latency")
    return {name: medians.get(name) for name in HEADLINE} | {
        "status": status.value,
        "speedup": speedup.median if speedup else None,
        "speedup_low": speedup.ci95[0] if speedup else None,
        "speedup_high": speedup.ci95[1] if speedup else None,
        "verdict": verdict.value if verdict else None,
        "acceptable": status is RunStatus.SUCCEEDED and measured and quality is not None and quality >= guard_rail,
    }


def details_values(run: Run) -> Values:
    return {
        "notes": run.notes,
        "progress": run.progress,
        "problems": run.problems,
        "remarks": run.remarks,
        "environment": run.environment,
    }


def measurement_values(measurements: Sequence[Measurement], run_key: int) -> list[Values]:
    return [
        {
            "run_key": run_key,
            "name": m.name,
            "position": position,
            "unit": m.unit,
            "median": m.median,
            "low": m.ci95[0] if m.ci95 else None,
            "high": m.ci95[1] if m.ci95 else None,
            "samples": m.samples,
            "provenance": m.provenance.value,
        }
        for position, m in enumerate(measurements)
    ]


def stage_values(facts: Sequence[StageFacts], run_key: int) -> list[Values]:
    return [
        {
            "run_key": run_key,
            "position": position,
            "technique": f.technique,
            "seconds": f.seconds,
            "facts": dict(f.facts),
            "remarks": f.remarks,
        }
        for position, f in enumerate(facts)
    ]


def tag_values(tags: Iterable[str], run_key: int) -> list[Values]:
    """Stripped, each once, empty ones left out."""
    return [{"run_key": run_key, "tag": tag} for tag in sorted({t.strip() for t in tags} - {""})]


def search_values(run: Run, run_key: int, artifact_name: str, experiment_name: str) -> Values:
    """The words under which a run is found."""
    return {
        "rowid": run_key,
        "recipe": document(run.recipe),
        "name": document(run.name),
        "notes": document(run.notes),
        "tags": document(" ".join(run.tags)),
        "artifact": document(artifact_name),
        "experiment": document(experiment_name),
    }
