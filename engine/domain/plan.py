"""A recipe compiled to ordered stages, or refused with reasons."""

from __future__ import annotations

from dataclasses import dataclass

from engine.domain.knobs import Config
from engine.domain.recipe import Recipe, RuntimeId, TechniqueId
from engine.domain.technique import Obstacle


@dataclass(frozen=True, slots=True)
class Stage:
    """One technique in a plan, with the reason for its place."""

    technique: TechniqueId
    title: str
    config: Config
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """`refusals` is empty when the plan can run."""

    recipe: Recipe
    runtime: RuntimeId
    stages: tuple[Stage, ...]
    refusals: tuple[Obstacle, ...] = ()

    @property
    def runs(self) -> bool:
        return not self.refusals
