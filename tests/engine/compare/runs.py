"""Runs and experiments as comparisons see them."""

from __future__ import annotations

from datetime import UTC, datetime

from engine.domain.experiment import Experiment, Run, RunStatus
from engine.domain.metrics import METRICS, Measurement, Ratio, Verdict
from engine.domain.workload import Target, TargetMetric, Workload

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def experiment(target: tuple[str, float] | None = None, guard_rail: float = 0.99) -> Experiment:
    aim = Target(TargetMetric(target[0]), target[1]) if target else None
    return Experiment("e1", "first", "a1", Workload(), NOW, target=aim, guard_rail=guard_rail)


def run(
    recipe: str,
    speedup: float | None = None,
    quality: float | None = 1.0,
    verdict: Verdict | None = None,
    status: RunStatus = RunStatus.SUCCEEDED,
    **values: float,
) -> Run:
    """`values`: medians by metric name. Without a verdict: faster above 1.05."""
    found = values | ({} if quality is None else {"quality": quality})
    measurements = tuple(Measurement(name, METRICS[name].unit, value, None, 1) for name, value in found.items())
    if speedup is not None and verdict is None:
        verdict = Verdict.FASTER if speedup > 1.05 else Verdict.NOT_DISTINGUISHABLE
    ratio = Ratio(speedup, (speedup * 0.98, speedup * 1.02)) if speedup is not None else None
    return Run(
        recipe or "baseline", "e1", "a1", recipe, "eager", status, NOW, measurements=measurements, speedup=ratio,
        verdict=verdict,
    )  # fmt: skip
