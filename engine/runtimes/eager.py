"""eager: PyTorch as it is, an operator at a time. The reference the others are held against."""

from __future__ import annotations

import torch

from engine.domain.artifact import ModelCard
from engine.domain.deployment import Deployment, Lowered
from engine.domain.ports import Context, Executor
from engine.domain.recipe import RuntimeId
from engine.domain.workload import KvCache, Workload
from engine.executors.accelerator import AcceleratorExecutor
from engine.executors.torch_local import EagerExecutor
from engine.host import usable_cores
from engine.runtimes.torch_lowering import lower_torch, open_torch


class Eager:
    """safetensors, config.json and variant.json, as transformers reads them."""

    id = RuntimeId.EAGER

    def lower(self, deployment: Deployment, context: Context) -> Lowered:
        return lower_torch(deployment, context, self.id)

    def open(self, lowered: Lowered, card: ModelCard, workload: Workload, threads: int) -> Executor:
        torch.set_num_threads(threads or usable_cores())
        module = open_torch(lowered, card)
        if not lowered.placement.is_cpu:
            return AcceleratorExecutor(module, lowered.placement)
        return EagerExecutor(module, KvCache.STATIC if workload.kv_cache is KvCache.STATIC else KvCache.DYNAMIC)
