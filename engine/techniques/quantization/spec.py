"""Quantization: fewer bits a number. What it offers and where it cannot go."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from engine.domain.artifact import ArtifactFormat
from engine.domain.deployment import SMOOTHING, WeightCalibration
from engine.domain.knobs import Config, KnobValue, knob
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
_TRAINING = ("qat", "minutes", "steps", "sentences")
"""Knobs of what happens before any runtime quantizes, so that every runtime heeds them."""
_QAT = {"qat": ("true",)}


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
    shortlist: int = knob(
        0, low=0, high=4096, shown_when={"format": ("int4",)},
        help="Likeliest next tokens of a causal LM whose logits keep 8 bits, all others being computed in 4; 0 keeps 8 for all",
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
    qat: bool = knob(
        False, help="Quantization-aware training: the weights learn to be rounded, towards the answers of the unrounded model",
        shown_when={"format": _INTEGERS},
    )  # fmt: skip
    minutes: float = knob(10.0, low=0.05, high=1440.0, unit="min", help="Most time spent training", shown_when=_QAT)
    steps: int = knob(0, low=0, high=10_000_000, help="Most training steps; 0: as many as the time allows", shown_when=_QAT)
    sentences: int = knob(
        40_000, low=0, high=1_000_000, shown_when=_QAT,
        help="Unlabelled sentences added to a text model's training data, from the documentation of installed Python packages",
    )  # fmt: skip


def obstacles(config: QuantizationConfig, situation: Situation) -> list[Obstacle]:
    training = _training_obstacles(config, situation)
    if TechniqueId("fpga") in situation.chosen:
        return training + _array_obstacles(config)
    format, mode = str(config.format), str(config.mode)
    found = unsupported_reason(situation, format, mode)
    return training + ([found] if found else unsupported_knobs(situation, format, mode, _asked(config)))


def _asked(config: QuantizationConfig) -> dict[str, KnobValue]:
    """Knobs off their defaults that are the runtime's or the array's to heed."""
    return {name: value for name, value in config.spelled().items() if name not in ("format", "mode", *_TRAINING)}


def _training_obstacles(config: QuantizationConfig, situation: Situation) -> list[Obstacle]:
    card = situation.card
    if not config.qat:
        return []
    if str(config.format) not in _INTEGERS:
        return [Obstacle(f"Quantization-aware training is for integers; {config.format} is close enough without.", "Leave qat out.")]
    if card.format is ArtifactFormat.ONNX:
        return [Obstacle("Quantization-aware training needs a model's modules, and an ONNX graph no longer has them.",
                         "Upload the Hugging Face directory the graph was exported from.")]  # fmt: skip
    if not card.operators.get("Linear", 0) or card.operators.get("Conv2d", 0) >= card.operators["Linear"]:
        return [Obstacle("Quantization-aware training rounds linear layers, and this model computes in convolutions.",
                         "Leave qat out; calibrated int8 keeps a CNN's accuracy, and fallback=0.99 what it does not.")]  # fmt: skip
    if card.task.takes_text and not card.has_tokenizer:
        return [Obstacle("There is no tokenizer to make training inputs with.", "Upload tokenizer.json next to the weights.")]
    return []


def _array_obstacles(config: QuantizationConfig) -> list[Obstacle]:
    """An array of integer cores has formats of its own, whatever the runtimes have."""
    if config.format in (Format.BF16, Format.FP16, Format.FP8):
        return [Obstacle(f"An FPGA's array multiplies integers, not {config.format}.", "Choose format=int8 or format=int4.")]
    if config.mode in (Mode.DYNAMIC, Mode.WEIGHT_ONLY):
        return [Obstacle(f"An FPGA's array has calibrated integers on both sides, no {config.mode} ones.", "Leave the mode to auto.")]
    if others := list(_asked(config)):
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
    training_minutes=lambda config: config.minutes if config.qat else 0.0,
    suggested=(
        "quantization(format=int8)@openvino",
        "quantization(format=int8)@onnxruntime",
        "quantization(format=int8)@inductor",
    ),
)
