"""Recipes: the chosen techniques with their configs, and a runtime.

`pruning(sparsity=0.3)+quantization(format=int8)@openvino`. Parsing needs to know
the techniques, so it lives in `engine.grammar`; a recipe spells itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NewType

from engine.domain.knobs import Config, format_value

TechniqueId = NewType("TechniqueId", str)


class RuntimeId(StrEnum):
    """What executes the model."""

    EAGER = "eager"
    INDUCTOR = "inductor"
    ONNXRUNTIME = "onnxruntime"
    OPENVINO = "openvino"


@dataclass(frozen=True, slots=True)
class Choice:
    """A technique with its settings."""

    technique: TechniqueId
    config: Config

    def __str__(self) -> str:
        knobs = ", ".join(f"{name}={format_value(value)}" for name, value in self.config.spelled().items())
        return f"{self.technique}({knobs})"


@dataclass(frozen=True, slots=True)
class Recipe:
    """Chosen techniques and a runtime. No choices and no runtime: the baseline.

    `runtime` None means the artifact's own: eager, or onnxruntime for ONNX; at launch another where that one refuses (engine.plan.on_a_runtime).
    Two recipes with the same spelling are equal in effect; the order in which a user
    ticked techniques does not matter, the plan orders them.
    """

    choices: tuple[Choice, ...] = ()
    runtime: RuntimeId | None = None

    @property
    def is_baseline(self) -> bool:
        return not self.choices and self.runtime is None

    def __str__(self) -> str:
        """Canonical spelling: knobs off their defaults and those always spelled.

        The baseline is the empty string.
        """
        techniques = "+".join(str(c) for c in self.choices)
        return f"{techniques}@{self.runtime}" if self.runtime else techniques
