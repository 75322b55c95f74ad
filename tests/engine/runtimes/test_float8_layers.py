"""Floats of eight bits: what is stored, what is computed, on the CPU and on tensors without data on a device."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from engine.domain.artifact import TaskId
from engine.domain.deployment import Formats, NumberFormat, QuantizationMode
from engine.domain.errors import StageError
from engine.domain.recipe import RuntimeId
from engine.runtimes.device_layers import as_fnuz, device_layer
from engine.runtimes.eager import Eager
from engine.runtimes.float8_layers import FLOAT8, Float8Linear, quantize_float8
from engine.runtimes.inductor import Inductor
from engine.runtimes.integer_layers import EightBitEmbedding
from engine.runtimes.torch_lowering import settled
from engine.runtimes.torch_quantization import quantized_tensors
from tests.engine.runtimes.conftest import WORKLOAD, batch_of, context_in, deployed

FP8 = Formats(weights=NumberFormat.FP8)


@pytest.mark.parametrize("rows", [1, 5, 40])
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_multiplies_what_its_eight_bits_say(rows: int, bias: bool) -> None:
    """Against the same arithmetic in double: only the sums' rounding to bf16 is between them."""
    torch.manual_seed(0)
    linear = nn.Linear(64, 48, bias=bias).requires_grad_(False)
    x = torch.randn(2, rows, 64)
    x[0, 0] *= 1000  # a scale for each token
    weight, scale = quantize_float8(linear.weight)
    steps = x.abs().amax(-1, keepdim=True) / 448
    expected = ((x / steps).to(FLOAT8).double() @ weight.double().t()) * steps * scale
    found = Float8Linear(weight, scale, linear.bias)(x)
    assert found.shape == (2, rows, 48) and found.dtype == x.dtype
    torch.testing.assert_close(found.double(), expected + (linear.bias if bias else 0), rtol=2**-8, atol=1e-3)
    error = (found - linear(x)).norm() / linear(x).norm()
    assert error < 0.05


def test_the_largest_weight_of_a_row_is_the_formats_largest_value() -> None:
    weight, scale = quantize_float8(torch.tensor([[1.0, -2.0], [0.0, 0.0]]))
    assert weight[0].float().tolist() == [224.0, -448.0]
    torch.testing.assert_close(weight.float() * scale[:, None], torch.tensor([[1.0, -2.0], [0.0, 0.0]]))
    assert Float8Linear(weight.repeat(8, 8), scale.repeat(8), None)(torch.zeros(1, 16)).abs().max() == 0


def test_every_value_stays_what_it_is_on_cdna3() -> None:
    every = torch.arange(256, dtype=torch.uint8).view(FLOAT8)
    every = every[~every.isnan()].reshape(1, -1)
    weight, scale = as_fnuz(every, torch.ones(1))
    assert weight.dtype is torch.float8_e4m3fnuz
    torch.testing.assert_close(weight.float() * scale, every.float(), rtol=0, atol=0)


def test_a_devices_kernel_takes_the_layer_on_tensors_without_data() -> None:
    with FakeTensorMode():
        parts = {"qweight": torch.empty(64, 256, dtype=FLOAT8), "scale": torch.empty(64), "zero": None}
        layer = device_layer(nn.Linear(256, 64), torch.empty(64), FP8, **parts)
        for name, held in list(layer.named_buffers()):  # a build without CUDA makes tensors there but moves none
            setattr(layer, name, torch.empty(held.shape, dtype=held.dtype, device="cuda"))
        y = layer(torch.empty(2, 5, 256, dtype=torch.bfloat16, device="cuda"))
    assert isinstance(layer, Float8Linear)
    assert (y.shape, y.dtype, y.device.type) == ((2, 5, 64), torch.bfloat16, "cuda")


def test_tables_are_looked_up_row_by_row() -> None:
    torch.manual_seed(0)
    table = torch.randn(20, 8)
    found = EightBitEmbedding(*quantize_float8(table))(torch.tensor([[3, 7]]))
    torch.testing.assert_close(found[0], table[[3, 7]], rtol=2**-4, atol=1e-2)


@pytest.mark.parametrize("runtime", [Eager(), Inductor()], ids=lambda runtime: str(runtime.id))
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_a_model_in_fp8_answers_nearly_as_in_fp32(family: str, runtime: Eager | Inductor, tiny: dict[str, Path], tmp_path: Path) -> None:
    deployment = deployed(tiny[family], runtime.id, FP8)
    lowered = runtime.lower(deployment, context_in(tmp_path / "fp8", deployment.card))
    stored = [t for t in load_file(Path(lowered.directory) / "model.safetensors").values() if t.dtype is FLOAT8]
    facts = lowered.facts.facts
    assert facts["fp8_weights"] == sum(t.numel() for t in stored) > 0
    assert "int8_weights" not in facts and facts["activation_bits"] == 8
    # the tiny Llama's vocabulary of 260, which is its head too, is no multiple of 16
    assert facts["layers_stayed"] == (1 if family == "llama" else 0)
    exact = Eager().lower(deployed(tiny[family], RuntimeId.EAGER), context_in(tmp_path / "fp32", deployment.card))
    batch, name = batch_of(deployment.card), deployment.card.outputs[0].name
    found, expected = (
        each.open(low, deployment.card, WORKLOAD, threads=1).infer(batch)[name] for each, low in ((runtime, lowered), (Eager(), exact))
    )
    cosine = (found * expected).sum() / np.linalg.norm(found) / np.linalg.norm(expected)
    assert 0.99 < cosine < 1


def test_shapes_that_no_kernel_multiplies_stay() -> None:
    model = nn.Sequential(nn.Linear(64, 32), nn.Linear(24, 32), nn.Linear(64, 10))
    assert {name.partition(".")[0] for name in quantized_tensors(model, FP8)} == {"0"}


def test_activations_are_always_narrowed_too() -> None:
    assert settled(FP8, TaskId.CAUSAL_LM).mode is QuantizationMode.DYNAMIC
    with pytest.raises(StageError, match="no weight_only fp8"):
        settled(Formats(weights=NumberFormat.FP8, mode=QuantizationMode.WEIGHT_ONLY), TaskId.CAUSAL_LM)
