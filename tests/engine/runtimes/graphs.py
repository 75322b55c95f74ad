"""Cards, batches and lowering shared by the tests of the graph runtimes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from engine.domain.artifact import ArtifactFormat, ModelCard, TaskId, TensorSpec
from engine.domain.deployment import Deployment, Formats, Lowered, Variant
from engine.domain.ports import Array, Batch, Context, Executor, Runtime
from engine.domain.workload import Workload
from engine.tasks.base import TaskBatch
from engine.tasks.loading import load_module
from tests import models

THREADS = 1
WORKLOAD = Workload(batch_size=2, sequence_length=16, new_tokens=6, threads=THREADS)


def _ids(*names: str) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name, "int64", ("batch", "sequence")) for name in names)


BERT = ModelCard(
    ArtifactFormat.HUGGINGFACE, TaskId.TEXT_ENCODER, "BertModel", 0, "float32",
    _ids("input_ids", "attention_mask", "token_type_ids"),
    (TensorSpec("last_hidden_state", "float32", ("batch", "sequence", 32)),), max_positions=512, vocab_size=260,
)  # fmt: skip
LLAMA = ModelCard(
    ArtifactFormat.HUGGINGFACE, TaskId.CAUSAL_LM, "LlamaForCausalLM", 0, "float32", _ids("input_ids"),
    (TensorSpec("logits", "float32", ("batch", "sequence", 260)),), max_positions=512, vocab_size=260,
)  # fmt: skip
RESNET = ModelCard(
    ArtifactFormat.HUGGINGFACE, TaskId.IMAGE_CLASSIFIER, "ResNetForImageClassification", 0, "float32",
    (TensorSpec("pixel_values", "float32", ("batch", 3, "height", "width")),),
    (TensorSpec("logits", "float32", ("batch", 10)),), {"Conv2d": 7}, image_size=32, num_channels=3,
)  # fmt: skip
MLP = ModelCard(
    ArtifactFormat.ONNX, TaskId.TENSORS, "tiny_mlp", 0, "float32",
    (TensorSpec("x", "float32", ("batch", 16)),), (TensorSpec("y", "float32", ("batch", 8)),),
)  # fmt: skip
MAKERS: dict[str, Callable[[Path], Path]] = {
    "BertModel": models.tiny_bert, "LlamaForCausalLM": models.tiny_llama,
    "ResNetForImageClassification": models.tiny_resnet, "tiny_mlp": models.tiny_onnx,
}  # fmt: skip


@dataclass
class Case:
    """A tiny model on a runtime."""

    card: ModelCard
    directory: Path

    @classmethod
    def of(cls, card: ModelCard, directory: Path) -> Case:
        return cls(card, MAKERS[card.architecture](directory / "artifact"))

    def lower(self, runtime: Runtime, scratch: Path, formats: Formats = Formats(), workload: Workload = WORKLOAD) -> Lowered:
        scratch.mkdir()
        deployment = Deployment(self.card, Variant(str(self.directory)), runtime.id, workload, formats)
        context = Context(scratch, [self.batch(seed) for seed in range(10, 18)], lambda progress: None, THREADS)
        return runtime.lower(deployment, context)

    def open(self, runtime: Runtime, lowered: Lowered) -> Executor:
        return runtime.open(lowered, self.card, WORKLOAD, THREADS)

    def batch(self, seed: int = 0) -> TaskBatch:
        rng = np.random.default_rng(seed)
        named = {"batch": WORKLOAD.batch_size, "sequence": WORKLOAD.sequence_length, "height": 32, "width": 32}
        made = {}
        for spec in self.card.inputs:
            shape = [named.get(size, size) if isinstance(size, str) else size for size in spec.shape]
            if spec.dtype == "float32":
                made[spec.name] = rng.normal(size=shape).astype(np.float32)
            elif spec.name == "input_ids":
                made[spec.name] = rng.integers(4, 260, shape)
            else:
                made[spec.name] = np.full(shape, spec.name == "attention_mask", np.int64)
        if "attention_mask" in made:
            made["attention_mask"][-1, -3:] = 0
        real = np.ones_like(made["input_ids"], bool) if self.card.task is TaskId.CAUSAL_LM else np.ones(WORKLOAD.batch_size, bool)
        return TaskBatch(made, real, made.get("attention_mask"))

    def reference(self, batch: Batch) -> Array:
        """What the torch module answers."""
        module = load_module(Variant(str(self.directory)), self.card)
        with torch.no_grad():
            return module(*(torch.from_numpy(batch[s.name]) for s in self.card.inputs))[0].numpy()

    def tokens(self, input_ids: Array, new_tokens: int) -> Array:
        """What transformers generates greedily."""
        model = load_module(Variant(str(self.directory)), self.card).model
        given = {"max_new_tokens": new_tokens, "min_new_tokens": new_tokens, "do_sample": False, "pad_token_id": 0}
        with torch.no_grad():
            made = model.generate(torch.from_numpy(input_ids), **given)
        return made[:, input_ids.shape[1] :].numpy()


def relative_error(found: Array, expected: Array) -> float:
    """Root mean square of the difference ÷ that of the expected."""
    return float(np.sqrt(((found - expected) ** 2).mean() / (expected**2).mean()))
