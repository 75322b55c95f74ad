"""The recipe grammar: `technique(knob=value, …)` joined by `+`, then `@runtime`.

    recipe    = [ technique { "+" technique } ] [ "@" runtime ]
    technique = name [ "(" [ knob { "," knob } ] ")" ]
    knob      = name "=" value

The empty text is the baseline. Spaces are free. `str(recipe)` spells it back.
"""

from __future__ import annotations

import re

from engine.catalogue import TECHNIQUES, spec_of
from engine.domain.errors import RecipeError
from engine.domain.recipe import Choice, Recipe, RuntimeId

_TECHNIQUE = re.compile(r"\s*(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*(?:\((?P<knobs>[^()]*)\))?\s*")
_EXAMPLE = "Write for example pruning(sparsity=0.3)+quantization(format=int8)@openvino."


def parse_recipe(text: str) -> Recipe:
    """Raises RecipeError, which names the place in the text."""
    techniques, at, runtime = text.partition("@")
    choices = _parse_choices(techniques) if techniques.strip() else ()
    return Recipe(choices, _parse_runtime(runtime) if at else None)


def make_recipe(choices: tuple[Choice, ...], runtime: RuntimeId | None) -> Recipe:
    """A recipe in canonical form: techniques in the catalogue's order."""
    order = {spec.id: position for position, spec in enumerate(TECHNIQUES)}
    return Recipe(tuple(sorted(choices, key=lambda c: order[c.technique])), runtime)


def _parse_runtime(text: str) -> RuntimeId:
    try:
        return RuntimeId(text.strip())
    except ValueError:
        raise RecipeError(
            f"There is no runtime {text.strip()!r}.", mend=f"Known runtimes: {', '.join(RuntimeId)}.", where=f"@{text}"
        ) from None


def _parse_choices(text: str) -> tuple[Choice, ...]:
    choices: dict[str, Choice] = {}
    position = 0
    while True:
        match = _TECHNIQUE.match(text, position)
        if match is None:
            raise RecipeError(f"{text[position:]!r} does not start with a technique.", mend=_EXAMPLE, where=text)
        choice = _parse_choice(match["name"], match["knobs"] or "")
        if choice.technique in choices:
            raise RecipeError(f"{choice.technique} stands twice.", mend="Name each technique once.", where=text)
        choices[choice.technique] = choice
        position = match.end()
        if position == len(text):
            return make_recipe(tuple(choices.values()), None).choices
        if text[position] != "+":
            raise RecipeError(f"{text[position:]!r} is not understood.", mend=_EXAMPLE, where=text)
        position += 1


def _parse_choice(name: str, knobs: str) -> Choice:
    spec = spec_of(name)
    words: dict[str, str] = {}
    for part in (p.strip() for p in knobs.split(",") if p.strip()):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not key or not value:
            raise RecipeError(f"{part!r} is not knob=value.", mend=_EXAMPLE, where=name)
        if key in words:
            raise RecipeError(f"{key} stands twice in {name}.", mend="Give each knob one value.", where=name)
        words[key] = value
    return Choice(spec.id, spec.config.parse(words))
