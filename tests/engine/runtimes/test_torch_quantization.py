"""Integer layers of the torch runtimes: what is stored, what is computed, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

from engine.domain.artifact import TaskId
from engine.domain.deployment import Deployment, Formats, Lowered, NumberFormat, QuantizationMode
from engine.domain.errors import NothingChanged, StageError
from engine.domain.ports import Array
from engine.domain.recipe import RuntimeId
from engine.runtimes.eager import Eager
from engine.runtimes.integer_layers import (
    DynamicInt8Linear,
    WeightInt4Linear,
    WeightInt8Linear,
    pack_int4,
    quantize_int8,
    unpack_int4,
)
from engine.runtimes.torch_lowering import settled
from engine.runtimes.torch_quantization import quantized_tensors
from engine.techniques.quantization.support import SUPPORT
from tests.engine.runtimes.conftest import WORKLOAD, batch_of, context_in, deployed

INT8 = Formats(weights=NumberFormat.INT8)
INT4 = Formats(weights=NumberFormat.INT4)


def lowered_and_answer(deployment: Deployment, scratch: Path) -> tuple[Lowered, Array]:
    lowered = Eager().lower(deployment, context_in(scratch, deployment.card))
    executor = Eager().open(lowered, deployment.card, WORKLOAD, threads=1)
    return lowered, executor.infer(batch_of(deployment.card))[deployment.card.outputs[0].name]


def error(found: Array | torch.Tensor, exact: Array | torch.Tensor) -> float:
    a, b = np.asarray(found), np.asarray(exact)
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@given(rows=st.integers(1, 5), pairs=st.integers(1, 9), seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_int4_packs_without_loss(rows: int, pairs: int, seed: int) -> None:
    values = torch.randint(0, 16, (rows, 2 * pairs), generator=torch.Generator().manual_seed(seed))
    packed = pack_int4(values)
    assert packed.dtype == torch.uint8
    assert packed.shape == (rows, pairs)
    assert torch.equal(unpack_int4(packed), values.int())


@pytest.mark.parametrize("offset", [1, 8, 16])
def test_weights_that_a_file_holds_anywhere_are_multiplied(offset: int) -> None:
    """Mapped from a file they need not be aligned, which the kernel does not survive."""
    weight = torch.randint(-127, 128, (260 * 32 + offset,), dtype=torch.int8)[offset:].view(260, 32)
    rows = torch.randn(4, 32)
    found = WeightInt8Linear(weight, torch.ones(260), None)(rows)
    assert torch.allclose(found, rows @ weight.float().t(), atol=20.0)


@pytest.mark.parametrize("rows", [1, 5, 40])
@pytest.mark.parametrize(("inputs", "outputs"), [(32, 64), (33, 10), (96, 48)])
@pytest.mark.parametrize("layer", [DynamicInt8Linear, WeightInt8Linear])
@pytest.mark.parametrize("bias", [True, False])
def test_int8_layers_compute_the_linear_layer(
    layer: type[DynamicInt8Linear] | type[WeightInt8Linear], inputs: int, outputs: int, rows: int, bias: bool
) -> None:
    torch.manual_seed(0)
    exact = nn.Linear(inputs, outputs, bias=bias).requires_grad_(False)
    x = torch.randn(2, rows, inputs)
    found = layer(*quantize_int8(exact.weight.data), exact.bias)(x)
    assert found.shape == (2, rows, outputs)
    assert error(found, exact(x)) < 0.03


def test_an_outlier_token_leaves_the_others_precise() -> None:
    torch.manual_seed(0)
    exact = nn.Linear(64, 64).requires_grad_(False)
    x = torch.randn(1, 8, 64)
    x[0, 0] *= 1000
    found = DynamicInt8Linear(*quantize_int8(exact.weight.data), exact.bias)(x)
    assert error(found[0, 1:], exact(x)[0, 1:]) < 0.03


def test_a_token_of_zeros_gives_the_bias() -> None:
    exact = nn.Linear(32, 32).requires_grad_(False)
    found = DynamicInt8Linear(*quantize_int8(exact.weight.data), exact.bias)(torch.zeros(1, 32))
    torch.testing.assert_close(found[0], exact.bias.data)


def test_int4_layer_computes_the_dequantized_product() -> None:
    torch.manual_seed(0)
    values = torch.randint(0, 16, (32, 64))
    scale, zero = (torch.rand(32, 2) * 0.1).bfloat16(), (torch.randn(32, 2) * 0.1).bfloat16()
    weight = (values - 8) * scale.float().repeat_interleave(32, 1) + zero.float().repeat_interleave(32, 1)
    x = torch.randn(3, 64)
    found = WeightInt4Linear(pack_int4(values), scale, zero, None)(x)
    assert error(found, x @ weight.t()) < 0.02


def test_files_shrink_and_hold_the_integers(tiny: dict[str, Path], tmp_path: Path) -> None:
    sizes = {}
    for name, formats in {"fp32": Formats(), "int8": INT8, "int4": INT4}.items():
        lowered, _ = lowered_and_answer(deployed(tiny["llama"], RuntimeId.EAGER, formats), tmp_path / name)
        sizes[name] = (Path(lowered.directory) / "model.safetensors").stat().st_size
    assert sizes["int8"] < 0.4 * sizes["fp32"]
    assert sizes["int4"] < 0.85 * sizes["int8"]


def test_facts_count_what_is_in_the_file(tiny: dict[str, Path], tmp_path: Path) -> None:
    lowered, _ = lowered_and_answer(deployed(tiny["bert"], RuntimeId.EAGER, INT8), tmp_path / "x")
    stored = load_file(Path(lowered.directory) / "model.safetensors")
    integers = [t for t in stored.values() if t.dtype == torch.int8]
    facts = lowered.facts.facts
    assert facts["int8_weights"] == sum(t.numel() for t in integers)
    assert facts["linear_layers_quantized"] == facts["linear_layers"] == len(integers) == 12
    assert facts["mode"] == "dynamic"


def test_shared_weights_stay_shared(tiny: dict[str, Path], tmp_path: Path) -> None:
    lowered, _ = lowered_and_answer(deployed(tiny["llama"], RuntimeId.EAGER, INT8), tmp_path / "x")
    names = load_file(Path(lowered.directory) / "model.safetensors").keys()
    assert "model.embed_tokens.qweight" in names
    assert not any(name.startswith("lm_head") for name in names)
    assert lowered.facts.facts["nodes_EightBitEmbedding"] == 1


@pytest.mark.parametrize("family", ["bert", "llama", "resnet"])
def test_bf16_halves_the_weights(family: str, tiny: dict[str, Path], tmp_path: Path) -> None:
    _, exact = lowered_and_answer(deployed(tiny[family], RuntimeId.EAGER), tmp_path / "fp32")
    formats = Formats(weights=NumberFormat.BF16)
    lowered, found = lowered_and_answer(deployed(tiny[family], RuntimeId.EAGER, formats), tmp_path / "bf16")
    assert lowered.facts.facts["bits_per_weight"] == 16
    assert found.dtype == np.float32
    assert 1e-6 < error(found, exact) < 0.05


def test_weight_only_is_closer_than_dynamic(tiny: dict[str, Path], tmp_path: Path) -> None:
    _, exact = lowered_and_answer(deployed(tiny["bert"], RuntimeId.EAGER), tmp_path / "fp32")
    errors = []
    for mode in (QuantizationMode.WEIGHT_ONLY, QuantizationMode.DYNAMIC):
        formats = Formats(weights=NumberFormat.INT8, mode=mode)
        errors.append(error(lowered_and_answer(deployed(tiny["bert"], RuntimeId.EAGER, formats), tmp_path / mode)[1], exact))
    assert 0 < errors[0] < errors[1] < 0.1


def test_int4_without_a_fitting_layer_changes_nothing(tiny: dict[str, Path], tmp_path: Path) -> None:
    deployment = deployed(tiny["resnet"], RuntimeId.EAGER, INT4)
    with pytest.raises(NothingChanged, match="4 bits"):
        Eager().lower(deployment, context_in(tmp_path / "x", deployment.card))


def test_layers_no_kernel_takes_are_left_out() -> None:
    model = nn.Sequential(nn.Linear(64, 32), nn.Linear(30, 32), nn.Linear(64, 10))
    assert {name.partition(".")[0] for name in quantized_tensors(model, INT4)} == {"0"}


@pytest.mark.parametrize(
    "formats",
    [
        Formats(weights=NumberFormat.INT8, mode=QuantizationMode.STATIC),
        Formats(weights=NumberFormat.INT4, mode=QuantizationMode.DYNAMIC),
    ],
)
def test_modes_without_kernels_are_refused(formats: Formats) -> None:
    with pytest.raises(StageError, match="torch runtimes have no"):
        settled(formats, TaskId.TEXT_ENCODER)


@pytest.mark.parametrize("runtime", [RuntimeId.EAGER, RuntimeId.INDUCTOR])
@pytest.mark.parametrize("task", [TaskId.CAUSAL_LM, TaskId.TEXT_ENCODER, TaskId.TEXT_CLASSIFIER])
def test_bare_formats_mean_the_first_supported_mode(runtime: RuntimeId, task: TaskId) -> None:
    rows = [s for s in SUPPORT if s.runtime is runtime and task in s.tasks and s.format in ("int8", "int4")]
    assert rows
    for row in rows:
        assert settled(Formats(weights=NumberFormat(row.format)), task).mode == row.modes[0]


def test_encoders_do_not_generate(tiny: dict[str, Path], tmp_path: Path) -> None:
    deployment = deployed(tiny["bert"], RuntimeId.EAGER)
    lowered = Eager().lower(deployment, context_in(tmp_path / "x", deployment.card))
    executor = Eager().open(lowered, deployment.card, WORKLOAD, threads=1)
    with pytest.raises(StageError, match="does not generate"):
        executor.generate(batch_of(deployment.card)["input_ids"], 2)
