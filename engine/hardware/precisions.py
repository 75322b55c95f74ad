"""Number formats as a roofline sees them: bits that cross the memory, and the units that multiply."""

from __future__ import annotations

from dataclasses import dataclass

from engine.domain.artifact import TaskId
from engine.domain.deployment import Formats, NumberFormat, QuantizationMode
from engine.domain.errors import NotFound

SCALE_BITS = 32
"""A group's scale and zero point, 16 bits each."""
DEFAULT_GROUP = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """`weight_bits` count scales; what is no matrix (embeddings, norms) keeps `activation_bits`."""

    name: str
    weight_bits: float
    activation_bits: float
    compute: str
    """The format of the multiplications, as engine.hardware.gpus calls its peaks."""
    cache_bits: float


def _plain(name: str, bits: int, compute: str) -> Precision:
    return Precision(name=name, weight_bits=bits, activation_bits=bits, compute=compute, cache_bits=bits)


def _weights_only(name: str, bits: float) -> Precision:
    return Precision(name=name, weight_bits=bits, activation_bits=16, compute="bf16", cache_bits=16)


def int4_weights(group: int) -> Precision:
    return _weights_only(f"int4-weights-g{group}", 4 + SCALE_BITS / group)


PRECISIONS: dict[str, Precision] = {
    p.name: p
    for p in (
        _plain("fp32", 32, "fp32"), _plain("tf32", 32, "tf32"), _plain("bf16", 16, "bf16"), _plain("fp16", 16, "fp16"),
        # engines keep activations in integers from layer to layer
        _plain("int8", 8, "int8"),
        # scales found while running: activations are stored wide and converted on the way in
        Precision(name="int8-dynamic", weight_bits=8, activation_bits=16, compute="int8", cache_bits=16),
        Precision(name="fp8", weight_bits=8, activation_bits=16, compute="fp8", cache_bits=8),
        _weights_only("int8-weights", 8), _weights_only("fp8-weights", 8), int4_weights(32), int4_weights(64), int4_weights(128),
    )
}  # fmt: skip


def precision_named(name: str) -> Precision:
    """Raises NotFound."""
    group = name.removeprefix("int4-weights-g")
    if group != name and group.isdecimal() and int(group) > 0:
        return int4_weights(int(group))
    if name not in PRECISIONS:
        raise NotFound(f"There is no precision {name!r}.", mend=f"Known: {', '.join(PRECISIONS)}.", where=name)
    return PRECISIONS[name]


def precision_of(formats: Formats, task: TaskId, *, tf32: bool = True) -> Precision:
    """What a GPU's kernels make of a deployment's formats; fp32 arithmetic is tf32 where allowed.

    int8 without a mode is what the runtimes take: weights only for causal LMs, dynamic
    for texts, calibrated for all else.
    """
    if formats.weights is NumberFormat.INT8:
        bare = "int8-weights" if task is TaskId.CAUSAL_LM else "int8-dynamic" if task.takes_text else "int8"
        return PRECISIONS[_BY_MODE.get(formats.mode, bare)]
    if formats.weights is NumberFormat.INT4:
        return int4_weights(formats.group_size or DEFAULT_GROUP)
    if formats.weights in (NumberFormat.FP8, NumberFormat.FP16):
        return PRECISIONS[str(formats.weights)]
    if formats.weights is NumberFormat.FP32:
        return PRECISIONS["tf32" if tf32 else "fp32"]
    return PRECISIONS["bf16"]


_BY_MODE = {
    QuantizationMode.WEIGHT_ONLY: "int8-weights", QuantizationMode.STATIC: "int8", QuantizationMode.DYNAMIC: "int8-dynamic",
}  # fmt: skip
