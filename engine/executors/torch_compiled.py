"""Opened torch modules behind torch.compile."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import StaticCache

from engine.domain.ports import Generation
from engine.executors.torch_local import EagerExecutor, causal_lm_of
from engine.tasks.traceable import Traceable

OPTIONS: dict[str, Any] = {"freezing": True}


class InductorExecutor(EagerExecutor):
    """Compiled at the first call of each shape; the compiler's files stay in this process's temporary folder."""

    def __init__(self, module: Traceable) -> None:
        super().__init__(module)
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(tempfile.gettempdir()) / "inductor"))
        self._compiled: Any = torch.compile(module, dynamic=False, options=OPTIONS)
        self._step: Any = None
        self._cache: StaticCache | None = None
        self._length = 0

    def _call(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        outputs: tuple[Tensor, ...] = self._compiled(*tensors)
        return outputs

    def _greedy(self, input_ids: Tensor, new_tokens: int, began: float) -> Generation:
        """Prompt and single tokens are two compiled shapes over a cache of fixed size."""
        model = causal_lm_of(self._module)
        prompt = input_ids.shape[1]
        length = prompt + new_tokens
        if self._cache is None or self._length != length:
            self._cache, self._length = StaticCache(config=model.config, max_cache_len=length), length
            self._step = torch.compile(_last_logits, dynamic=False, options=OPTIONS)
        self._cache.reset()
        tokens, times, step = [], [], input_ids
        position = torch.arange(prompt)[None]
        for index in range(new_tokens):
            logits = self._step(model, step, position, self._cache)
            step = logits[:, -1:].argmax(-1)
            tokens.append(step)
            times.append(time.perf_counter() - began)
            position = torch.full((1, 1), prompt + index)
        return Generation(torch.cat(tokens, dim=1).numpy(), tuple(times))


def _last_logits(model: Any, input_ids: Tensor, position_ids: Tensor, cache: StaticCache) -> Tensor:
    logits: Tensor = model(
        input_ids=input_ids, position_ids=position_ids, past_key_values=cache, use_cache=True, logits_to_keep=1
    ).logits
    return logits
