"""A recipe compiled to ordered stages, or refused with reasons before launch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from graphlib import TopologicalSorter
from math import prod

from engine.catalogue import spec_of
from engine.domain.artifact import ArtifactFormat, ModelCard
from engine.domain.host import HostFacts
from engine.domain.layout import Workers
from engine.domain.metrics import Provenance
from engine.domain.plan import Plan, Stage
from engine.domain.recipe import Choice, Recipe, RuntimeId, TechniqueId
from engine.domain.technique import After, Excludes, Obstacle, Phase, RunsOn, Situation, TechniqueSpec
from engine.hardware.communication import MOST_DEVICES

_PHASE_REASON = {
    Phase.REWRITE: "Rewrites the model, so it comes before placing and spreading it.",
    Phase.PLACE: "Places the finished model on its device.",
    Phase.SPREAD: "Spreads the placed model over workers, last of all.",
}

_IN_TURN = (RuntimeId.OPENVINO, RuntimeId.ONNXRUNTIME, RuntimeId.INDUCTOR)
"""Where a recipe without a runtime is tried when the artifact's own refuses it."""

CLUSTER_COMMANDS = (
    "On every host: pip install -r requirements-cluster.txt; then RAY_AUTH_MODE=token ray start --head on the first and "
    "RAY_AUTH_MODE=token ray start --address=FIRST_HOST:6379 on each other. Start Speedrail with RAY_AUTH_MODE=token too."
)
"""What makes a Ray cluster of hosts, and lets us use it."""


def make_plan(recipe: Recipe, card: ModelCard, host: HostFacts, models: Mapping[str, ModelCard] | None = None) -> Plan:
    """The ordered plan; `refusals` says why it cannot run on this model and host.

    models: the other models that the recipe names, see `Situation.models`.
    """
    runtime = recipe.runtime or default_runtime(card)
    chosen = {choice.technique: spec_of(choice.technique) for choice in recipe.choices}
    situation = Situation(card, runtime, host, {choice.technique: choice.config for choice in recipe.choices}, models or {})
    stages = tuple(
        _stage(choice, chosen[choice.technique], chosen, situation) for choice in _ordered(recipe.choices, chosen)
    )
    refusals = [*_runtime_obstacles(situation), *_broken_rules(chosen, runtime)]
    for choice in recipe.choices:
        refusals += chosen[choice.technique].obstacles(choice.config, _as_found(situation, chosen[choice.technique], stages))
    provenance = _weakest({stage.provenance for stage in stages})
    refusals += _spread_obstacles(recipe, chosen, host, stages)
    return Plan(recipe, runtime, stages, tuple(dict.fromkeys(refusals)), provenance)


def _weakest(provenances: set[Provenance]) -> Provenance:
    """What may be said of numbers to which all of these contribute."""
    order = (Provenance.PROJECTED, Provenance.SIMULATED)
    return next((p for p in order if p in provenances), Provenance.MEASURED)


def default_runtime(card: ModelCard) -> RuntimeId:
    """The runtime of a recipe without `@`: eager, or onnxruntime for an ONNX artifact."""
    return RuntimeId.ONNXRUNTIME if card.format is ArtifactFormat.ONNX else RuntimeId.EAGER


def on_a_runtime(recipe: Recipe, card: ModelCard, host: HostFacts, models: Mapping[str, ModelCard] | None = None) -> Recipe:
    """`recipe`, on the first runtime that takes it where it names none and the default refuses it.

    A recipe that every runtime refuses stays as it is. Launches store what this gives, so that a run's recipe means the same on every host.
    """
    if recipe.runtime is not None or make_plan(recipe, card, host, models).runs:
        return recipe
    others = (replace(recipe, runtime=runtime) for runtime in _IN_TURN)
    return next((other for other in others if make_plan(other, card, host, models).runs), recipe)


def _ordered(choices: tuple[Choice, ...], chosen: dict[TechniqueId, TechniqueSpec]) -> list[Choice]:
    """By phase, then by the techniques' own After rules, then as written."""
    sorter: TopologicalSorter[TechniqueId] = TopologicalSorter()
    for choice in choices:
        spec = chosen[choice.technique]
        before = {r.other for r in spec.rules if isinstance(r, After) and r.other in chosen}
        before |= {other.id for other in chosen.values() if other.phase < spec.phase}
        sorter.add(choice.technique, *sorted(before))
    by_id = {choice.technique: choice for choice in choices}
    return [by_id[technique] for technique in sorter.static_order()]


def _as_found(situation: Situation, spec: TechniqueSpec, stages: tuple[Stage, ...]) -> Situation:
    """What a technique's obstacles are judged on: workers share out what the stages before have left of the model."""
    if spec.phase is not Phase.SPREAD:
        return situation
    for stage in stages:
        situation = replace(situation, card=spec_of(stage.technique).leaves(stage.config, situation))
    return situation


def _stage(
    choice: Choice, spec: TechniqueSpec, chosen: dict[TechniqueId, TechniqueSpec], situation: Situation
) -> Stage:
    reasons = [r.reason for r in spec.rules if isinstance(r, After) and r.other in chosen]
    reason = " ".join(reasons) or _PHASE_REASON[spec.phase]
    return Stage(spec.id, spec.title, choice.config, reason, spec.provenance(choice.config, situation))


def _runtime_obstacles(situation: Situation) -> list[Obstacle]:
    torch_runtimes = (RuntimeId.EAGER, RuntimeId.INDUCTOR)
    if situation.card.format is ArtifactFormat.ONNX and situation.runtime in torch_runtimes:
        return [Obstacle(f"An ONNX graph does not run on {situation.runtime}.", "Choose @onnxruntime or @openvino.")]
    return []


def _spread_obstacles(
    recipe: Recipe, chosen: dict[TechniqueId, TechniqueSpec], host: HostFacts, stages: tuple[Stage, ...]
) -> list[Obstacle]:
    """Workers of all techniques together, which none of them can see alone."""
    wanted = placed(recipe)
    workers, hosts = wanted.count, wanted.hosts
    if any(stage.provenance is Provenance.PROJECTED for stage in stages):
        if workers > MOST_DEVICES:
            return [Obstacle(f"{workers} devices are not projected.", f"Choose at most {MOST_DEVICES} workers in all.")]
        return []
    places = {stage.title: stage.provenance for stage in stages if chosen[stage.technique].phase is Phase.PLACE}
    simulated = [title for title, provenance in places.items() if provenance is Provenance.SIMULATED]
    if workers > 1 and simulated:
        return [Obstacle(f"Several workers run on this host, not on {simulated[0]}.", f"Leave out {simulated[0]}, or the workers.")]
    if hosts > 1 and not host.cluster:
        return [
            Obstacle(
                f"Workers on {hosts} hosts are placed by a Ray cluster with a token, and {host.name} belongs to none.",
                CLUSTER_COMMANDS,
            )
        ]
    if wanted.leave_a_host_empty:
        return [Obstacle(f"{workers} workers, {wanted.each} on a host, leave one of {hosts} hosts without any.", "Choose fewer hosts.")]
    unit, there = ("GPU", len(host.accelerators)) if places else ("core", host.cores)
    if wanted.each > there > 0:
        return [Obstacle(f"{workers} workers need a {unit} each; {host.name} has {there}.", f"Choose at most {there * hosts} workers in all.")]
    return []


def placed(recipe: Recipe) -> Workers:
    """Those of all techniques together."""
    count = prod(int(getattr(choice.config, "workers", 1)) for choice in recipe.choices)
    return Workers(count, max((int(getattr(choice.config, "hosts", 1)) for choice in recipe.choices), default=1))


def _broken_rules(chosen: dict[TechniqueId, TechniqueSpec], runtime: RuntimeId) -> list[Obstacle]:
    found: list[Obstacle] = []
    for spec in chosen.values():
        for rule in spec.rules:
            if isinstance(rule, Excludes) and rule.other in chosen:
                found.append(Obstacle(f"{spec.title} excludes {chosen[rule.other].title}: {rule.reason}"))
            if isinstance(rule, RunsOn) and runtime not in rule.runtimes:
                able = " or @".join(sorted(rule.runtimes))
                found.append(Obstacle(f"{spec.title} does not run on {runtime}: {rule.reason}", f"Choose @{able}."))
    return found
