"""The first sentence: which recipe to take, or that none will do and which is nearest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engine.compare.pareto import speedup_value
from engine.domain.experiment import Experiment, Run
from engine.domain.metrics import METRICS, QUALITY, SIZE, Direction, Provenance, Verdict
from engine.domain.workload import Target, TargetMetric


@dataclass(frozen=True, slots=True)
class Recommendation:
    """`run_id` is the run the sentence names (None: there is none); `meets`: it fulfils all demands."""

    sentence: str
    run_id: str | None
    meets: bool


def spelling(run: Run) -> str:
    """A run's recipe as a sentence names it."""
    return run.recipe or "the baseline"


def recommend(
    experiment: Experiment, runs: Sequence[Run], words: Callable[[Run], str] = spelling
) -> Recommendation:
    """The fastest measured run that meets target and guard-rail, or the nearest to that.

    What was simulated or projected is never the pick; a sentence of its own names the best of it.
    A run that cannot be told from the baseline counts as fast as the baseline. `words`
    says how runs are named.
    """
    known = [r for r in runs if r.status.has_result and speedup_value(r) is not None]
    measured = [r for r in known if r.provenance is Provenance.MEASURED]
    beyond = _beyond([r for r in known if r.provenance is not Provenance.MEASURED], experiment, words)
    so_far = "So far, " if any(not r.status.is_final for r in runs) else ""
    if not measured:
        sentence = "Nothing has been measured yet." if so_far or not runs else "No run succeeded, so there is nothing to compare."
        return Recommendation(sentence, None, False)
    able = [r for r in measured if _shortfall(r, experiment) == 0]
    if able:
        best = max(able, key=lambda r: (_told_speedup(r), r.is_baseline))
        sentence = _winner(best, experiment, words)
        return Recommendation(_begin(so_far, sentence) + beyond, best.id, True)
    nearest = min(measured, key=lambda r: (_shortfall(r, experiment), -_told_speedup(r)))
    return Recommendation(_begin(so_far, _none(nearest, experiment, words)) + beyond, nearest.id, False)


def _beyond(computed: Sequence[Run], experiment: Experiment, words: Callable[[Run], str]) -> str:
    """A sentence of its own on the best of what was not measured; empty where nothing was computed."""
    if not computed:
        return ""
    best = min(computed, key=lambda r: (_shortfall(r, experiment), -(speedup_value(r) or 0.0)))
    return f" Not measured but {best.provenance}: {words(best)}, {_result(best, experiment)}."


def _winner(run: Run, experiment: Experiment, words: Callable[[Run], str]) -> str:
    demands = _demands(experiment)
    if run.is_baseline:
        return f"No recipe that meets {demands} is distinguishably faster than the baseline."
    name = words(run)
    if run.verdict is not Verdict.FASTER:
        return f"{name} meets {demands}, but is {run.verdict or Verdict.NOT_DISTINGUISHABLE} compared with the baseline: {_result(run, experiment)}."
    return f"{name} is the fastest recipe that meets {demands}: {_result(run, experiment)}."


def _none(run: Run, experiment: Experiment, words: Callable[[Run], str]) -> str:
    return f"No recipe meets {_demands(experiment)}; the nearest is {words(run)}: {_result(run, experiment)}."


def _demands(experiment: Experiment) -> str:
    guard = f"quality ≥ {experiment.guard_rail * 100:.4g} %"
    return f"{describe_target(experiment.target)} and {guard}" if experiment.target else f"the guard-rail of {guard}"


def _result(run: Run, experiment: Experiment) -> str:
    parts = []
    if run.speedup and not run.is_baseline:
        low, high = run.speedup.ci95
        parts.append(f"{run.speedup.median:.2f}× ({low:.2f}–{high:.2f})")
    if experiment.target and (value := run.value(experiment.target.metric)) is not None:
        parts.append(_amount(experiment.target.metric, value))
    quality = run.value(QUALITY.name)
    parts.append("quality unknown" if quality is None else f"{_percent(quality)} quality")
    return ", ".join(parts)


def describe_target(target: Target) -> str:
    """`latency ≤ 15 ms`."""
    sign = "≥" if target.metric is TargetMetric.THROUGHPUT else "≤"
    return f"{target.metric} {sign} {_amount(target.metric, target.bound)}"


def _amount(metric: str, value: float) -> str:
    if metric == SIZE.name:
        return f"{value / 1e6:.4g} MB"
    return f"{value:.4g} {METRICS[metric].unit}"


def _percent(quality: float) -> str:
    """One decimal, cut rather than rounded so that 98.96 % never reads as meeting 99 %."""
    return f"{int(quality * 1000 + 1e-9) / 10:.1f} %"


def _begin(so_far: str, sentence: str) -> str:
    """After `So far, ` a sentence goes on in lower case, unless it starts with a name."""
    opening = "No recipe"
    return so_far + ("no recipe" + sentence[len(opening) :] if so_far and sentence.startswith(opening) else sentence)


def _told_speedup(run: Run) -> float:
    """Its speedup, or 1 where it cannot be told from the baseline."""
    value = speedup_value(run) or 0.0
    return 1.0 if run.verdict is Verdict.NOT_DISTINGUISHABLE else value


def _shortfall(run: Run, experiment: Experiment) -> float:
    """How much a run misses, relative to what is demanded; 0 when it meets everything."""
    quality = run.value(QUALITY.name)
    missed = 1.0 if quality is None else max(0.0, 1 - quality / experiment.guard_rail) if experiment.guard_rail else 0.0
    target = experiment.target
    if target is None or target.met_by({target.metric: run.value(target.metric)}):
        return missed
    value = run.value(target.metric)
    if not value or not target.bound:
        return missed + 1.0
    higher = METRICS[target.metric].better is Direction.HIGHER
    return missed + abs(target.bound / value - 1 if higher else value / target.bound - 1)
