"""Quantization: fewer bits a number. What it offers and where it cannot go."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from engine.domain.deployment import SMOOTHING, WeightCalibration
from engine.domain.knobs import Config, knob
from engine.domain.recipe import TechniqueId
from engine.domain.technique import After, Family, Obstacle, Phase, Situation, TechniqueSpec
from engine.techniques.quantization.support import unsupported_knobs, unsupported_reason


class Format(StrEnum):
    INT8 = "int8"
    BF16 = "bf16"
    FP16 = "fp16"
    FP8 = "fp8"
    INT4 = "int4"


class Mode(StrEnum):
    AUTO = "auto"
    DYNAMIC = "dynamic"
    STATIC = "static"
    WEIGHT_ONLY = "weight_only"


class KVCache(StrEnum):
    FLOAT = "float"
    INT8 = "int8"


_INTEGERS = ("int8", "int4")


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizationConfig(Config):
    """Settings of quantization."""

    format: Format = knob(Format.INT8, help="Number format of the weights", grid=("int8", "bf16"), spelled=True)
    mode: Mode = knob(
        Mode.AUTO,
        help="How activations are treated: scales found while running (dynamic), calibrated before (static), or "
        "left in floating point (weight_only); auto takes the best the runtime has for this task",
        shown_when={"format": _INTEGERS},
    )
    group_size: int = knob(
        0, low=0, high=1024, help="Weights that share a scale; 0 lets the runtime choose", shown_when={"format": ("int4",)}
    )
    calibration: WeightCalibration = knob(
        WeightCalibration.AUTO,
        help="What chooses the 4-bit values: rounding alone (none), or real activations as well (awq, gptq, "
        "scale_estimation); auto takes the best the runtime has",
        shown_when={"format": ("int4",)},
    )
    ratio: float = knob(
        1.0, low=0.0, high=1.0, help="Share of the weights that get 4 bits; the layers most sensitive to it keep 8",
        shown_when={"format": ("int4",)},
    )  # fmt: skip
    smooth: float = knob(
        SMOOTHING, low=0.0, high=0.95,
        help="SmoothQuant: how much of the activations' outliers moves into the weights; 0 moves nothing",
        shown_when={"format": ("int8",), "mode": ("auto", "dynamic", "static")},
    )  # fmt: skip
    kv_cache: KVCache = knob(
        KVCache.FLOAT, help="Number format of a causal LM's cache of keys and values", shown_when={"format": _INTEGERS}
    )
    fallback: float = knob(
        0.0, low=0.0, high=1.0,
        help="Quality to keep: the most sensitive layers fall back to more bits until calibration data that no "
        "quantizer saw scores so much; 0 lets every layer be quantized",
        shown_when={"format": _INTEGERS},
    )  # fmt: skip


def obstacles(config: QuantizationConfig, situation: Situation) -> list[Obstacle]:
    if TechniqueId("fpga") in situation.chosen:
        return _array_obstacles(config)
    format, mode = str(config.format), str(config.mode)
    found = unsupported_reason(situation, format, mode)
    asked = {name: value for name, value in config.spelled().items() if name not in ("format", "mode")}
    return [found] if found else unsupported_knobs(situation, format, mode, asked)


def _array_obstacles(config: QuantizationConfig) -> list[Obstacle]:
    """An array of integer cores has formats of its own, whatever the runtimes have."""
    if config.format in (Format.BF16, Format.FP16, Format.FP8):
        return [Obstacle(f"An FPGA's array multiplies integers, not {config.format}.", "Choose format=int8 or format=int4.")]
    if config.mode in (Mode.DYNAMIC, Mode.WEIGHT_ONLY):
        return [Obstacle(f"An FPGA's array has calibrated integers on both sides, no {config.mode} ones.", "Leave the mode to auto.")]
    if others := [name for name in config.spelled() if name not in ("format", "mode")]:
        return [Obstacle("An FPGA's array has one calibrated scale for each channel and nothing to set there.", f"Leave out {', '.join(others)}.")]
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
