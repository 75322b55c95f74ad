"""Tier 2: whole networks in integers equal the integer executor product by product, and stay near the fp32 model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.domain.artifact import ModelCard, TaskId
from engine.domain.deployment import Variant
from engine.domain.errors import StageError
from engine.domain.ports import Array, Batch
from engine.fpga import integer_network
from engine.fpga.array import Precision
from engine.fpga.calibration import Watcher, shape_of
from engine.fpga.execution import IntegerExecutor, answer
from engine.fpga.fixed_point import Requantization
from engine.fpga.gemm import gemm
from engine.fpga.grids import Grid, Reals, balance, grid_for, row_scales, row_zero_point, weight_grids
from engine.fpga.integer_network import IntegerProduct, integer_products
from engine.fpga.interception import Product
from engine.fpga.observed import ProductKind
from engine.fpga.stored_integers import load, save
from engine.tasks.loading import load_module
from engine.tasks.traceable import Traceable
from tests.models import IMAGE_SIZE, VOCABULARY, tiny_bert, tiny_card, tiny_llama, tiny_resnet, tiny_vit

MAKERS: dict[str, Callable[[Path], Path]] = {"bert": tiny_bert, "llama": tiny_llama, "vit": tiny_vit, "resnet": tiny_resnet}


def batch_of(card: ModelCard, seed: int) -> Batch:
    rng = np.random.default_rng(seed)
    if card.task is TaskId.IMAGE_CLASSIFIER:
        return {"pixel_values": rng.normal(size=(2, 3, IMAGE_SIZE, IMAGE_SIZE)).astype(np.float32)}
    ids = rng.integers(4, VOCABULARY, (2, 12))
    mask = np.ones_like(ids)
    mask[0, 8:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def tensors(batch: Batch, module: Traceable) -> tuple[torch.Tensor, ...]:
    return tuple(torch.from_numpy(batch[name]) for name in module.inputs)


@pytest.fixture(scope="module", params=MAKERS)
def watched(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Traceable, ModelCard, Watcher]:
    directory = MAKERS[request.param](tmp_path_factory.mktemp(request.param))
    card = tiny_card(directory)
    module = load_module(Variant(str(directory)), card)
    watcher = Watcher(module)
    watcher.watch([tensors(batch_of(card, seed), module) for seed in range(3)], lambda share: None)
    return module, card, watcher


def likeness(module: Traceable, executor: IntegerExecutor, batch: Batch) -> float:
    """Cosine of the first outputs, on inputs that calibration saw, so that nothing saturates."""
    with torch.inference_mode():
        expected = module(*tensors(batch, module))[0].numpy()
    found: Array = next(iter(executor.infer(batch).values()))
    assert found.shape == expected.shape
    return float((found * expected).sum() / np.sqrt((found**2).sum() * (expected**2).sum()))


def test_the_whole_network_in_integers_is_near_the_model(watched: tuple[Traceable, ModelCard, Watcher], tmp_path: Path) -> None:
    module, card, watcher = watched
    batch = batch_of(card, 1)
    by_bits = {
        bits: likeness(module, IntegerExecutor(module, integer_products(watcher.observed, precision)), batch)
        for bits, precision in ((4, Precision(weights=4, activations=4)), (8, Precision()), (12, Precision(weights=12, activations=12)))
    }
    assert by_bits[4] < by_bits[8] < by_bits[12]
    assert by_bits[8] > 0.97 and by_bits[12] > 0.9999
    products = integer_products(watcher.observed, Precision())
    save(products, tmp_path)
    again = IntegerExecutor(module, load(tmp_path)).infer(batch)
    first = IntegerExecutor(module, products).infer(batch)
    assert all(np.array_equal(again[name], first[name]) for name in first)


def test_normalisations_and_activations_of_a_cnn_become_part_of_its_products(
    watched: tuple[Traceable, ModelCard, Watcher],
) -> None:
    _, card, watcher = watched
    products = integer_products(watcher.observed, Precision())
    convolutions = [p for p in products if p.kind is ProductKind.CONV2D]
    if card.architecture != "ResNetForImageClassification":
        assert not any(p.folded for p in products)
        return
    assert all(p.folded for p in convolutions)
    assert any(p.relu for p in convolutions)
    straight = [seen for seen in watcher.observed if seen.fed_by is not None]
    assert straight, "the second convolution of a block reads the integers of the first"
    for seen in straight:
        producer, consumer = products[seen.fed_by or 0], products[watcher.observed.index(seen)]
        assert np.allclose(producer.out_scale, consumer.first_scale[0])
        assert producer.out_zero == consumer.first_zero[0]


def test_a_linear_layer_answers_what_the_array_answers(
    watched: tuple[Traceable, ModelCard, Watcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one scale for the tensor, and with one for each row."""
    _, _, watcher = watched
    for a_bit in (np.inf, 0.0):
        monkeypatch.setattr(integer_network, "A_BIT", a_bit)
        products = integer_products(watcher.observed, Precision())
        place = next(i for i, p in enumerate(products) if p.kind is ProductKind.LINEAR)
        integer, seen = products[place], watcher.observed[place]
        rows = np.concatenate(watcher.observed[seen.shared_with].rows)[:16]
        found = answer(integer, Product(ProductKind.LINEAR, torch.from_numpy(rows), torch.from_numpy(np.asarray(seen.weight))))
        divided, zero_point = rows / integer.divisor, integer.first_zero[0]
        scales: Reals = integer.first_scale
        bias: Reals = np.zeros(1)
        if integer.by_row:
            scales = np.max([divided.max(axis=1) / (127 - zero_point), divided.min(axis=1) / (-128 - zero_point)], axis=0)[:, None]
            bias = integer.host_bias
        grid = np.clip(np.rint(divided / scales) + zero_point, -128, 127).astype(np.int8)
        expected = gemm(grid, integer.weights, integer.requantization()).astype(np.float64) - integer.out_zero
        assert np.allclose(found, expected * integer.out_scale * (scales if integer.by_row else 1.0) + bias, rtol=1e-5, atol=1e-6)
        assert integer.by_row is (a_bit == 0.0)


def test_a_row_of_outliers_costs_the_others_nothing() -> None:
    """A token of a thousand times the size (as the first of a text has in language models), and mostly positive rows."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(32, 64))
    rows[0] *= 1000
    zero_point = row_zero_point(rows, 8)
    grid, scales = Grid(1.0, zero_point, 8), row_scales(rows, zero_point, 8)
    error = np.abs(grid.reals(grid.integers(rows / scales)) * scales - rows)
    assert (error <= scales * 0.501).all() and error[1:].max() < 0.02
    assert abs(zero_point) <= 32 and row_zero_point(np.maximum(rows, -0.05), 8) < -64
    assert np.isfinite(row_scales(np.zeros((1, 4)), zero_point, 8)).all()


def test_another_shape_than_in_calibration_is_an_error(watched: tuple[Traceable, ModelCard, Watcher]) -> None:
    module, card, watcher = watched
    executor = IntegerExecutor(module, integer_products(watcher.observed, Precision()))
    batch = {name: array[:1] for name, array in batch_of(card, 1).items()}
    with pytest.raises(StageError, match="something else than it did in calibration"):
        executor.infer(batch)


def test_a_convolution_is_exact_on_integers() -> None:
    """Stride, padding, dilation and groups against torch's own convolution of the same integers."""
    rng = np.random.default_rng(0)
    for stride, padding, dilation, groups in ((1, 1, 1, 1), (2, 1, 1, 2), (1, 2, 2, 4), (2, 0, 1, 1)):
        weights = rng.integers(-7, 8, (8, 8 // groups, 3, 3)).astype(np.float32)
        pixels = rng.integers(-9, 10, (2, 8, 9, 9)).astype(np.float32)
        product = Product(
            ProductKind.CONV2D, torch.from_numpy(pixels), torch.from_numpy(weights), None, (stride, stride), (padding, padding),
            (dilation, dilation), groups,
        )  # fmt: skip
        made = Requantization.of_scales(np.full(8, 0.25))
        integer = IntegerProduct(
            name="conv", kind=ProductKind.CONV2D, shape=shape_of(product), first_scale=np.ones(1), first_zero=np.array([3]),
            divisor=np.zeros(0, np.float32), weights=weights.reshape(8, -1).T.astype(np.int8), second_scale=np.zeros(0, np.float32),
            bias=(-3 * weights.reshape(8, -1).sum(axis=1)).astype(np.int32), multiplier=made.multiplier, shift=made.shift,
            out_zero=0, out_scale=np.ones(8), host_bias=np.zeros(0, np.float32), relu=False, folded=False, bits=(8, 8),
        )  # fmt: skip
        sums = torch.nn.functional.conv2d(
            torch.from_numpy(pixels), torch.from_numpy(weights), None, stride, padding, dilation, groups
        ).numpy()
        assert np.array_equal(answer(integer, product), np.clip(np.floor(sums / 4 + 0.5), -128, 127))


def test_grids_hold_zero_and_waste_nothing_on_one_outlier() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=20_000)
    values[0] = 60.0
    grid = grid_for(values, 8)
    assert float(grid.reals(grid.integers(np.zeros(1)))[0]) == 0.0
    whole = (values.max() - min(values.min(), 0)) / 255
    assert grid.scale < whole
    weights = rng.normal(size=(64, 5)) * [1, 10, 0.1, 1, 0]
    integers, scales = weight_grids(weights, 4)
    assert integers.min() >= -7 and integers.max() <= 7
    assert np.abs(integers * scales - weights).mean() < np.abs(weights).mean() / 4


def test_balancing_leaves_the_product_as_it_was() -> None:
    rng = np.random.default_rng(0)
    rows, weights = rng.normal(size=(8, 16)) * np.geomspace(0.01, 100, 16), rng.normal(size=(16, 4))
    factor = balance(np.abs(rows).max(axis=0), np.abs(weights).max(axis=1))
    assert np.allclose((rows / factor) @ (weights * factor[:, None]), rows @ weights)
    assert np.abs(rows / factor).max() < np.abs(rows).max()
