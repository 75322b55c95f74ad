"""Recipes in short words for plots and tables: `pruning 0.3 + quantization int8 · openvino`."""

from __future__ import annotations

from engine.domain.errors import RecipeError
from engine.domain.knobs import format_value
from engine.domain.recipe import Choice
from engine.grammar import parse_recipe


def recipe_words(recipe: str, runtime: str) -> str:
    """Short words of a stored recipe; its own spelling when this version no longer reads it."""
    if recipe == "":
        return f"baseline · {runtime}"
    try:
        choices = parse_recipe(recipe).choices
    except RecipeError:
        return recipe
    techniques = " + ".join(_choice_words(choice) for choice in choices)
    return f"{techniques or 'fp32'} · {runtime}"


def _choice_words(choice: Choice) -> str:
    """What characterises a choice bare, everything else by its name: `quantization int4, group size 32`."""
    spelled = [(name.replace("_", " "), format_value(value)) for name, value in choice.config.spelled().items()]
    words = [value if position == 0 else f"{name} {value}" for position, (name, value) in enumerate(spelled)]
    return f"{choice.technique} {', '.join(words)}".strip()
