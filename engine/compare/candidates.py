"""Which runs of an experiment can be recommended at all."""

from __future__ import annotations

from collections.abc import Iterable

from engine.domain.experiment import Experiment, Run, RunStatus
from engine.domain.metrics import Provenance


def speedup_of(run: Run) -> float | None:
    """Median speedup over the baseline; the baseline's own is 1 by definition."""
    if run.status is not RunStatus.SUCCEEDED:
        return None
    if run.is_baseline:
        return 1.0
    return run.speedup.median if run.speedup else None


def is_measured(run: Run) -> bool:
    latency = run.measurement("latency")
    return latency is not None and latency.provenance is Provenance.MEASURED


def keeps_guard_rail(run: Run, experiment: Experiment) -> bool:
    """Whether its retained quality is at least the guard-rail."""
    quality = run.value("quality")
    return quality is not None and quality >= experiment.guard_rail


def meets_target(run: Run, experiment: Experiment) -> bool:
    """Whether it reaches the target; true where the experiment has none."""
    if experiment.target is None:
        return True
    headline = {m.name: m.median for m in run.measurements}
    return experiment.target.met_by(headline)


def acceptable(runs: Iterable[Run], experiment: Experiment) -> list[Run]:
    """Measured, succeeded runs that keep the guard-rail, the fastest first."""
    found = [r for r in runs if speedup_of(r) is not None and is_measured(r) and keeps_guard_rail(r, experiment)]
    return sorted(found, key=lambda r: -(speedup_of(r) or 0.0))
