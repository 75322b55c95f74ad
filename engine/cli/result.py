"""An experiment's result as JSON data and as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.compare.recommend import recommend
from engine.domain.artifact import Artifact
from engine.domain.codec import as_data
from engine.domain.errors import Problem
from engine.domain.experiment import Experiment, Run, StageFacts
from engine.domain.metrics import LATENCY, QUALITY, SIZE, Measurement


def as_json_data(experiment: Experiment, artifact: Artifact, runs: Sequence[Run]) -> dict[str, Any]:
    """What OUT.json holds: the experiment, with each run. Units stand beside each number."""
    return {
        "id": experiment.id,
        "name": experiment.name,
        "created_at": experiment.created_at.isoformat(),
        "artifact": {
            "id": artifact.id,
            "name": artifact.name,
            "size_bytes": artifact.size_bytes,
            "card": as_data(artifact.card),
        },
        "workload": experiment.workload.as_dict(),
        "target": as_data(experiment.target) if experiment.target else None,
        "guard_rail": experiment.guard_rail,
        "dataset": as_data(experiment.dataset) if experiment.dataset else None,
        "calibration": as_data(experiment.calibration) if experiment.calibration else None,
        "first_sentence": recommend(experiment, runs).sentence,
        "runs": [_run(run) for run in runs],
    }


def table(experiment: Experiment, runs: Sequence[Run]) -> str:
    """The first sentence, one line a run, and below them why it was refused or failed and what is remarkable."""
    rows: list[tuple[str, ...]] = [
        ("recipe", "status", "latency ms", "speedup (95 %)", "quality", "guard-rail", "size MB", "verdict")
    ]
    rows += [_row(run, experiment.guard_rail) for run in runs]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    notes = [f"{run.recipe or 'baseline'}: {text}" for run in runs for text in (*map(str, run.problems), *run.remarks)]
    return "\n".join([recommend(experiment, runs).sentence, "", *lines, *([""] if notes else []), *notes])


def _run(run: Run) -> dict[str, Any]:
    return {
        "id": run.id,
        "recipe": run.recipe,
        "runtime": run.runtime,
        "status": str(run.status),
        "reasons": [str(problem) for problem in run.problems],
        "problems": as_data(run.problems, tuple[Problem, ...]),
        "facts": as_data(run.facts, tuple[StageFacts, ...]),
        "measurements": as_data(run.measurements, tuple[Measurement, ...]),
        "speedup": as_data(run.speedup) if run.speedup else None,
        "verdict": str(run.verdict) if run.verdict else None,
        "remarks": list(run.remarks),
        "environment": as_data(run.environment) if run.environment else None,
    }


def _row(run: Run, guard_rail: float) -> tuple[str, ...]:
    latency, quality, size = (run.value(m.name) for m in (LATENCY, QUALITY, SIZE))
    speedup = run.speedup
    return (
        run.recipe or "baseline",
        str(run.status),
        "" if latency is None else f"{latency:.3g}",
        "" if speedup is None else f"{speedup.median:.2f} ({speedup.ci95[0]:.2f} to {speedup.ci95[1]:.2f})",
        "" if quality is None else f"{quality:.4f}",
        "" if quality is None else "pass" if quality >= guard_rail else "fail",
        "" if size is None else f"{size / 1e6:.1f}",
        str(run.verdict or ""),
    )
