"""Opened torch modules in this process, called directly."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import DynamicCache

from engine.domain.errors import StageError
from engine.domain.ports import Array, Batch, Generation, Outputs
from engine.tasks.traceable import Traceable


class EagerExecutor:
    """Numpy in, numpy out, no gradients. Floating point enters in the model's own format and leaves in fp32."""

    def __init__(self, module: Traceable) -> None:
        self._module = module
        self._dtype = float_type_of(module)

    def infer(self, batch: Batch) -> Outputs:
        with torch.inference_mode():
            outputs = self._call(*(to_tensor(batch[name], self._dtype) for name in self._module.inputs))
        return {name: to_array(value) for name, value in zip(self._module.outputs, outputs, strict=True)}

    def generate(self, input_ids: Array, new_tokens: int) -> Generation:
        began = time.perf_counter()
        with torch.inference_mode():
            return self._greedy(torch.from_numpy(input_ids), new_tokens, began)

    def close(self) -> None:
        del self._module

    def _call(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        outputs: tuple[Tensor, ...] = self._module(*tensors)
        return outputs

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
