"""Tiny models of each family, made once, and a batch that each takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine.domain.artifact import ModelCard, TaskId
from engine.domain.deployment import Deployment, Formats, Variant
from engine.domain.ports import Batch, Context
from engine.domain.recipe import RuntimeId
from engine.domain.workload import Workload
from tests.models import IMAGE_SIZE, tiny_bert, tiny_card, tiny_llama, tiny_resnet

MAKERS: dict[str, Callable[[Path], Path]] = {"bert": tiny_bert, "llama": tiny_llama, "resnet": tiny_resnet}
WORKLOAD = Workload(batch_size=2, sequence_length=16, new_tokens=4)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Directories by family."""
    return {name: make(tmp_path_factory.mktemp(name)) for name, make in MAKERS.items()}


def batch_of(card: ModelCard, seed: int = 0) -> Batch:
    """Two items of the workload's shape."""
    rng = np.random.default_rng(seed)
    if card.task is TaskId.IMAGE_CLASSIFIER:
        return {"pixel_values": rng.normal(size=(2, 3, IMAGE_SIZE, IMAGE_SIZE)).astype(np.float32)}
    ids = rng.integers(4, card.vocab_size, (2, WORKLOAD.sequence_length))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def deployed(directory: Path, runtime: RuntimeId, formats: Formats | None = None) -> Deployment:
    return Deployment(tiny_card(directory), Variant(str(directory)), runtime, WORKLOAD, formats or Formats())


def context_in(scratch: Path, card: ModelCard) -> Context:
    scratch.mkdir(parents=True, exist_ok=True)
    return Context(scratch, [batch_of(card, seed) for seed in range(1, 5)], lambda _: None, threads=1)
