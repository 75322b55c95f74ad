"""From recipes to a stored, enqueued experiment.

An experiment is committed first and enqueued then; a worker's reconciler finds
what was committed and never enqueued, so nothing is lost in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from engine.catalogue import spec_of
from engine.domain.artifact import Artifact, ModelCard
from engine.domain.errors import InvalidInput, Problem
from engine.domain.experiment import Experiment, Run, RunStatus
from engine.domain.host import HostFacts
from engine.domain.plan import Plan
from engine.domain.recipe import Recipe
from engine.domain.workload import DatasetRef, Target, Workload
from engine.fleet import choose_host, living_hosts
from engine.grammar import make_recipe, parse_recipe
from engine.host import this_host
from engine.plan import make_plan, on_a_runtime
from engine.queue import Queue
from storage import Storage

HOST = "host"
"""Key of `Experiment.extra`: the host that has what the experiment needs."""
REPEATABLE = (RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.INTERRUPTED)


def launch(
    storage: Storage,
    queue: Queue | None,
    artifact: Artifact,
    workload: Workload,
    recipes: Iterable[Recipe],
    *,
    target: Target | None = None,
    guard_rail: float = 0.99,
    dataset: DatasetRef | None = None,
    calibration: DatasetRef | None = None,
    name: str = "",
    keep_models: bool = True,
    extra: dict[str, Any] | None = None,
) -> Experiment:
    """Store an experiment with a run for each recipe, the baseline first, and enqueue it.

    Recipes of the same effect make one run. A recipe without a runtime gets one that takes it. A recipe that cannot run here is stored as
    refused, with the reasons. `queue` None: stored only, because the caller runs it.
    """
    check_guard_rail(guard_rail)
    wanted = distinct([Recipe(), *recipes])
    named = cards_named(wanted, storage)
    chosen = choose_host(wanted, artifact, living_hosts(storage) if queue else [this_host()], named)
    wanted = _on_runtimes(wanted, artifact, chosen.host, named)
    experiment = Experiment(
        id=uuid4().hex,
        name=name or f"{artifact.name} {datetime.now(UTC):%Y-%m-%d %H:%M}",
        artifact_id=artifact.id,
        workload=workload,
        created_at=datetime.now(UTC),
        target=target,
        guard_rail=guard_rail,
        dataset=dataset,
        calibration=calibration,
        keep_models=keep_models,
        extra={**(extra or {}), **({HOST: chosen.queue_host} if chosen.queue_host else {})},
    )
    runs = [_run_of(recipe, experiment, artifact, chosen.host, named) for recipe in wanted]
    storage.experiments.create(experiment, runs)
    if queue:
        queue.enqueue_experiment(experiment.id, chosen.queue_host)
    return experiment


def check_guard_rail(share: float) -> None:
    """Raises InvalidInput unless `share` is from 0 to 1."""
    if not 0.0 <= share <= 1.0:
        raise InvalidInput(f"A guard-rail of {share:g} makes no sense.", mend="Choose a share from 0 to 1.")


def add_recipes(storage: Storage, queue: Queue, experiment_id: str, recipes: Iterable[Recipe]) -> list[Run]:
    """Add runs to an experiment; those whose recipe it already has are left out."""
    experiment = storage.experiments.get(experiment_id)
    artifact = storage.artifacts.get(experiment.artifact_id)
    present = {run.recipe for run in storage.runs.of_experiment(experiment.id)}
    host = str(experiment.extra.get(HOST, ""))
    facts = next((h for h in living_hosts(storage) if h.name == host), this_host())
    wanted = distinct(recipes)
    named = cards_named(wanted, storage)
    new = [recipe for recipe in _on_runtimes(wanted, artifact, facts, named) if str(recipe) not in present]
    runs = [_run_of(recipe, experiment, artifact, facts, named) for recipe in new]
    if runs:
        storage.experiments.add_runs(experiment.id, runs)
        queue.enqueue_experiment(experiment.id, host)
    return runs


def repeat(storage: Storage, queue: Queue, run_id: str) -> None:
    """Run a failed, cancelled or interrupted run again, beside a newly measured baseline.

    Raises InvalidInput when it ended otherwise.
    """
    run = storage.runs.get(run_id)
    if run.status not in REPEATABLE:
        raise InvalidInput(
            f"This run is {run.status}; only a failed, cancelled or interrupted one can be repeated.",
            mend="Add its recipe to a new experiment to measure it again.",
        )
    baseline = next(r for r in storage.runs.of_experiment(run.experiment_id) if r.is_baseline)
    for each in {run.id: run, baseline.id: baseline}.values():
        if each.status in REPEATABLE:
            storage.runs.requeue(each.id)
    extra = storage.experiments.get(run.experiment_id).extra
    queue.enqueue_experiment(run.experiment_id, str(extra.get(HOST, "")))


def distinct(recipes: Iterable[Recipe]) -> list[Recipe]:
    """In canonical form and without repetition, in the order given."""
    canonical = (make_recipe(recipe.choices, recipe.runtime) for recipe in recipes)
    return list({str(recipe): recipe for recipe in canonical}.values())


def _on_runtimes(recipes: Iterable[Recipe], artifact: Artifact, host: HostFacts, named: Mapping[str, ModelCard]) -> list[Recipe]:
    return distinct(on_a_runtime(recipe, artifact.card, host, named) for recipe in recipes)


def plan_of(run: Run, artifact: Artifact, storage: Storage) -> Plan:
    """The plan of a stored run on this host, made anew because hosts differ."""
    recipe = parse_recipe(run.recipe)
    return make_plan(recipe, artifact.card, this_host(), cards_named([recipe], storage))


def ids_named(recipes: Iterable[Recipe]) -> set[str]:
    """Ids of other models, as the recipes write them."""
    return {name for recipe in recipes for c in recipe.choices for name in spec_of(c.technique).names(c.config)}


def models_named(recipes: Iterable[Recipe], storage: Storage) -> dict[str, Artifact]:
    """Uploaded models that the recipes name, by the ids they write; what does not exist is left out."""
    found: dict[str, Artifact] = {}
    for name in sorted(ids_named(recipes)):
        with suppress(InvalidInput):
            found[name] = storage.artifacts.get(name)
    return found


def cards_named(recipes: Iterable[Recipe], storage: Storage) -> dict[str, ModelCard]:
    """As `models_named`: what a plan needs of them."""
    return {name: model.card for name, model in models_named(recipes, storage).items()}


def refusals_of(plan: Plan) -> tuple[Problem, ...]:
    """Why a plan cannot run, as problems to store with the run."""
    return tuple(Problem("Refused", obstacle.reason, obstacle.mend) for obstacle in plan.refusals)


def _run_of(recipe: Recipe, experiment: Experiment, artifact: Artifact, host: HostFacts, named: Mapping[str, ModelCard]) -> Run:
    plan = make_plan(recipe, artifact.card, host, named)
    return Run(
        id=uuid4().hex,
        experiment_id=experiment.id,
        artifact_id=artifact.id,
        recipe=str(recipe),
        runtime=str(plan.runtime),
        status=RunStatus.QUEUED if plan.runs else RunStatus.REFUSED,
        created_at=datetime.now(UTC),
        problems=refusals_of(plan),
    )
