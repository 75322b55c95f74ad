"""The Pareto front: runs that no other run beats in speedup and quality at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from engine.compare.candidates import acceptable, speedup_of
from engine.domain.experiment import Experiment, Run


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points (both coordinates: more is better) that none dominates.

    A point dominates another when it is at least as good in both and better in one;
    equal points are all kept. Sorted by the first coordinate, descending.
    """
    order = sorted(range(len(points)), key=lambda i: (-points[i][0], -points[i][1]))
    front: list[int] = []
    best = float("-inf")
    for i in order:
        second = points[i][1]
        if second > best or (front and points[front[-1]] == points[i]):
            front.append(i)
            best = max(best, second)
    return front


def front_of(experiment: Experiment, runs: Iterable[Run]) -> frozenset[str]:
    """Ids of the acceptable measured runs on the front of speedup and retained quality."""
    candidates = acceptable(runs, experiment)
    points = [(speedup_of(r) or 0.0, r.value("quality") or 0.0) for r in candidates]
    return frozenset(candidates[i].id for i in pareto_front(points))
