"""What only a machine with an accelerator can show: answers, tokens, graphs and events on the device itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.domain.deployment import Formats, NumberFormat, Placement, Variant
from engine.executors.accelerator import AcceleratorExecutor
from engine.executors.torch_local import EagerExecutor
from engine.hardware.accelerators import device_formats
from engine.measure.boards import board_meter, boards
from engine.profiling.torch_profiler import profile
from engine.runtimes.device_layers import DeviceInt4Linear, DeviceInt8Linear, DeviceWeightInt8Linear, device_layer
from engine.runtimes.float8_layers import Float8Linear, quantize_float8
from engine.runtimes.integer_layers import pack_int4, quantize_int8
from engine.tasks.loading import load_module
from tests.models import tiny_bert, tiny_card, tiny_llama

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.accelerator.is_available(), reason="this machine has no accelerator that torch can use"),
]
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch has int8 products with int32 sums, packed int4 and 2:4 products for CUDA alone")


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
    assert executor.device_ms > 0
    assert executor.peak_bytes() > 0
    assert not executor.unrecorded


@needs_cuda
@pytest.mark.parametrize("compiled", [False, True])
def test_operators_are_profiled_on_the_device(compiled: bool, tmp_path: Path) -> None:
    tiny_bert(tmp_path)
    executor = AcceleratorExecutor(load_module(Variant(str(tmp_path)), tiny_card(tmp_path)), _placement(), compiled=compiled)
    ids = np.arange(32, dtype=np.int64).reshape(2, 16) + 5
    batch = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    executor.infer(batch)
    found = profile(executor, lambda: executor.infer(batch), 3)
    assert found is not None
    products = [o for o in found.operators if o.type in ("linear", "addmm", "mm")]
    # two layers of query, key, value, output and two of the feed-forward block
    assert sum(o.calls for o in products) >= 12 and all(o.ms > 0 and o.flops for o in products)
    assert any(o.type == "fused kernel" for o in found.operators) == compiled


@pytest.mark.parametrize("compiled", [False, True])
def test_tokens_agree_with_the_cpu(compiled: bool, tmp_path: Path) -> None:
    tiny_llama(tmp_path)
    card = tiny_card(tmp_path)
    expected = EagerExecutor(load_module(Variant(str(tmp_path)), card))
    executor = AcceleratorExecutor(load_module(Variant(str(tmp_path)), card), _placement(), compiled=compiled)
    for start, new_tokens in ((5, 6), (9, 6), (5, 12)):
        prompt = np.arange(8, dtype=np.int64)[None] + start
        np.testing.assert_array_equal(executor.generate(prompt, new_tokens).tokens, expected.generate(prompt, new_tokens).tokens)
    assert not executor.unrecorded


@needs_cuda
@pytest.mark.parametrize("rows", [1, 33])
def test_integer_layers_agree_with_their_floats(rows: int) -> None:
    torch.manual_seed(0)
    weight, x = torch.randn(64, 256), torch.randn(rows, 256, device="cuda", dtype=torch.bfloat16)
    qweight, scale = quantize_int8(weight)
    expected = x.float() @ (qweight * scale[:, None]).t().cuda()
    for kind in (DeviceInt8Linear, DeviceWeightInt8Linear):
        found = kind(qweight, scale, None).cuda()(x).float()
        assert (found - expected).abs().max() < 0.03 * expected.abs().max()


@needs_cuda
def test_int4_agrees_with_its_floats() -> None:
    torch.manual_seed(0)
    values = torch.randint(0, 16, (64, 256), dtype=torch.uint8)
    scale, zero = (torch.rand(64, 4) + 0.5).bfloat16(), torch.randn(64, 4).bfloat16()
    x = torch.randn(3, 256, device="cuda", dtype=torch.bfloat16)
    grid = [part.repeat_interleave(64, 1).float() for part in (scale, zero)]
    expected = x.float() @ ((values.float() - 8) * grid[0] + grid[1]).t().cuda()
    found = DeviceInt4Linear(pack_int4(values), scale, zero, None).cuda()(x).float()
    assert (found - expected).abs().max() < 0.03 * expected.abs().max()


@pytest.mark.skipif("fp8" not in device_formats(), reason="fp8 products exist on devices of compute capability 8.9 or CDNA 3 alone, and none is here")
@pytest.mark.parametrize("rows", [1, 33])
def test_float8_agrees_with_the_cpu(rows: int) -> None:
    torch.manual_seed(0)
    weight, x, bias = torch.randn(64, 256), torch.randn(rows, 256), torch.randn(64)
    parts = quantize_float8(weight)
    expected = Float8Linear(*parts, bias)(x)
    placed = device_layer(torch.nn.Linear(256, 64), bias, Formats(weights=NumberFormat.FP8), qweight=parts[0], scale=parts[1], zero=None)
    found = placed.cuda()(x.cuda()).cpu()
    assert (found - expected).abs().max() < 0.02 * expected.abs().max()


@needs_cuda
def test_the_driver_tells_joules_and_who_computes() -> None:
    found = boards()
    assert found, "pip install nvidia-ml-py"
    assert board_meter(found) is None or found[0].joules() > 0
    assert all(size >= 0 for size in found[0].users().values())


def test_a_sandboxed_child_reaches_the_device_only_when_it_may(tmp_path: Path) -> None:
    """A whole run, as the product does it: transform and measure in children that may touch the device."""
    model = tiny_bert(tmp_path / "model")
    out = tmp_path / "out.json"
    done = subprocess.run(
        [sys.executable, "-m", "engine", "run", str(model), "--recipe", "gpu()", "--json", str(out),
         "--workload", "sequence_length=16,rounds=3,round_seconds=0.2"],
        env={**os.environ, "SPEEDRAIL_HOME": str(tmp_path / "home")}, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    run = json.loads(out.read_text())["runs"][1]
    assert run["status"] == "succeeded", run["reasons"]
    assert {"device_latency", "device_memory"} <= {m["name"] for m in run["measurements"]}
