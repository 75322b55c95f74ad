"""Quantization: fewer bits a number. What it offers and where it cannot go."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from engine.domain.knobs import Config, knob
from engine.domain.recipe import TechniqueId
from engine.domain.technique import After, Family, Obstacle, Phase, Situation, TechniqueSpec
from engine.techniques.quantization.support import unsupported_reason


class Format(StrEnum):
    INT8 = "int8"
    BF16 = "bf16"
    INT4 = "int4"


class Mode(StrEnum):
    AUTO = "auto"
    DYNAMIC = "dynamic"
    STATIC = "static"
    WEIGHT_ONLY = "weight_only"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizationConfig(Config):
    """Settings of quantization."""

    format: Format = knob(Format.INT8, help="Number format of the weights", grid=("int8", "bf16"), spelled=True)
    mode: Mode = knob(
        Mode.AUTO,
        help="How activations are treated: scales found while running (dynamic), calibrated before (static), or "
        "left in floating point (weight_only); auto takes the best the runtime has for this task",
        shown_when={"format": ("int8", "int4")},
    )
    group_size: int = knob(
        0, low=0, high=1024, help="Weights that share a scale; 0 lets the runtime choose", shown_when={"format": ("int4",)}
    )


def obstacles(config: QuantizationConfig, situation: Situation) -> list[Obstacle]:
    if TechniqueId("fpga") in situation.chosen:
        return _array_obstacles(config)
    found = unsupported_reason(situation, str(config.format), str(config.mode))
    return [found] if found else []


def _array_obstacles(config: QuantizationConfig) -> list[Obstacle]:
    """An array of integer cores has formats of its own, whatever the runtimes have."""
    if config.format is Format.BF16:
        return [Obstacle("An FPGA's array multiplies integers, not bf16.", "Choose format=int8 or format=int4.")]
    if config.mode in (Mode.DYNAMIC, Mode.WEIGHT_ONLY):
        return [Obstacle(f"An FPGA's array has calibrated integers on both sides, no {config.mode} ones.", "Leave the mode to auto.")]
    if config.group_size:
        return [Obstacle("An FPGA's array has one scale for each channel, no groups.", "Leave out group_size.")]
    return []


SPEC = TechniqueSpec(
    id=TechniqueId("quantization"),
    title="Quantization",
    family=Family.COMPRESSION,
    phase=Phase.REWRITE,
    summary="Stores and computes with fewer bits; the runtime's own library realises it.",
    config=QuantizationConfig,
    implementation="engine.techniques.quantization.apply:Quantization",
    rules=(
        After(TechniqueId("distillation"), "A student learns in full precision; quantized weights cannot be trained."),
        After(
            TechniqueId("pruning"),
            "Pruning scores weights in full precision and cuts tensors; quantized tensors cannot be cut.",
        ),
    ),
    obstacles=obstacles,
    suggested=(
        "quantization(format=int8)@openvino",
        "quantization(format=int8)@onnxruntime",
        "quantization(format=int8)@inductor",
    ),
)
