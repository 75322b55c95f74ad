"""What the weights of produced files really are: the proof behind every lowering's facts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod

from engine.domain.deployment import Formats, NumberFormat, QuantizationMode
from engine.domain.errors import NothingChanged
from engine.domain.experiment import Attachment

Facts = dict[str, float | int | str | bool]
LAYERS = "layers"
"""Kind of the attachment that lists a model's layers."""
NAMED = 8
LEAST_SHARE = 0.1
"""Share of the weights that must have fewer bits; embeddings may be most of a model and stay."""


@dataclass(slots=True)
class Census:
    """Weights of a file by bits an element, and how many operators compute in integers.

    `elements`: bits to number of weights (scales and biases apart). `operators`: type to count.
    """

    elements: dict[int, int] = field(default_factory=dict)
    operators: dict[str, int] = field(default_factory=dict)
    side_bits: int = 0
    """Bits of the scales and zero points that quantized weights carry."""

    def add(self, bits: int, count: int) -> None:
        self.elements[bits] = self.elements.get(bits, 0) + count

    @property
    def total(self) -> int:
        return sum(self.elements.values())

    @property
    def bits_per_weight(self) -> float:
        """Mean over all weights, scales included."""
        bits = sum(bits * count for bits, count in self.elements.items()) + self.side_bits
        return bits / self.total if self.total else 0.0

    def facts(self) -> Facts:
        found: Facts = {
            "weights": self.total,
            "bits_per_weight": round(self.bits_per_weight, 3),
            "int8_weights": self.elements.get(8, 0),
            "int4_weights": self.elements.get(4, 0),
        }
        return found | {f"nodes_{name}": count for name, count in sorted(self.operators.items())}


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer with weights as the produced file has it."""

    name: str
    operator: str
    shape: tuple[int, ...]
    format: str
    """`int4`, `int8`, `fp32` …: what its weights are stored in."""
    group: int = 0
    """Weights that share a scale; 0: one scale a channel, or none."""

    @property
    def weights(self) -> int:
        return prod(self.shape)


def layer_facts(layers: Sequence[Layer], formats: Formats) -> tuple[Facts, tuple[Attachment, ...]]:
    """How many layers got the format and which stayed; the whole list as an attachment. Nothing for a plain model."""
    if formats.is_plain or not layers:
        return {}, ()
    stayed = [layer for layer in layers if layer.format != str(formats.weights)]
    facts: Facts = {"layers": len(layers), "layers_stayed": len(stayed)}
    if stayed:
        facts["layers_stayed_names"] = ", ".join(f"{layer.name} ({layer.format})" for layer in stayed[:NAMED])
    rows = [
        {"name": layer.name, "operator": layer.operator, "shape": list(layer.shape), "format": layer.format, "group": layer.group}
        for layer in layers
    ]
    return facts, (Attachment(LAYERS, {"wanted": str(formats.weights), "layers": rows}),)


_BITS = {NumberFormat.INT8: 8, NumberFormat.FP8: 8, NumberFormat.INT4: 4}


def demand(formats: Formats, census: Census, integer_operators: tuple[str, ...], where: str) -> None:
    """Raise NothingChanged unless the file holds what `formats` asks for.

    `integer_operators` are those of which one at least must be there when activations
    are to be quantized as well.
    """
    bits = _BITS.get(formats.weights)
    if bits is None:
        return
    changed = census.elements.get(bits, 0) + (census.elements.get(8, 0) if bits == 4 else 0)
    if not census.elements.get(bits) or changed < LEAST_SHARE * census.total:
        raise NothingChanged(
            f"{where} gave {bits} bits to {census.elements.get(bits, 0):,} of {census.total:,} weights only.",
            mend="Choose another format, mode or runtime for this model.",
        )
    computes = sum(census.operators.get(name, 0) for name in integer_operators)
    if formats.mode in (QuantizationMode.DYNAMIC, QuantizationMode.STATIC) and not computes:
        raise NothingChanged(
            f"{where} quantized weights but no operator computes in integers.",
            mend="Choose another mode or runtime for this model.",
        )


def format_facts(formats: Formats) -> Facts:
    """What was settled on, as facts; nothing for a plain fp32 model."""
    if formats.is_plain:
        return {}
    told: Facts = {"format": str(formats.weights)}
    return told | ({"mode": str(formats.mode)} if formats.mode is not QuantizationMode.NONE else {})
