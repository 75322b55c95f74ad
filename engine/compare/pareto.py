"""The Pareto front: runs that no other run beats in both speedup and quality."""

from __future__ import annotations

from collections.abc import Sequence

from engine.domain.experiment import Experiment, Run, RunStatus
from engine.domain.metrics import QUALITY, Provenance


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points that no other dominates, by falling first coordinate.

    More is better in both. A point dominates another when it is at least as good in both
    and better in one; equal points are on the front together.
    """
    order = sorted(range(len(points)), key=lambda i: points[i], reverse=True)
    kept: list[int] = []
    best = float("-inf")
    for index in order:
        quality = points[index][1]
        if quality > best or (kept and points[index] == points[kept[-1]]):
            kept.append(index)
            best = max(best, quality)
    return kept


def front_of(experiment: Experiment, runs: Sequence[Run]) -> frozenset[str]:
    """Ids of the measured runs of this experiment on the front; the baseline stands at (1, 1).

    What was computed is never on it: its latency and the others' do not come from one clock.
    """
    known = [
        (run.id, (speedup, quality))
        for run in runs
        if run.experiment_id == experiment.id and run.status is RunStatus.SUCCEEDED
        if run.provenance is Provenance.MEASURED
        if (speedup := speedup_value(run)) is not None and (quality := run.value(QUALITY.name)) is not None
    ]
    return frozenset(known[i][0] for i in front([point for _, point in known]))


def speedup_value(run: Run) -> float | None:
    """Baseline ÷ run; 1 for the baseline itself, None where it was not measured."""
    if run.is_baseline:
        return 1.0
    return run.speedup.median if run.speedup else None
