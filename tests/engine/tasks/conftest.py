"""Helpers of the task tests: run a torch module as an executor would."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from engine.domain.deployment import Variant
from engine.domain.ports import Outputs
from engine.tasks.base import Task, TaskBatch, gather
from engine.tasks.loading import load_module
from engine.tasks.traceable import Traceable
from tests.models import tiny_card

Load = Callable[[Path], Traceable]
Answers = Callable[[Task, Traceable, list[TaskBatch]], Outputs]


@pytest.fixture
def load() -> Load:
    return lambda directory: load_module(Variant(str(directory)), tiny_card(directory))


@pytest.fixture
def answers() -> Answers:
    """The gathered answers of a module to batches."""

    @torch.inference_mode()
    def ask(task: Task, module: Traceable, batches: list[TaskBatch]) -> Outputs:
        found = []
        for batch in batches:
            tensors = module(*(torch.from_numpy(batch[name]) for name in module.inputs))
            outputs = {name: tensor.numpy() for name, tensor in zip(module.outputs, tensors, strict=True)}
            found.append(task.answer(outputs, batch))
        return gather(found)

    return ask
