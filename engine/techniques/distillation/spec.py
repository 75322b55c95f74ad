"""Distillation: a smaller student learns to answer as the model does. What it offers and where it cannot go."""

from __future__ import annotations

from dataclasses import dataclass, replace

from engine.domain.artifact import ArtifactFormat, ModelCard, TaskId
from engine.domain.knobs import Config, knob
from engine.domain.recipe import TechniqueId
from engine.domain.technique import Family, Obstacle, Phase, Situation, TechniqueSpec
from engine.surgery.sizes import kept_size, layers_kept

_DEFAULT_LAYERS = 0.5
_CUT = {"student": ("",)}
_DIGITS = 12
"""Of an id that stands in a recipe for good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillationConfig(Config):
    """Settings of distillation."""

    student: str = knob(
        "", help="Id of another uploaded model that learns instead, as it is; the first 12 digits are enough", names_model=True
    )
    layers: float = knob(
        _DEFAULT_LAYERS, low=0.05, high=1.0, help="Share of the model's layers the student keeps, evenly spread", grid=(0.5, 0.67), spelled=True,
        shown_when=_CUT,
    )  # fmt: skip
    width: float = knob(
        1.0, low=0.1, high=1.0, help="Share of each layer's inner width the student keeps: feed-forward neurons, or channels of a CNN",
        shown_when=_CUT,
    )  # fmt: skip
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


def leaves(config: DistillationConfig, situation: Situation) -> ModelCard:
    """The student: another model, or this one with fewer layers and a smaller inner width."""
    card = situation.models.get(config.student, situation.card)
    if config.student or card.num_heads == 0:
        return card
    width = kept_size(card.intermediate_size, 1 - config.width) if config.width < 1 and card.intermediate_size else card.intermediate_size
    return replace(card, num_layers=layers_kept(card.num_layers, config.layers), intermediate_size=width)


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
    if config.student:
        return _student_obstacles(config, situation)
    if config.width == 1.0 and max(round(card.num_layers * config.layers), 1) >= card.num_layers > 0:
        return [
            Obstacle(
                f"layers={config.layers:g} of {card.num_layers} layers keeps them all, so the student would be the teacher.",
                "Choose fewer layers or a width below 1.",
            )
        ]
    return []


def _student_obstacles(config: DistillationConfig, situation: Situation) -> list[Obstacle]:
    """Why the uploaded model cannot learn from this one."""
    card, student = situation.card, situation.models.get(config.student)
    if (config.layers, config.width) != (_DEFAULT_LAYERS, 1.0):
        return [Obstacle("An uploaded student learns as it is: nothing is cut from it.", "Leave layers and width out, or prune it afterwards.")]
    if student is None or len(config.student) < _DIGITS:
        return [
            Obstacle(
                f"There is no uploaded model {config.student}.",
                f"Upload the student on the Models page and give at least {_DIGITS} digits of its id, which its card shows.",
            )
        ]
    if student.format is not ArtifactFormat.HUGGINGFACE or student.task is not card.task:
        return [Obstacle(
            f"The student is {student.format} for {student.task.label.lower()}; this model's answers are those of a {card.task.label.lower()}.",
            "Choose a Hugging Face directory for the same task.",
        )]  # fmt: skip
    inputs = [[spec.name for spec in each.inputs] for each in (student, card)]
    if inputs[0] != inputs[1]:
        return [Obstacle(f"The student takes {', '.join(inputs[0])}, this model {', '.join(inputs[1])}.", "Choose a student with the same inputs.")]
    if student.vocab_size != card.vocab_size:
        return [Obstacle(f"The student knows {student.vocab_size:,} tokens, this model {card.vocab_size:,}.", "Choose one with the same tokenizer.")]
    answers = [", ".join(f"{spec.name} of {spec.shape[-1]}" for spec in each.outputs) for each in (student, card)]
    if answers[0] != answers[1]:
        return [Obstacle(f"The student answers with {answers[0]}, this model with {answers[1]}.", "Choose a student with the same outputs.")]
    if student.parameters >= card.parameters:
        return [Obstacle(
            f"The student has {student.parameters:,} parameters, not fewer than this model's {card.parameters:,}.", "Choose a smaller student."
        )]  # fmt: skip
    return []


SPEC = TechniqueSpec(
    id=TechniqueId("distillation"),
    title="Distillation",
    family=Family.ALGORITHM,
    phase=Phase.REWRITE,
    summary="Trains a smaller student, made of the model's own layers or uploaded, to answer as the whole model does.",
    config=DistillationConfig,
    implementation="engine.techniques.distillation.apply:Distillation",
    obstacles=obstacles,
    leaves=leaves,
    training_minutes=lambda config: config.minutes,
    names=lambda config: (config.student,) if config.student else (),
)
