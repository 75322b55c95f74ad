"""What only a machine with an accelerator can show: answers, tokens, graphs and events on the device itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.domain.deployment import Placement, Variant
from engine.executors.accelerator import AcceleratorExecutor
from engine.executors.torch_local import EagerExecutor
from engine.tasks.loading import load_module
from tests.models import tiny_bert, tiny_card, tiny_llama

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.accelerator.is_available(), reason="this machine has no accelerator that torch can use"),
]


def _placement() -> Placement:
    kind = torch.accelerator.current_accelerator()
    assert kind is not None
    return Placement(device=kind.type, tf32=False, cuda_graphs=kind.type == "cuda")


def test_answers_agree_with_the_cpu_and_graphs_replay(tmp_path: Path) -> None:
    tiny_bert(tmp_path)
    card = tiny_card(tmp_path)
    ids = np.arange(32, dtype=np.int64).reshape(2, 16) + 5
    batch = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    expected = EagerExecutor(load_module(Variant(str(tmp_path)), card)).infer(batch)["last_hidden_state"]
    executor = AcceleratorExecutor(load_module(Variant(str(tmp_path)), card), _placement())
    for _ in range(2):
        np.testing.assert_allclose(executor.infer(batch)["last_hidden_state"], expected, rtol=1e-2, atol=1e-3)
    assert executor.device_milliseconds > 0
    assert executor.peak_bytes() > 0


def test_tokens_agree_with_the_cpu(tmp_path: Path) -> None:
    tiny_llama(tmp_path)
    card = tiny_card(tmp_path)
    prompt = np.arange(8, dtype=np.int64)[None] + 5
    expected = EagerExecutor(load_module(Variant(str(tmp_path)), card)).generate(prompt, 6)
    found = AcceleratorExecutor(load_module(Variant(str(tmp_path)), card), _placement()).generate(prompt, 6)
    np.testing.assert_array_equal(found.tokens, expected.tokens)
