"""Distillation: a smaller student learns to answer as the model does. What it offers and where it cannot go."""

from __future__ import annotations

from dataclasses import dataclass

from engine.domain.artifact import ArtifactFormat, TaskId
from engine.domain.knobs import Config, knob
from engine.domain.recipe import TechniqueId
from engine.domain.technique import Family, Obstacle, Phase, Situation, TechniqueSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillationConfig(Config):
    """Settings of distillation."""

    layers: float = knob(
        0.5, low=0.05, high=1.0, help="Share of the model's layers the student keeps, evenly spread", grid=(0.5, 0.67), spelled=True
    )
    width: float = knob(
        1.0, low=0.1, high=1.0, help="Share of each layer's inner width the student keeps: feed-forward neurons, or channels of a CNN"
    )
    minutes: float = knob(10.0, low=0.05, high=1440.0, unit="min", help="Most time spent training; it ends earlier when nothing improves")
    steps: int = knob(0, low=0, high=10_000_000, help="Most training steps; 0: as many as the time allows")
    learning_rate: float = knob(0.0, low=0.0, high=1.0, help="Highest learning rate; 0 lets the task choose")
    batch_size: int = knob(0, low=0, high=4096, help="Items in a training step; 0 lets the task choose")
    temperature: float = knob(2.0, low=0.1, high=100.0, help="Softens the teacher's probabilities (classifiers, causal LMs)")
    label_weight: float = knob(
        0.1, low=0.0, high=1.0, help="Weight of true labels, or of the text's own next token, against the teacher's answers"
    )
    hidden_weight: float = knob(1.0, low=0.0, high=100.0, help="Weight of the layers' hidden states beside the answer")
    attention_weight: float = knob(0.0, low=0.0, high=100.0, help="Weight of the layers' attention maps beside the answer")
    sentences: int = knob(
        40_000, low=0, high=1_000_000,
        help="Unlabelled sentences added to a text model's training data, from the documentation of installed Python packages",
    )  # fmt: skip


def obstacles(config: DistillationConfig, situation: Situation) -> list[Obstacle]:
    card = situation.card
    if card.format is ArtifactFormat.ONNX or card.task is TaskId.TENSORS:
        return [
            Obstacle(
                "Distillation trains a model's modules, and an ONNX graph no longer has them.",
                "Upload the Hugging Face directory the graph was exported from.",
            )
        ]
    if card.task.takes_text and not card.has_tokenizer:
        return [Obstacle("There is no tokenizer to make training inputs with.", "Upload tokenizer.json next to the weights.")]
    if config.width == 1.0 and max(round(card.num_layers * config.layers), 1) >= card.num_layers > 0:
        return [
            Obstacle(
                f"layers={config.layers:g} of {card.num_layers} layers keeps them all, so the student would be the teacher.",
                "Choose fewer layers or a width below 1.",
            )
        ]
    return []


SPEC = TechniqueSpec(
    id=TechniqueId("distillation"),
    title="Distillation",
    family=Family.ALGORITHM,
    phase=Phase.REWRITE,
    summary="Trains a smaller student, made of the model's own layers, to answer as the whole model does.",
    config=DistillationConfig,
    implementation="engine.techniques.distillation.apply:Distillation",
    obstacles=obstacles,
    training_minutes=lambda config: config.minutes,
)
