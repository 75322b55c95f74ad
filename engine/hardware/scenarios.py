"""What a recipe means to a projection: its number formats and how it is called."""

from __future__ import annotations

from dataclasses import dataclass

from engine.domain.artifact import ModelCard
from engine.domain.deployment import Formats, NumberFormat, QuantizationMode
from engine.domain.errors import RecipeError
from engine.domain.recipe import Recipe, RuntimeId
from engine.hardware.precisions import Precision, precision_of
from engine.hardware.roofline import Execution

_UNDERSTOOD = frozenset({"quantization", "gpu"})


@dataclass(frozen=True, slots=True)
class Scenario:
    precision: Precision
    execution: Execution


def scenario_of(recipe: Recipe, card: ModelCard) -> Scenario:
    """Formats of the recipe's quantization, settings of its gpu.

    Raises RecipeError for techniques that change the model itself: their operators are
    known after they ran, which `python -m engine run` with gpu(device=…) does.
    """
    settings = {str(choice.technique): choice.config.as_dict() for choice in recipe.choices}
    other = sorted(settings.keys() - _UNDERSTOOD)
    if other:
        raise RecipeError(
            f"{other[0]} changes the model itself, and only quantization is projected without running it.",
            mend="Run the recipe with +gpu(device=h100): the rewritten model is then traced and projected.", where=other[0],
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
    return Scenario(precision_of(formats, card.task, tf32=bool(gpu.get("tf32", True))), execution)
