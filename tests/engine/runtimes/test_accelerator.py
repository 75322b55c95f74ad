"""The accelerator's executor driven on the CPU, recordings played by a stand-in: answers and tokens are eager's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from engine.domain.deployment import Formats, NumberFormat, Placement, QuantizationMode, Variant
from engine.domain.errors import StageError
from engine.executors.accelerator import WARM_CALLS, AcceleratorExecutor, Function
from engine.executors.torch_local import EagerExecutor
from engine.runtimes.device_layers import (
    DeviceInt4Linear,
    DeviceInt8Linear,
    DeviceWeightInt8Linear,
    device_layer,
    is_two_of_four,
    skip_zeros,
)
from engine.runtimes.integer_layers import pack_int4, quantize_int8, unpack_int4
from engine.runtimes.ort.executors import open_session
from engine.runtimes.torch_quantization import install_quantized, quantized_tensors
from engine.tasks.loading import load_module
from tests.models import tiny_bert, tiny_card, tiny_llama, tiny_onnx, tiny_resnet

STAND_IN = Placement(device="cpu", attention="math")
PROMPT = np.arange(8, dtype=np.int64)[None] + 5


class PlayedGraph:
    """As CudaGraph: inputs and outputs at fixed places, the function run a few times before."""

    made = 0

    def __init__(self, function: Function, inputs: tuple[Tensor, ...]) -> None:
        PlayedGraph.made += 1
        self._function, self._inputs = function, tuple(t.clone() for t in inputs)
        for _ in range(WARM_CALLS):
            self._outputs = function(*self._inputs)

    def replay(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        for place, value in zip(self._inputs, inputs, strict=True):
            assert place.shape == value.shape
            place.copy_(value)
        for place, value in zip(self._outputs, self._function(*self._inputs), strict=True):
            place.copy_(value)
        return self._outputs


@pytest.fixture(autouse=True)
def nothing_was_made() -> None:
    PlayedGraph.made = 0


@pytest.mark.parametrize("record", [None, PlayedGraph])
def test_images_are_answered_as_eager_does(record: Callable[..., PlayedGraph] | None, tmp_path: Path) -> None:
    tiny_resnet(tmp_path)
    card = tiny_card(tmp_path)
    batches = [{"pixel_values": np.random.default_rng(i).normal(size=(2, 3, 32, 32)).astype(np.float32)} for i in range(2)]
    plain, placed = (load_module(Variant(str(tmp_path)), card) for _ in range(2))
    executor = AcceleratorExecutor(placed, STAND_IN, record=record)
    for batch in batches:
        expected = EagerExecutor(plain).infer(batch)["logits"]
        np.testing.assert_allclose(executor.infer(batch)["logits"], expected, rtol=1e-3, atol=1e-4)
    assert executor.device_ms > 0 and executor.peak_bytes() == 0
    assert PlayedGraph.made == (1 if record else 0)
    assert next(p for p in placed.parameters() if p.dim() == 4).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("record", [None, PlayedGraph])
def test_a_static_cache_gives_the_same_tokens(record: Callable[..., PlayedGraph] | None, tmp_path: Path) -> None:
    tiny_llama(tmp_path)
    module = load_module(Variant(str(tmp_path)), tiny_card(tmp_path))
    eager, executor = EagerExecutor(module), AcceleratorExecutor(module, STAND_IN, record=record)
    for prompt, new_tokens in ((PROMPT, 6), (PROMPT + 7, 6), (PROMPT[:, :3], 9)):
        found = executor.generate(prompt, new_tokens)
        np.testing.assert_array_equal(found.tokens, eager.generate(prompt, new_tokens).tokens)
        assert list(found.token_times) == sorted(found.token_times)
    # a token's launches are recorded once for each length of the cache
    assert PlayedGraph.made == (2 if record else 0)


def test_compiled_blocks_on_a_device_give_the_same_tokens(tmp_path: Path) -> None:
    tiny_llama(tmp_path)
    plain, placed = (load_module(Variant(str(tmp_path)), tiny_card(tmp_path)) for _ in range(2))
    executor = AcceleratorExecutor(placed, STAND_IN, compiled=True, record=PlayedGraph)
    np.testing.assert_array_equal(executor.generate(PROMPT, 5).tokens, EagerExecutor(plain).generate(PROMPT, 5).tokens)


def test_what_cannot_be_recorded_is_launched_as_it_is(tmp_path: Path) -> None:
    def refuse(function: Function, inputs: tuple[Tensor, ...]) -> PlayedGraph:
        raise RuntimeError("operation not permitted when stream is capturing")

    tiny_llama(tmp_path)
    module = load_module(Variant(str(tmp_path)), tiny_card(tmp_path))
    executor = AcceleratorExecutor(module, STAND_IN, record=refuse)
    np.testing.assert_array_equal(executor.generate(PROMPT, 6).tokens, EagerExecutor(module).generate(PROMPT, 6).tokens)
    assert "capturing" in executor.unrecorded


def test_fake_tensors_live_on_cuda_without_one() -> None:
    with FakeTensorMode():
        left, right = torch.empty(2, 3, device="cuda"), torch.empty(3, 4, device="cuda")
        product = left @ right
    assert (product.device.type, product.shape) == ("cuda", (2, 4))


@pytest.mark.parametrize("rows", [3, 40])
def test_integers_multiply_as_their_floats_do(rows: int) -> None:
    torch.manual_seed(0)
    weight, x, bias = torch.randn(24, 64), torch.randn(rows, 64), torch.randn(24)
    qweight, scale = quantize_int8(weight)
    expected = x @ (qweight * scale[:, None]).t() + bias
    torch.testing.assert_close(DeviceWeightInt8Linear(qweight, scale, bias)(x), expected, rtol=1e-4, atol=1e-4)
    found = DeviceInt8Linear(qweight, scale, bias)(x)
    # activations lose half a step of 127 a token
    assert (found - expected).abs().max() < 0.02 * expected.abs().max()


def test_int4_is_packed_for_the_devices_kernel() -> None:
    values = torch.arange(16, dtype=torch.uint8).repeat(16, 8)  # (16, 128)
    layer = DeviceInt4Linear(pack_int4(values), torch.ones(16, 2).bfloat16(), torch.zeros(16, 2).bfloat16(), None)
    assert layer.group_size == 64 and layer.grid.shape == (2, 16, 2)
    # the even column lies in the high half
    torch.testing.assert_close(layer.weight >> 4, values[:, ::2])
    torch.testing.assert_close(unpack_int4(pack_int4(values)).to(torch.uint8)[:, 1::2], layer.weight & 15)


def test_int4_runs_through_the_devices_kernel_on_fake_tensors() -> None:
    with FakeTensorMode():
        weight, side = torch.empty(64, 128, dtype=torch.uint8), torch.empty(64, 4, dtype=torch.bfloat16)
        layer = DeviceInt4Linear(weight, side, side, torch.empty(64, dtype=torch.bfloat16))
        for name, held in list(layer.named_buffers()):  # a build without CUDA makes tensors there but moves none
            setattr(layer, name, torch.empty(held.shape, dtype=held.dtype, device="cuda"))
        y = layer(torch.empty(2, 5, 256, dtype=torch.bfloat16, device="cuda"))
    assert (y.shape, y.dtype, y.device.type) == ((2, 5, 64), torch.bfloat16, "cuda")


@pytest.mark.parametrize("mode", [QuantizationMode.DYNAMIC, QuantizationMode.WEIGHT_ONLY])
def test_our_int8_files_open_with_the_devices_layers(mode: QuantizationMode, tmp_path: Path) -> None:
    tiny_bert(tmp_path)
    card, formats = tiny_card(tmp_path), Formats(weights=NumberFormat.INT8, mode=mode)
    plain, placed = (load_module(Variant(str(tmp_path)), card) for _ in range(2))
    tensors = {name: t.clone() for name, t in quantized_tensors(placed.model, formats).items()}
    rest = {name: t for name, t in placed.model.state_dict().items() if name.endswith(".bias")}
    assert install_quantized(placed.model, tensors | rest, formats, device_layer)
    ids = np.arange(32, dtype=np.int64).reshape(2, 16) + 5
    batch = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    expected = EagerExecutor(plain).infer(batch)["last_hidden_state"]
    found = AcceleratorExecutor(placed, replace(STAND_IN, channels_last=False)).infer(batch)["last_hidden_state"]
    cosine = (found * expected).sum() / np.linalg.norm(found) / np.linalg.norm(expected)
    assert cosine > 0.99


def test_the_pattern_of_sparse_kernels_is_recognised() -> None:
    dense = torch.ones(2, 8)
    assert not is_two_of_four(dense)
    dense.view(-1, 4)[:, 1:3] = 0
    assert is_two_of_four(dense)
    assert not is_two_of_four(torch.zeros(2, 6))
    layer = torch.nn.Linear(8, 2, dtype=torch.bfloat16)
    assert skip_zeros(layer) == 0  # it is dense


def test_onnxruntime_without_its_gpu_package_refuses_the_device(tmp_path: Path) -> None:
    model = tiny_onnx(tmp_path) / "model.onnx"
    with pytest.raises(StageError, match="no provider for cuda") as refused:
        open_session(model, 1, device="cuda")
    assert "onnxruntime-gpu" in refused.value.mend
