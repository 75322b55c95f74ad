"""llama.cpp through llama-cpp-python, on the very GGUF file that was uploaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from llama_cpp import Llama
from stage import Array, Family, Instant, now

PACKAGES = ("llama-cpp-python",)


class LlamaContestant:
    def __init__(self, family: Family) -> None:
        self.size_bytes = Path(family.gguf).stat().st_size
        self.model = Llama(family.gguf, n_ctx=512, n_threads=family.threads, n_threads_batch=family.threads, logits_all=True, verbose=False)
        self.fast = Llama(family.gguf, n_ctx=512, n_threads=family.threads, n_threads_batch=family.threads, verbose=False)

    def infer(self, batch: dict[str, Array]) -> Array:
        ids = batch["input_ids"][0].tolist()
        self.model.reset()
        self.model.eval(ids)
        return np.array(self.model.scores[: len(ids)])[None]  # a copy: the next call writes into the same buffer

    def generate(self, ids: Array, new_tokens: int) -> list[Instant]:
        times = []
        self.fast.reset()
        self.fast.eval(ids[0].tolist())
        for _ in range(new_tokens):
            token = self.fast.sample(temp=0.0)
            times.append(now())
            self.fast.eval([token])
        return times


def prepare(family: Family, variant: str, scratch: Path) -> LlamaContestant:
    return LlamaContestant(family)
