"""Artifacts (uploaded models) and what intake learned of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class ArtifactFormat(StrEnum):
    HUGGINGFACE = "huggingface"
    GGUF = "gguf"
    ONNX = "onnx"

    @property
    def label(self) -> str:
        return {"huggingface": "Hugging Face", "gguf": "GGUF (dequantized)", "onnx": "ONNX"}[self]


class TaskId(StrEnum):
    CAUSAL_LM = "causal_lm"
    TEXT_ENCODER = "text_encoder"
    TEXT_CLASSIFIER = "text_classifier"
    IMAGE_CLASSIFIER = "image_classifier"
    TENSORS = "tensors"
    """Anything else: named tensors in, named tensors out."""

    @property
    def label(self) -> str:
        return {
            "causal_lm": "Causal LM", "text_encoder": "Text encoder", "text_classifier": "Text classifier",
            "image_classifier": "Image classifier", "tensors": "Generic tensors",
        }[self]

    @property
    def takes_text(self) -> bool:
        return self in (TaskId.CAUSAL_LM, TaskId.TEXT_ENCODER, TaskId.TEXT_CLASSIFIER)


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output. A dimension is a size, or a name when it may vary."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What intake learned: enough to plan and refuse without loading the model.

    Sizes that an architecture lacks are 0.
    """

    format: ArtifactFormat
    task: TaskId
    architecture: str
    """The class in config.json (`BertModel`), or the ONNX producer's graph name."""
    parameters: int
    dtype: str
    """Number format of the stored weights; GGUF: of its blocks (`Q4_1`)."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...] = ()
    operators: dict[str, int] = field(default_factory=dict)
    """Operator or module type (`Linear`, `Conv2d`, `MatMul`) to how many there are."""
    hidden_size: int = 0
    intermediate_size: int = 0
    num_layers: int = 0
    num_heads: int = 0
    num_kv_heads: int = 0
    head_dim: int = 0
    vocab_size: int = 0
    max_positions: int = 0
    image_size: int = 0
    num_channels: int = 0
    num_labels: int = 0
    has_tokenizer: bool = False
    notes: tuple[str, ...] = ()
    """What a person should know, e.g. that weights were dequantized from Q4_1."""


@dataclass(frozen=True, slots=True)
class NamedModel:
    """Another uploaded model that a recipe names: where its files are, and what it is."""

    directory: str
    card: ModelCard


@dataclass(frozen=True, slots=True)
class Artifact:
    """An uploaded model, content-addressed.

    `id` is the sha256 (hex) over the sorted (relative path, file sha256) pairs, so
    that equal bytes are one artifact however they were packed.
    """

    id: str
    name: str
    size_bytes: int
    created_at: datetime
    card: ModelCard
    source: str = ""
    """Where it came from: the uploaded file's name, a server path, `sample`."""

    @property
    def short_id(self) -> str:
        return self.id[:12]
