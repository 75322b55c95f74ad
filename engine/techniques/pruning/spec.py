"""Pruning: remove weights. What it offers and where it cannot go."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from engine.domain.artifact import ArtifactFormat, TaskId
from engine.domain.knobs import Config, knob
from engine.domain.recipe import TechniqueId
from engine.domain.technique import Family, Obstacle, Phase, Situation, TechniqueSpec


class Kind(StrEnum):
    STRUCTURED = "structured"
    UNSTRUCTURED = "unstructured"


class PruningTarget(StrEnum):
    AUTO = "auto"
    FFN = "ffn"
    HEADS = "heads"
    CHANNELS = "channels"


class Importance(StrEnum):
    ACTIVATION = "activation"
    MAGNITUDE = "magnitude"


@dataclass(frozen=True, slots=True, kw_only=True)
class PruningConfig(Config):
    """Settings of pruning."""

    kind: Kind = knob(
        Kind.STRUCTURED,
        help="structured removes whole neurons, heads or channels, so tensors shrink; unstructured zeroes single weights",
    )
    target: PruningTarget = knob(
        PruningTarget.AUTO,
        help="What structured pruning removes: FFN neurons, attention heads or CNN channels; auto takes FFN for "
        "transformers and channels for CNNs",
        shown_when={"kind": ("structured",)},
    )
    sparsity: float = knob(0.3, low=0.01, high=0.95, help="Share to remove", grid=(0.2, 0.3, 0.5), spelled=True)
    importance: Importance = knob(
        Importance.ACTIVATION,
        help="What counts as unimportant: weights times the activations they meet (Wanda), or weights alone",
    )


def obstacles(config: PruningConfig, situation: Situation) -> list[Obstacle]:
    card = situation.card
    if card.format is ArtifactFormat.ONNX:
        return [
            Obstacle(
                "Pruning rewrites a model's modules, and an ONNX graph no longer has them.",
                "Upload the Hugging Face directory the graph was exported from.",
            )
        ]
    if config.kind is Kind.UNSTRUCTURED:
        return []
    is_cnn = card.operators.get("Conv2d", 0) > 1
    if config.target is PruningTarget.CHANNELS and not is_cnn:
        return [Obstacle(f"{card.architecture} has no convolution channels.", "Choose target=ffn or target=heads.")]
    if config.target in (PruningTarget.FFN, PruningTarget.HEADS) and card.num_heads == 0:
        return [Obstacle(f"{card.architecture} has no transformer layers.", "Choose target=channels.")]
    if config.target is PruningTarget.HEADS:
        return _head_obstacles(config, situation)
    return []


def _head_obstacles(config: PruningConfig, situation: Situation) -> list[Obstacle]:
    card = situation.card
    groups = card.num_kv_heads or card.num_heads
    if card.task is TaskId.IMAGE_CLASSIFIER:
        return [Obstacle("Heads of image transformers are not removed yet.", "Choose target=ffn.")]
    if round(groups * config.sparsity) < 1:
        return [
            Obstacle(
                f"A sparsity of {config.sparsity:g} removes no head of {groups} (key-value) heads.",
                f"Choose a sparsity of at least {1 / groups:.2f}.",
            )
        ]
    return []


SPEC = TechniqueSpec(
    id=TechniqueId("pruning"),
    title="Pruning",
    family=Family.COMPRESSION,
    phase=Phase.REWRITE,
    summary="Removes the weights that matter least; structured pruning makes the tensors themselves smaller.",
    config=PruningConfig,
    implementation="engine.techniques.pruning.apply:Pruning",
    obstacles=obstacles,
    suggested=("pruning(sparsity=0.3)@openvino",),
)
