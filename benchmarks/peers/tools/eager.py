"""PyTorch as it is: fp32, eager. The baseline."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from stage import Array, Family

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

    @torch.inference_mode()
    def infer(self, batch: dict[str, Array]) -> Array:
        given = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in batch.items()}
        return self.model(**given)[0].float().numpy()  # type: ignore[no-any-return]

    @torch.inference_mode()
    def generate(self, ids: Array, new_tokens: int) -> list[float]:
        began, times, step = time.perf_counter(), [], torch.from_numpy(ids)
        cache = transformers.DynamicCache(config=self.config)
        for _ in range(new_tokens):
            logits = self.model(input_ids=step, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
            step = logits[:, -1:].argmax(-1)
            times.append(time.perf_counter() - began)
        return times


def prepare(family: Family, variant: str, scratch: Path) -> TorchContestant:
    return TorchContestant(load_model(family), family)
