"""What a technique says of itself, torch-free, so that the dashboard plans with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any

from engine.domain.artifact import ModelCard, TaskId
from engine.domain.host import HostFacts
from engine.domain.knobs import Config
from engine.domain.metrics import Provenance
from engine.domain.recipe import RuntimeId, TechniqueId


class Phase(IntEnum):
    """What a technique changes; plans run in this order."""

    REWRITE = 1
    """The model: distillation, pruning, quantization."""
    PLACE = 2
    """Where it runs: gpu, fpga."""
    SPREAD = 3
    """Over how many: model_parallelism, distributed."""


class Family(StrEnum):
    """The source article's four groups, by which the form lists the techniques."""

    ALGORITHM = "Algorithm optimisation"
    HARDWARE = "Hardware acceleration"
    COMPRESSION = "Model compression"
    DISTRIBUTED = "Distributed parallel inference"


@dataclass(frozen=True, slots=True)
class After:
    """If both are chosen, this one runs after `other`."""

    other: TechniqueId
    reason: str


@dataclass(frozen=True, slots=True)
class Excludes:
    """Not together with `other`. Declared on one side, read from both."""

    other: TechniqueId
    reason: str


@dataclass(frozen=True, slots=True)
class RunsOn:
    """The runtimes this technique can serve."""

    runtimes: frozenset[RuntimeId]
    reason: str


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why something cannot be done here, and what would mend it."""

    reason: str
    mend: str = ""

    def __str__(self) -> str:
        return f"{self.reason} {self.mend}".strip()


@dataclass(frozen=True, slots=True)
class Situation:
    """What obstacles are judged on: the model, the runtime, the host."""

    card: ModelCard
    runtime: RuntimeId
    host: HostFacts
    chosen: Mapping[TechniqueId, Config] = field(default_factory=dict)
    """All techniques of the recipe with their settings: where one places the model elsewhere, the runtime's limits
    do not hold."""
    models: Mapping[str, ModelCard] = field(default_factory=dict)
    """Other uploaded models that the recipe names (`TechniqueSpec.names`), by the ids it writes; those that exist."""

    @property
    def task(self) -> TaskId:
        return self.card.task


def measured(config: Any, situation: Situation) -> Provenance:
    """What the techniques' numbers are, unless they say otherwise."""
    return Provenance.MEASURED


@dataclass(frozen=True, slots=True, kw_only=True)
class TechniqueSpec:
    """A technique's face: everything but the work itself.

    `implementation` is `package.module:ClassName` of its `Technique` and is imported
    in child processes only, because it loads torch.
    """

    id: TechniqueId
    title: str
    family: Family
    phase: Phase
    summary: str
    """One sentence: what happens to the model."""
    config: type[Config]
    implementation: str
    rules: tuple[After | Excludes | RunsOn, ...] = ()
    obstacles: Callable[[Any, Situation], list[Obstacle]]
    """(config, situation) -> why not here. Empty: it can run."""
    leaves: Callable[[Any, Situation], ModelCard] = lambda config, situation: situation.card
    """(config, situation) -> the card with the sizes that it leaves, as far as they are known beforehand; workers share
    these out."""
    provenance: Callable[[Any, Situation], Provenance] = measured
    """(config, situation) -> what the run's numbers will be. Where it is not measured, the
    implementation is a `Computing` technique (engine.domain.ports), which computes them."""
    training_minutes: Callable[[Any], float] = lambda config: 0.0
    """config -> most minutes it trains, beyond what every stage takes."""
    names: Callable[[Any], tuple[str, ...]] = lambda config: ()
    """config -> ids of other uploaded models that it works with (`Context.models`)."""
    figures: str = ""
    """Folder of the home with figures that tools found there and the stage computes from (`Context.figures`)."""
    suggested: tuple[str, ...] = ()
    """Recipes (canonical spelling) worth offering to a newcomer, best first."""
