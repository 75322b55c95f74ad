"""inductor: PyTorch's compiler. Fused C++ kernels for the workload's fixed shapes, weights frozen in."""

from __future__ import annotations

import torch

from engine.domain.artifact import ModelCard
from engine.domain.deployment import Deployment, Lowered
from engine.domain.ports import Context, Executor
from engine.domain.recipe import RuntimeId
from engine.domain.workload import Workload
from engine.executors.accelerator import AcceleratorExecutor
from engine.executors.torch_compiled import InductorExecutor
from engine.host import usable_cores
from engine.runtimes.torch_lowering import lower_torch, open_torch


class Inductor:
    """The same files as eager; compiled in the process that opens them, at the first call of each shape."""

    id = RuntimeId.INDUCTOR

    def lower(self, deployment: Deployment, context: Context) -> Lowered:
        return lower_torch(deployment, context, self.id)

    def open(self, lowered: Lowered, card: ModelCard, workload: Workload, threads: int) -> Executor:
        torch.set_num_threads(threads or usable_cores())
        module = open_torch(lowered, card)
        if not lowered.placement.is_cpu:
            return AcceleratorExecutor(module, lowered.placement, compiled=True)
        return InductorExecutor(module)
