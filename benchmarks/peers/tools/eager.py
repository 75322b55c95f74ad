"""PyTorch as it is: fp32, eager. The baseline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from stage import Array, Family, Instant, now

PACKAGES = ("torch", "transformers")

CLASSES = {
    "text_encoder": transformers.AutoModel, "image_classifier": transformers.AutoModelForImageClassification,
    "causal_lm": transformers.AutoModelForCausalLM,
}  # fmt: skip


def load_model(family: Family, **options: Any) -> Any:
    """The Hugging Face model, ready to be called."""
    torch.set_num_threads(family.threads)
    return CLASSES[family.task].from_pretrained(family.model, **{"dtype": torch.float32, **options}).eval()


class TorchContestant:
    """A torch module that takes the family's inputs by name."""

    def __init__(self, model: Any, family: Family, config: Any = None) -> None:
        self.model, self.family, self.config = model, family, config or model.config
        self.size_bytes = sum(_bytes(tensor) for tensor in (*model.parameters(), *model.buffers()))

    @torch.inference_mode()
    def infer(self, batch: dict[str, Array]) -> Array:
        given = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in batch.items()}
        return self.model(**given)[0].float().numpy()  # type: ignore[no-any-return]

    @torch.inference_mode()
    def generate(self, ids: Array, new_tokens: int) -> list[Instant]:
        times, step = [], torch.from_numpy(ids)
        cache = transformers.DynamicCache(config=self.config)
        for _ in range(new_tokens):
            logits = self.model(input_ids=step, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
            step = logits[:, -1:].argmax(-1)
            times.append(now())
        return times


def _bytes(tensor: torch.Tensor) -> int:
    """What a tensor takes, a quantized one the sum of what it is made of."""
    if hasattr(tensor, "__tensor_flatten__"):
        return sum(_bytes(getattr(tensor, name)) for name in tensor.__tensor_flatten__()[0])
    return tensor.numel() * tensor.element_size()


def prepare(family: Family, variant: str, scratch: Path) -> TorchContestant:
    return TorchContestant(load_model(family), family)
