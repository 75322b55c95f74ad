"""What a recipe means to a projection: its shapes, its number formats and how it is called."""

from __future__ import annotations

from dataclasses import dataclass

from engine.domain.artifact import ModelCard
from engine.domain.deployment import Formats, NumberFormat, QuantizationMode
from engine.domain.errors import RecipeError
from engine.domain.recipe import Recipe, RuntimeId
from engine.hardware.precisions import Precision, precision_of
from engine.hardware.roofline import Execution

_RESHAPING = frozenset({"distillation", "pruning"})
_UNDERSTOOD = _RESHAPING | {"quantization", "gpu"}


@dataclass(frozen=True, slots=True)
class Scenario:
    """`rewrites`: the part of the recipe that changes the model's shapes, whose operators are to be traced; or empty."""

    precision: Precision
    execution: Execution
    rewrites: str = ""


def scenario_of(recipe: Recipe, card: ModelCard) -> Scenario:
    """Shapes of the recipe's rewriting techniques, formats of its quantization, settings of its gpu.

    Raises RecipeError for techniques that a projection on one device does not know.
    """
    settings = {str(choice.technique): choice.config.as_dict() for choice in recipe.choices}
    other = sorted(settings.keys() - _UNDERSTOOD)
    if other:
        raise RecipeError(
            f"{other[0]} is not projected on a single device.",
            mend="Choose among distillation, pruning, quantization and gpu; degrees of parallelism are options of `python -m engine project`.",
            where=other[0],
        )  # fmt: skip
    formats = Formats()
    if chosen := settings.get("quantization"):
        mode = chosen.get("mode", "auto")
        formats = Formats(
            weights=NumberFormat(str(chosen["format"])), group_size=int(chosen.get("group_size", 0)),
            mode=QuantizationMode.NONE if mode == "auto" else QuantizationMode(str(mode)),
        )  # fmt: skip
    gpu = settings.get("gpu", {})
    execution = Execution(fused=recipe.runtime is not RuntimeId.EAGER, graphs=bool(gpu.get("cuda_graphs", True)))
    rewrites = Recipe(tuple(choice for choice in recipe.choices if str(choice.technique) in _RESHAPING))
    return Scenario(precision_of(formats, card.task, tf32=bool(gpu.get("tf32", True))), execution, str(rewrites))
