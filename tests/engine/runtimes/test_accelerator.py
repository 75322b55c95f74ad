"""The accelerator's executor driven on the CPU: its answers, tokens and refusals are those of eager."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from engine.domain.codec import encode
from engine.domain.deployment import Lowered, Placement, Variant
from engine.domain.errors import StageError
from engine.domain.experiment import StageFacts
from engine.domain.recipe import RuntimeId
from engine.executors.accelerator import AcceleratorExecutor
from engine.executors.torch_local import EagerExecutor
from engine.runtimes.torch_lowering import placement_of
from engine.tasks.loading import load_module
from tests.models import tiny_card, tiny_llama, tiny_resnet

STAND_IN = Placement(device="cpu", attention="math")


def test_images_are_answered_as_eager_does(tmp_path: Path) -> None:
    tiny_resnet(tmp_path)
    card = tiny_card(tmp_path)
    batch = {"pixel_values": np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)}
    plain, placed = (load_module(Variant(str(tmp_path)), card) for _ in range(2))
    expected = EagerExecutor(plain).infer(batch)["logits"]
    executor = AcceleratorExecutor(placed, STAND_IN)
    np.testing.assert_allclose(executor.infer(batch)["logits"], expected, rtol=1e-3, atol=1e-4)
    assert executor.device_milliseconds > 0
    assert next(p for p in placed.parameters() if p.dim() == 4).is_contiguous(memory_format=torch.channels_last)


def test_a_static_cache_gives_the_same_tokens(tmp_path: Path) -> None:
    tiny_llama(tmp_path)
    module = load_module(Variant(str(tmp_path)), tiny_card(tmp_path))
    prompt = np.arange(8, dtype=np.int64)[None] + 5
    expected = EagerExecutor(module).generate(prompt, 6)
    found = AcceleratorExecutor(module, STAND_IN).generate(prompt, 6)
    np.testing.assert_array_equal(found.tokens, expected.tokens)
    assert list(found.token_times) == sorted(found.token_times)


def test_fake_tensors_live_on_cuda_without_one() -> None:
    with FakeTensorMode():
        left, right = torch.empty(2, 3, device="cuda"), torch.empty(3, 4, device="cuda")
        product = left @ right
    assert (product.device.type, product.shape) == ("cuda", (2, 4))


def test_integer_kernels_are_refused_off_the_cpu() -> None:
    settings = {"weights": "int8", "mode": "dynamic", "group_size": "0", "placement": encode(Placement(device="cuda"))}
    lowered = Lowered(RuntimeId.EAGER, "", (), 0, settings, StageFacts("eager", 0.0, {}))
    with pytest.raises(StageError, match="kernels"):
        placement_of(lowered)
    assert placement_of(replace(lowered, settings={**settings, "weights": "bf16"})).device == "cuda"
