"""Pruning: remove weights. What it offers and where it cannot go."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from engine.domain.artifact import ArtifactFormat, ModelCard
from engine.domain.knobs import Config, knob
from engine.domain.recipe import TechniqueId
from engine.domain.technique import After, Family, Obstacle, Phase, Situation, TechniqueSpec
from engine.surgery.sizes import kept_of_heads, kept_size, layers_kept


class Kind(StrEnum):
    STRUCTURED = "structured"
    UNSTRUCTURED = "unstructured"
    SEMI_STRUCTURED = "semi_structured"


class PruningTarget(StrEnum):
    AUTO = "auto"
    FFN = "ffn"
    HEADS = "heads"
    CHANNELS = "channels"
    LAYERS = "layers"


class Importance(StrEnum):
    ACTIVATION = "activation"
    MAGNITUDE = "magnitude"
    TAYLOR = "taylor"
    SPARSEGPT = "sparsegpt"


class Ratios(StrEnum):
    EQUAL = "equal"
    GLOBAL = "global"
    SENSITIVITY = "sensitivity"


_STRUCTURED = {"kind": ("structured",)}
_RECOVER = {"recover": ("true",)}


@dataclass(frozen=True, slots=True, kw_only=True)
class PruningConfig(Config):
    """Settings of pruning."""

    kind: Kind = knob(
        Kind.STRUCTURED,
        help="structured removes whole neurons, heads, channels or layers, so tensors shrink; unstructured zeroes single "
        "weights; semi_structured zeroes two of every four (2:4)",
    )
    target: PruningTarget = knob(
        PruningTarget.AUTO,
        help="What structured pruning removes: FFN neurons, attention heads, CNN channels or whole layers; auto takes FFN for "
        "transformers and channels for CNNs",
        shown_when=_STRUCTURED,
    )
    sparsity: float = knob(0.3, low=0.01, high=0.95, help="Share to remove", grid=(0.2, 0.3, 0.5), spelled=True)
    importance: Importance = knob(
        Importance.ACTIVATION,
        help="What counts as unimportant: weights times the activations they meet (activation; of single weights: Wanda), weights "
        "alone (magnitude), what the answer loses to first order (taylor; structured), or what the layer's output loses when the "
        "other weights make up for it (sparsegpt; single weights)",
    )
    ratios: Ratios = knob(
        Ratios.EQUAL,
        help="Whether each layer loses the same share, the least important of the whole model go, or a scan of each layer's "
        "sensitivity proposes its share",
        shown_when=_STRUCTURED,
    )
    rounds: int = knob(1, low=1, high=20, help="Cuts in so many rounds, each with importance (and recovery) of its own")
    recover: bool = knob(False, help="Trains what is left to answer as the whole model did (a short distillation)")
    minutes: float = knob(
        10.0, low=0.05, high=1440.0, unit="min", help="Most time spent on recovery, over all rounds", shown_when=_RECOVER
    )
    steps: int = knob(0, low=0, high=10_000_000, help="Most training steps of a round; 0: as many as the time allows", shown_when=_RECOVER)
    sentences: int = knob(
        40_000, low=0, high=1_000_000, shown_when=_STRUCTURED,
        help="Unlabelled sentences added to what the cut and its recovery learn a text model from, of the documentation of installed Python packages",
    )  # fmt: skip

    @property
    def share_of_a_round(self) -> float:
        """Of what is left then, so that the last round reaches the whole."""
        return float(1 - (1 - self.sparsity) ** (1 / self.rounds)) if self.rounds > 1 else self.sparsity


def leaves(config: PruningConfig, situation: Situation) -> ModelCard:
    """Heads, inner widths and layers that stay; known beforehand where every layer loses the same share."""
    card = situation.card
    if config.kind is not Kind.STRUCTURED or config.ratios is not Ratios.EQUAL or card.num_heads == 0:
        return card
    for _ in range(config.rounds):
        card = _cut(card, config.target, config.share_of_a_round)
    return card


def _cut(card: ModelCard, target: PruningTarget, share: float) -> ModelCard:
    match target:
        case PruningTarget.HEADS:
            groups = card.num_kv_heads or card.num_heads
            kept = kept_of_heads(groups, share)
            return replace(card, num_heads=card.num_heads // groups * kept, num_kv_heads=kept)
        case PruningTarget.LAYERS:
            return replace(card, num_layers=min(layers_kept(card.num_layers, 1 - share), card.num_layers - 1))
        case PruningTarget.FFN | PruningTarget.AUTO if card.intermediate_size:
            return replace(card, intermediate_size=kept_size(card.intermediate_size, share))
        case _:
            return card


def obstacles(config: PruningConfig, situation: Situation) -> list[Obstacle]:
    card = situation.card
    if card.format is ArtifactFormat.ONNX:
        return [
            Obstacle(
                "Pruning rewrites a model's modules, and an ONNX graph no longer has them.",
                "Upload the Hugging Face directory the graph was exported from.",
            )
        ]
    found = _training_obstacles(config, situation) + _importance_obstacles(config)
    if config.kind is Kind.SEMI_STRUCTURED:
        return [*found, *_semi_structured_obstacles(situation)]
    return found if config.kind is Kind.UNSTRUCTURED else [*found, *_target_obstacles(config, situation)]


def _training_obstacles(config: PruningConfig, situation: Situation) -> list[Obstacle]:
    if not config.recover:
        return []
    if config.kind is not Kind.STRUCTURED:
        return [Obstacle("Recovery trains every weight, and those set to zero would come back.", "Choose kind=structured, or recover=false.")]
    if situation.task.takes_text and not situation.card.has_tokenizer:
        return [Obstacle("There is no tokenizer to make training inputs with.", "Upload tokenizer.json next to the weights.")]
    return []


def _importance_obstacles(config: PruningConfig) -> list[Obstacle]:
    if config.kind is Kind.STRUCTURED and config.importance is Importance.SPARSEGPT:
        return [Obstacle("SparseGPT chooses single weights, not whole neurons.", "Choose importance=activation, or kind=unstructured.")]
    if config.kind is not Kind.STRUCTURED and config.importance is Importance.TAYLOR:
        return [Obstacle("Taylor importance is of whole neurons, not of single weights.", "Choose importance=activation or sparsegpt.")]
    if config.kind is Kind.SEMI_STRUCTURED and config.importance is Importance.SPARSEGPT:
        return [Obstacle("SparseGPT zeroes weights anywhere, not two of every four.", "Choose importance=activation, or kind=unstructured.")]
    if config.kind is Kind.SEMI_STRUCTURED and config.sparsity != 0.5:
        return [Obstacle("2:4 is a sparsity of one half.", "Choose sparsity=0.5.")]
    return []


def _semi_structured_obstacles(situation: Situation) -> list[Obstacle]:
    skipped = "2:4 sparsity gains only on NVIDIA GPUs from Ampere on, whose tensor cores skip the zeros; "
    if not any(name.startswith("cuda:") for name in situation.host.accelerators):
        return [Obstacle(f"{skipped}this host has no GPU, and a CPU multiplies them.", "Choose kind=structured.")]
    if TechniqueId("gpu") not in situation.chosen:
        return [Obstacle(f"{skipped}this recipe stays on the CPU, which multiplies them.", "Add gpu(), or choose kind=structured.")]
    return []


def _target_obstacles(config: PruningConfig, situation: Situation) -> list[Obstacle]:
    card = situation.card
    is_cnn = card.operators.get("Conv2d", 0) > 1
    if config.target is PruningTarget.CHANNELS and not is_cnn:
        return [Obstacle(f"{card.architecture} has no convolution channels.", "Choose target=ffn or target=heads.")]
    if config.target in (PruningTarget.FFN, PruningTarget.HEADS, PruningTarget.LAYERS) and card.num_heads == 0:
        return [Obstacle(f"{card.architecture} has no transformer layers.", "Choose target=channels.")]
    groups = config.target is PruningTarget.LAYERS or config.target is PruningTarget.CHANNELS or card.num_heads == 0
    if config.ratios is Ratios.SENSITIVITY and groups:
        return [Obstacle("Only feed-forward neurons and heads have shares of their own in each layer.", "Choose ratios=equal.")]
    if config.ratios is Ratios.GLOBAL and config.target is PruningTarget.LAYERS:
        return [Obstacle("Whole layers are chosen over the whole model already.", "Choose ratios=equal.")]
    return _count_obstacles(config, situation)


def _count_obstacles(config: PruningConfig, situation: Situation) -> list[Obstacle]:
    """Shares that would remove no whole head or layer, or that leave none."""
    card = situation.card
    if config.target is PruningTarget.LAYERS and card.num_layers < 2:
        return [Obstacle(f"{card.architecture} has {card.num_layers} layer, and one must stay.", "Choose target=ffn.")]
    groups = {PruningTarget.HEADS: card.num_kv_heads or card.num_heads, PruningTarget.LAYERS: card.num_layers}.get(config.target)
    if groups and round(groups * config.sparsity) < 1:
        what = "layer" if config.target is PruningTarget.LAYERS else "(key-value) head"
        return [
            Obstacle(
                f"A sparsity of {config.sparsity:g} removes no {what} of {groups}.",
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
    rules=(After(TechniqueId("distillation"), "What a student does not need shows only once it is trained."),),
    obstacles=obstacles,
    leaves=leaves,
    training_minutes=lambda config: config.minutes if config.recover else 0.0,
    suggested=("pruning(sparsity=0.3)@openvino",),
)
