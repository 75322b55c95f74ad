"""A grid of recipes from several values of knobs, several techniques and runtimes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from engine.catalogue import spec_of
from engine.domain.knobs import KnobValue
from engine.domain.recipe import Choice, Recipe, RuntimeId
from engine.grammar import make_recipe


@dataclass(frozen=True, slots=True)
class Column:
    """One ticked technique: several values a knob; with `optional`, also left out."""

    technique: str
    values: Mapping[str, Sequence[KnobValue]]
    optional: bool = False


def expand(columns: Sequence[Column], runtimes: Sequence[RuntimeId | None]) -> list[Recipe]:
    """All distinct recipes of the grid, in a stable order, the baseline left out.

    Raises RecipeError on a value out of its knob's range.
    """
    axes = [_choices(column) for column in columns]
    found: dict[str, Recipe] = {}
    for runtime in runtimes or (None,):
        for combination in product(*axes):
            recipe = make_recipe(tuple(c for c in combination if c is not None), runtime)
            if not recipe.is_baseline:
                found.setdefault(str(recipe), recipe)
    return list(found.values())


def _choices(column: Column) -> list[Choice | None]:
    spec = spec_of(column.technique)
    names = list(column.values)
    choices: list[Choice | None] = [None] if column.optional else []
    for values in product(*(column.values[name] for name in names)):
        choices.append(Choice(spec.id, spec.config.of(dict(zip(names, values, strict=True)))))
    return choices
