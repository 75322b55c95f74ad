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
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import StaticCache

from engine.domain.workload import KvCache
from engine.executors.torch_local import EagerExecutor, can_generate
from engine.tasks.traceable import Traceable

FROZEN: dict[str, Any] = {"freezing": True}


class InductorExecutor(EagerExecutor):
    """Compiled at the first call of each shape; the compiler's files stay in this process's temporary folder.

    Prompt and single tokens are two compiled shapes over a cache of fixed size.
    """

    compiled = True

    def __init__(self, module: Traceable) -> None:
        super().__init__(module, KvCache.STATIC)
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(tempfile.gettempdir()) / "inductor"))
        self._blocks = repeated_blocks(module.model) if can_generate(module) else []
        for block in self._blocks:
            block.forward = torch.compile(block.forward, dynamic=False)
        self._compiled: Any = module if self._blocks else torch.compile(module, dynamic=False, options=FROZEN)

    def _call(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        outputs: tuple[Tensor, ...] = self._compiled(*tensors)
        return outputs

    def _made(self, cache: StaticCache) -> None:
        """The blocks see a part of it each."""
        hand_out(cache, self._blocks)


def repeated_blocks(model: nn.Module) -> list[nn.Module]:
    """The layers of a transformer: the longest list of modules of one class that hold linear layers."""
    lists = [list(m) for m in model.modules() if isinstance(m, nn.ModuleList)]
    alike = [blocks for blocks in lists if len(blocks) > 1 and len({type(b) for b in blocks}) == 1]
    transformers = [blocks for blocks in alike if all(_is_transformer(b) for b in blocks)]
    return max(transformers, key=len, default=[])


def _is_transformer(block: nn.Module) -> bool:
    kinds = [m for m in block.modules() if not list(m.children())]
    return not any(isinstance(m, nn.Conv2d) for m in kinds) and any(hasattr(m, "out_features") or hasattr(m, "nf") for m in kinds)


def hand_out(cache: StaticCache, blocks: list[nn.Module]) -> None:
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
