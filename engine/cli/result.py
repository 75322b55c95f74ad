"""An experiment's result as JSON data and as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engine.compare.recommend import recommend
from engine.domain.artifact import Artifact
from engine.domain.codec import as_data, from_data
from engine.domain.errors import Problem
from engine.domain.experiment import Experiment, Run, StageFacts
from engine.domain.metrics import LATENCY, QUALITY, SIZE, Measurement
from engine.domain.noise import NOISE, SelfCheck, SeriesNoise
from storage import Storage

Noise = Mapping[str, SeriesNoise]
"""What was seen of the machine, by run."""


def noise_by_run(storage: Storage, runs: Sequence[Run]) -> Noise:
    """Of those runs that were measured."""
    found = {run.id: storage.runs.attachments(run.id).get(NOISE) for run in runs}
    return {run_id: from_data(SeriesNoise, data) for run_id, data in found.items() if data}


def as_json_data(experiment: Experiment, artifact: Artifact, runs: Sequence[Run], noise: Noise) -> dict[str, Any]:
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
        "self_check": as_data(check) if (check := _self_check(runs, noise)) else None,
        "runs": [_run(run, noise.get(run.id)) for run in runs],
    }


def table(experiment: Experiment, runs: Sequence[Run], noise: Noise) -> str:
    """The first sentence, one line a run, and below them the self-check, why a run was refused or failed, and what is remarkable."""
    rows: list[tuple[str, ...]] = [
        ("recipe", "status", "latency ms", "speedup (95 %)", "quality", "guard-rail", "size MB", "verdict")
    ]
    rows += [_row(run, experiment.guard_rail) for run in runs]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    check = _self_check(runs, noise)
    notes = [_checked(check)] if check else []
    notes += [f"{run.recipe or 'baseline'}: {text}" for run in runs for text in (*map(str, run.problems), *run.remarks)]
    return "\n".join([recommend(experiment, runs).sentence, "", *lines, *([""] if notes else []), *notes])


def _self_check(runs: Sequence[Run], noise: Noise) -> SelfCheck | None:
    """The baseline judged against itself, where that was asked for."""
    return next((noise[run.id].check for run in runs if run.is_baseline and run.id in noise), None)


def _checked(check: SelfCheck) -> str:
    low, high = check.ratio.ci95
    return f"A/A check, the baseline against itself: {check.verdict}, {check.ratio.median:.3f} ({low:.3f} to {high:.3f})"


def _run(run: Run, noise: SeriesNoise | None) -> dict[str, Any]:
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
        "noisy": noise.is_noisy if noise else None,
        "noise": as_data(noise) if noise else None,
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
        f"{run.verdict or ''}{', noisy' if run.verdict and run.is_noisy else ''}",
    )
