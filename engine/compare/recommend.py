"""The first sentence: the fastest recipe that meets target and guard-rail, or the nearest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.compare.candidates import acceptable, keeps_guard_rail, meets_target, speedup_of
from engine.domain.experiment import Experiment, Run, RunStatus
from engine.domain.metrics import METRICS, Verdict
from engine.domain.workload import Target, TargetMetric


@dataclass(frozen=True, slots=True)
class Recommendation:
    """`run_id` is the run the sentence names, or empty."""

    sentence: str
    run_id: str = ""
    meets_target: bool = False


def recommend(experiment: Experiment, runs: Sequence[Run]) -> Recommendation:
    """Judge what has finished so far."""
    done = [r for r in runs if r.status is RunStatus.SUCCEEDED]
    if not done:
        unfinished = any(not r.status.is_final for r in runs)
        return Recommendation("Nothing has been measured yet." if unfinished else "No run succeeded.")
    good = acceptable(done, experiment)
    reaching = [r for r in good if meets_target(r, experiment)]
    winners = [r for r in reaching if r.is_baseline or r.verdict is Verdict.FASTER]
    if winners and not winners[0].is_baseline:
        return Recommendation(_winner(winners[0], experiment), winners[0].id, meets_target=True)
    if reaching and experiment.target is not None:
        return Recommendation(_no_need(reaching[0], experiment), reaching[0].id, meets_target=True)
    if experiment.target is not None and good:
        nearest = min(good, key=lambda r: _miss(r, experiment.target))
        return Recommendation(_nearest(nearest, experiment.target), nearest.id)
    return Recommendation(_none(done, experiment), next((r.id for r in good if r.is_baseline), ""))


def _winner(run: Run, experiment: Experiment) -> str:
    speedup = run.speedup
    interval = f" (95 % interval {speedup.ci95[0]:.2f}× to {speedup.ci95[1]:.2f}×)" if speedup else ""
    target = f" and meets {_target_words(experiment.target)} with {_reached(run, experiment.target)}" if experiment.target else ""
    return (
        f"{run.recipe} is the fastest recipe within the guard-rail: {speedup_of(run):.2f}× the baseline's speed{interval} "
        f"at {run.value('quality'):.4f} of its quality{target}."
    )


def _no_need(run: Run, experiment: Experiment) -> str:
    target = experiment.target
    assert target is not None
    who = "The baseline itself" if run.is_baseline else run.recipe
    return (
        f"{who} already meets {_target_words(target)} with {_reached(run, target)}; "
        "no recipe within the guard-rail is measurably faster."
    )


def _nearest(run: Run, target: Target) -> str:
    who = "the baseline itself" if run.is_baseline else run.recipe
    return (
        f"No recipe meets {_target_words(target)} within the guard-rail; the nearest is {who} with {_reached(run, target)}."
    )


def _none(done: Sequence[Run], experiment: Experiment) -> str:
    below = [r for r in done if not r.is_baseline and not keeps_guard_rail(r, experiment) and r.value("quality") is not None]
    if below:
        nearest = max(below, key=lambda r: r.value("quality") or 0.0)
        return (
            f"No recipe is faster within the guard-rail of {experiment.guard_rail:g}; the nearest is {nearest.recipe} "
            f"with {nearest.value('quality'):.4f} of the baseline's quality."
        )
    if len(done) == 1:
        return "Only the baseline has a result so far."
    return "No recipe is measurably faster than the baseline."


def _miss(run: Run, target: Target | None) -> float:
    """How far off the target, as a factor of at least 1."""
    assert target is not None
    value = run.value(target.metric) or 0.0
    if target.metric is TargetMetric.THROUGHPUT:
        return target.bound / value if value else float("inf")
    return value / target.bound if target.bound else float("inf")


def _target_words(target: Target | None) -> str:
    assert target is not None
    sign = "≥" if target.metric is TargetMetric.THROUGHPUT else "≤"
    return f"{target.metric} {sign} {_quantity(target.metric, target.bound)}"


def _reached(run: Run, target: Target | None) -> str:
    assert target is not None
    value = run.value(target.metric)
    return _quantity(target.metric, value) if value is not None else "no such measurement"


def _quantity(metric: str, value: float) -> str:
    unit = METRICS[metric].unit
    return f"{value / 1e6:.4g} MB" if unit == "bytes" else f"{value:.4g} {unit}"
