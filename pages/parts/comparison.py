"""An experiment as its page, its report and its share show it: one view of one comparison."""

from __future__ import annotations

from dataclasses import dataclass

from engine.compare.difference import unlike_environments
from engine.compare.pareto import front_of
from engine.compare.recommend import Recommendation, recommend
from engine.domain.artifact import Artifact, TaskId
from engine.domain.experiment import Experiment, Run, RunStatus
from engine.domain.metrics import METRICS, Measurement, Provenance
from pages.parts.charts.bars import Bar
from pages.parts.charts.speedup_quality import Mark
from pages.parts.format import ratio, share
from pages.parts.wording import recipe_words
from storage import Storage

BARS = ("latency", "time_to_first_token", "time_per_output_token", "throughput", "peak_memory", "size", "first_call_latency")
"""Metrics with a bar chart of their own, where the runs have them."""


@dataclass(frozen=True, slots=True)
class Row:
    """One run beside the baseline."""

    run: Run
    words: str
    acceptable: bool
    on_front: bool
    is_pick: bool

    @property
    def speedup(self) -> float | None:
        if self.run.is_baseline and self.run.status is RunStatus.SUCCEEDED:
            return 1.0
        return self.run.speedup.median if self.run.speedup else None

    @property
    def quality(self) -> float | None:
        return self.run.value("quality")

    @property
    def guard_rail(self) -> str:
        """Whether the quality passes; empty where it is not known."""
        return "" if self.quality is None else "Pass" if self.acceptable else "Fail"

    @property
    def verdict(self) -> str:
        """What the table's chip says; quality is judged before speed."""
        if not self.run.status.has_result:
            return str(self.run.status).capitalize()
        if self.run.is_baseline:
            return "Baseline"
        if self.quality is None:
            return "Quality unknown"
        if not self.acceptable:
            return "Below guard-rail"
        if self.run.provenance is not Provenance.MEASURED:
            return str(self.run.provenance).capitalize()
        return str(self.run.verdict).capitalize() if self.run.verdict else ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """All runs of an experiment, the best first, and what follows from them."""

    experiment: Experiment
    artifact: Artifact
    rows: tuple[Row, ...]
    recommendation: Recommendation

    @property
    def succeeded(self) -> tuple[Row, ...]:
        return tuple(r for r in self.rows if r.run.status.has_result)

    @property
    def without_result(self) -> tuple[Row, ...]:
        """Refused, failed, cancelled and interrupted runs: each has its reason."""
        return tuple(r for r in self.rows if r.run.status.is_final and not r.run.status.has_result)

    @property
    def unfinished(self) -> tuple[Row, ...]:
        return tuple(r for r in self.rows if not r.run.status.is_final)

    @property
    def baseline(self) -> Row | None:
        return next((r for r in self.succeeded if r.run.is_baseline), None)

    @property
    def pick(self) -> Row | None:
        return next((r for r in self.rows if r.is_pick), None)

    @property
    def headline_quality(self) -> Measurement | None:
        """The task's own quality metric of the pick (cosine, perplexity …), where it has one."""
        shown = self.pick or self.baseline
        names = ("spearman", "cosine", "accuracy", "regression_error", "perplexity", "agreement", "max_deviation")
        return next((m for n in names if shown and (m := shown.run.measurement(n))), None)

    @property
    def workload_words(self) -> str:
        """`batch 1, 128 tokens`: what was asked of the model."""
        workload, task = self.experiment.workload, self.artifact.card.task
        words = [f"batch {workload.batch_size}"]
        if task.takes_text:
            words.append(f"{workload.sequence_length} tokens")
        if task is TaskId.CAUSAL_LM:
            words.append(f"{workload.new_tokens} new tokens")
        if task is TaskId.IMAGE_CLASSIFIER and workload.image_size:
            words.append(f"{workload.image_size} px")
        return ", ".join(words)

    @property
    def shared_remarks(self) -> list[str]:
        """What is to be said of every candidate alike: that the machine was not steady, say."""
        candidates = [row.run.remarks for row in self.succeeded if not row.run.is_baseline]
        return [r for r in candidates[0] if all(r in other for other in candidates)] if len(candidates) > 1 else []

    @property
    def unlike(self) -> list[str]:
        """Why the times of these runs must not be compared: some were measured elsewhere or with other versions."""
        return unlike_environments([row.run for row in self.succeeded])

    @property
    def chart_title(self) -> str:
        """The plot's message."""
        pick = self.pick
        if pick is None or pick.speedup is None or pick.run.is_baseline:
            return "No recipe beats the baseline within the guard-rail" if self.succeeded else "Nothing measured yet"
        return f"{pick.words} is {ratio(pick.speedup)} as fast at {share(pick.quality)} quality"

    def marks(self) -> list[Mark]:
        """The points of the plot: succeeded runs that have a speedup and a quality."""
        return [
            Mark(
                run_id=row.run.id, words=row.words, recipe=row.run.recipe, runtime=row.run.runtime,
                provenance=row.run.provenance, speedup=row.speedup,
                interval=row.run.speedup.ci95 if row.run.speedup and not row.run.is_baseline else None,
                quality=row.quality, verdict=row.verdict, is_baseline=row.run.is_baseline,
                on_front=row.on_front, is_pick=row.is_pick and not row.run.is_baseline,
            )
            for row in self.succeeded
            if row.speedup is not None and row.quality is not None
        ]  # fmt: skip

    def bars(self, metric: str) -> list[Bar]:
        """The bars of one metric, for the runs that have it."""
        found = [(row, row.run.measurement(metric)) for row in self.succeeded]
        return [Bar(r.run.id, r.words, r.run.runtime, m, r.run.is_baseline) for r, m in found if m is not None]

    def bar_metrics(self) -> list[str]:
        return [
            name
            for name in BARS
            if name in METRICS
            and any(row.run.measurement(name) for row in self.succeeded)
            and (METRICS[name].travels or not self.unlike)
        ]


def compare_runs(experiment: Experiment, artifact: Artifact, runs: list[Run]) -> Comparison:
    """Rows ordered: acceptable first, then by speedup; what has no result last."""
    recommendation = recommend(experiment, runs, lambda run: recipe_words(run.recipe, run.runtime))
    front = front_of(experiment, runs)
    rows = [
        Row(
            run, recipe_words(run.recipe, run.runtime),
            acceptable=_acceptable(run, experiment),
            on_front=run.id in front and _acceptable(run, experiment), is_pick=run.id == recommendation.run_id,
        )
        for run in runs
    ]  # fmt: skip
    rows.sort(key=lambda r: (not r.run.status.has_result, not r.acceptable, -(r.speedup or 0.0)))
    return Comparison(experiment, artifact, tuple(rows), recommendation)


def _acceptable(run: Run, experiment: Experiment) -> bool:
    return (run.value("quality") or 0.0) >= experiment.guard_rail


def load_comparison(storage: Storage, experiment_id: str) -> Comparison:
    """The comparison of a stored experiment. Raises NotFound."""
    experiment = storage.experiments.get(experiment_id)
    artifact = storage.artifacts.get(experiment.artifact_id)
    return compare_runs(experiment, artifact, storage.runs.of_experiment(experiment.id))
