"""Opened torch modules in this process, called directly."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import DynamicCache, StaticCache

from engine.domain.errors import StageError
from engine.domain.ports import Array, Batch, Generation, Outputs
from engine.domain.workload import KvCache
from engine.tasks.traceable import Traceable


class EagerExecutor:
    """Numpy in, numpy out, no gradients. Floating point enters in the model's own format and leaves in fp32."""

    device_type = "cpu"
    """As torch names it."""
    device_ms = 0.0
    """How long a device was busy with the latest call; 0 on the CPU."""
    compiled = False

    def __init__(self, module: Traceable, kv_cache: KvCache = KvCache.DYNAMIC) -> None:
        self._module = module
        self.kv_cache = kv_cache if can_generate(module) else ""
        """How a causal LM keeps its past; empty for others."""
        self._cache: StaticCache | None = None
        self._length = 0
        self._dtype = float_type_of(module)

    @property
    def module(self) -> Traceable:
        return self._module

    @property
    def dtype(self) -> torch.dtype:
        """Of its activations."""
        return self._dtype

    def infer(self, batch: Batch) -> Outputs:
        with torch.inference_mode():
            outputs = self._call(*(to_tensor(batch[name], self._dtype) for name in self._module.inputs))
        return {name: to_array(value) for name, value in zip(self._module.outputs, outputs, strict=True)}

    def generate(self, input_ids: Array, new_tokens: int) -> Generation:
        began = time.perf_counter()
        with torch.inference_mode():
            ids = torch.from_numpy(input_ids)
            if self.kv_cache == KvCache.STATIC:
                return self._greedy_fixed(ids, new_tokens, began)
            return self._greedy(ids, new_tokens, began)

    def launching(self) -> AbstractContextManager[None]:
        """Meanwhile every operator is launched by the host, where a profiler sees it, even if launches were recorded."""
        return nullcontext()

    def close(self) -> None:
        del self._module

    def _call(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        outputs: tuple[Tensor, ...] = self._module(*tensors)
        return outputs

    def _greedy_fixed(self, input_ids: Tensor, new_tokens: int, began: float) -> Generation:
        """Over a cache of the size that the generation ends with."""
        model, prompt = causal_lm_of(self._module), input_ids.shape[1]
        cache = self._cache_of(model, prompt + new_tokens)
        tokens, times, step = [], [], input_ids
        position = torch.arange(prompt)[None]
        for index in range(new_tokens):
            logits = model(
                input_ids=step, position_ids=position, past_key_values=cache, use_cache=True, logits_to_keep=1
            ).logits
            step = logits[:, -1:].argmax(-1)
            tokens.append(step)
            times.append(time.perf_counter() - began)
            position = torch.full((1, 1), prompt + index)
        return Generation(torch.cat(tokens, dim=1).numpy(), tuple(times))

    def _cache_of(self, model: Any, length: int) -> StaticCache:
        """An empty cache of that length; only the latest length is kept."""
        if self._cache is None or self._length != length:
            self._cache, self._length = StaticCache(config=model.config, max_cache_len=length), length
            self._made(self._cache)
        self._cache.reset()
        return self._cache

    def _made(self, cache: StaticCache) -> None:
        """A cache of a new length is there."""

    def _greedy(self, input_ids: Tensor, new_tokens: int, began: float) -> Generation:
        model = causal_lm_of(self._module)
        cache = DynamicCache(config=model.config)
        tokens, times, step = [], [], input_ids
        for _ in range(new_tokens):
            logits = model(input_ids=step, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
            step = logits[:, -1:].argmax(-1)
            tokens.append(step)
            times.append(time.perf_counter() - began)
        return Generation(torch.cat(tokens, dim=1).numpy(), tuple(times))


def causal_lm_of(module: Traceable) -> Any:
    """The model that generates. Raises StageError when it cannot."""
    model: Any = module.model
    if not can_generate(module):
        raise StageError(f"A {type(model).__name__} does not generate text.", mend="Ask it for outputs instead.")
    return model


def can_generate(module: Traceable) -> bool:
    model: Any = module.model
    return bool(getattr(model, "can_generate", lambda: False)())


def float_type_of(module: nn.Module) -> torch.dtype:
    """Number format of the activations that the module takes."""
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)


def to_tensor(array: Array, dtype: torch.dtype) -> Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def to_array(tensor: Tensor) -> Array:
    array: Array = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    return array
