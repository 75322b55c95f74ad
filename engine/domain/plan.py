"""A recipe compiled to ordered stages, or refused with reasons."""

from __future__ import annotations

from dataclasses import dataclass

from engine.domain.knobs import Config
from engine.domain.metrics import Provenance
from engine.domain.recipe import Recipe, RuntimeId, TechniqueId
from engine.domain.technique import Obstacle


@dataclass(frozen=True, slots=True)
class Stage:
    """One technique in a plan, with the reason for its place."""

    technique: TechniqueId
    title: str
    config: Config
    reason: str
    provenance: Provenance = Provenance.MEASURED


@dataclass(frozen=True, slots=True)
class Plan:
    """`refusals` is empty when the plan can run."""

    recipe: Recipe
    runtime: RuntimeId
    stages: tuple[Stage, ...]
    refusals: tuple[Obstacle, ...] = ()
    provenance: Provenance = Provenance.MEASURED
    """Of the numbers it will give; anything but measured is computed, not clocked."""

    @property
    def runs(self) -> bool:
        return not self.refusals
