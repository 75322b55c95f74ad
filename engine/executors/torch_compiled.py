"""Opened torch modules behind torch.compile.

A model is one graph with its weights frozen in, which is fastest (MiniLM 1.12 times eager,
1.49 in int8; block by block 0.98 and 1.24). A causal LM needs three shapes, and SmolLM2's 30
blocks as one graph took 200 s each on two cores: there one block is compiled and all
run it, because they are alike.
"""

from __future__ import annotations

import copy
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import StaticCache

from engine.domain.ports import Generation
from engine.executors.torch_local import EagerExecutor, can_generate, causal_lm_of
from engine.tasks.traceable import Traceable

FROZEN: dict[str, Any] = {"freezing": True}


class InductorExecutor(EagerExecutor):
    """Compiled at the first call of each shape; the compiler's files stay in this process's temporary folder."""

    def __init__(self, module: Traceable) -> None:
        super().__init__(module)
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(tempfile.gettempdir()) / "inductor"))
        self._blocks = repeated_blocks(module.model) if can_generate(module) else []
        for block in self._blocks:
            block.forward = torch.compile(block.forward, dynamic=False)
        self._compiled: Any = module if self._blocks else torch.compile(module, dynamic=False, options=FROZEN)
        self._cache: StaticCache | None = None
        self._length = 0

    def _call(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        outputs: tuple[Tensor, ...] = self._compiled(*tensors)
        return outputs

    def _greedy(self, input_ids: Tensor, new_tokens: int, began: float) -> Generation:
        """Prompt and single tokens are two compiled shapes over a cache of fixed size."""
        model = causal_lm_of(self._module)
        prompt = input_ids.shape[1]
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
        """An empty cache of that length; the blocks see a part of it each."""
        if self._cache is None or self._length != length:
            self._cache, self._length = StaticCache(config=model.config, max_cache_len=length), length
            _hand_out(self._cache, self._blocks)
        self._cache.reset()
        return self._cache


def repeated_blocks(model: nn.Module) -> list[nn.Module]:
    """The layers of a transformer: the longest list of modules of one class that hold linear layers."""
    lists = [list(m) for m in model.modules() if isinstance(m, nn.ModuleList)]
    alike = [blocks for blocks in lists if len(blocks) > 1 and len({type(b) for b in blocks}) == 1]
    transformers = [blocks for blocks in alike if all(_is_transformer(b) for b in blocks)]
    return max(transformers, key=len, default=[])


def _is_transformer(block: nn.Module) -> bool:
    kinds = [m for m in block.modules() if not list(m.children())]
    return not any(isinstance(m, nn.Conv2d) for m in kinds) and any(hasattr(m, "out_features") or hasattr(m, "nf") for m in kinds)


def _hand_out(cache: StaticCache, blocks: list[nn.Module]) -> None:
    """Give each block its own layer of the cache as layer 0.

    The layer's number would otherwise be compiled into the block: a graph a block.
    """
    for index, block in enumerate(blocks):
        part = copy.copy(cache)
        part.layers = [cache.layers[index]]
        for module in block.modules():
            if isinstance(getattr(module, "layer_idx", None), int):
                module.layer_idx = 0  # type: ignore[assignment]
        block._forward_pre_hooks.clear()
        block._forward_pre_hooks_with_kwargs.clear()
        block.register_forward_pre_hook(_Swap(cache, part), with_kwargs=True)


class _Swap:
    """Replaces the whole cache by its part among a block's arguments."""

    def __init__(self, whole: StaticCache, part: StaticCache) -> None:
        self._whole, self._part = whole, part

    def __call__(
        self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return tuple(map(self._of, args)), {name: self._of(value) for name, value in kwargs.items()}

    def _of(self, value: Any) -> Any:
        return self._part if value is self._whole else value
