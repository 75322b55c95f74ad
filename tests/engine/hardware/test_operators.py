"""Operators and published networks: sums against published figures."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.hardware.networks import network
from engine.hardware.operators import (
    Gemm,
    OperatorKind,
    attention,
    conv2d,
    fused,
    kernels,
    linear,
    pointwise,
    total_bytes,
    total_flops,
    total_weights,
)

sizes = st.integers(1, 512)


@pytest.mark.parametrize(
    ("name", "parameters"),
    # the models' own cards; ResNets without batch norm, which is folded
    [("llama-7b", 6.74e9), ("llama-3-8b", 8.03e9), ("llama-70b", 68.98e9), ("gpt-j-6b", 6.05e9), ("falcon-180b", 179.5e9),
     ("bert-large", 334e6), ("bert-base", 109e6), ("resnet-18", 11.69e6), ("resnet-50", 25.53e6)],
)  # fmt: skip
def test_networks_have_the_published_parameters(name: str, parameters: float) -> None:
    assert network(name).parameters == pytest.approx(parameters, rel=0.01)


@pytest.mark.parametrize(("name", "gmacs"), [("resnet-18", 1.814), ("resnet-50", 4.089), ("resnet-101", 7.801)])
def test_resnets_have_the_published_multiply_accumulates(name: str, gmacs: float) -> None:
    products = [o for o in network(name).forward if o.gemm]
    assert total_flops(products) / 2e9 == pytest.approx(gmacs, rel=0.01)


def test_decoding_reads_every_matrix_once_and_the_whole_cache() -> None:
    lm = network("llama-7b", sequence=100, new_tokens=51)
    assert total_weights(lm.decode) == pytest.approx(lm.parameters - 32000 * 4096, rel=0.001)
    attended = next(o for o in lm.decode if o.kind is OperatorKind.ATTENTION)
    assert attended.input_elements * attended.count == pytest.approx(lm.cache_elements * 125, rel=0.02)
    assert (lm.steps, lm.longest_context) == (50, 150)


@given(sizes, sizes, sizes)
def test_a_linear_layer_is_its_product(m: int, k: int, n: int) -> None:
    layer = linear("x", m, k, n)
    assert layer.flops == 2 * m * k * n
    assert layer.bytes(8, 8) == m * k + k * n + m * n


@given(sizes, sizes, st.integers(1, 8))
def test_an_attention_is_two_products(queries: int, keys: int, heads: int) -> None:
    one = attention("x", 1, heads, heads, 64, queries, keys)
    scores, values = one.gemms
    assert scores.macs + values.macs == one.flops / 2
    assert values == Gemm(queries, keys, 64, heads)


def test_a_grouped_convolution_has_less_to_do() -> None:
    full = conv2d("x", 1, 64, 64, (3, 3), (8, 8), (8, 8))
    depthwise = conv2d("x", 1, 64, 64, (3, 3), (8, 8), (8, 8), groups=64)
    assert full.flops == 64 * depthwise.flops
    assert depthwise.gemm == Gemm(64, 9, 1, 64)


def test_fusion_keeps_arithmetic_and_saves_memory_and_launches() -> None:
    network_ = (linear("a", 8, 8, 8), pointwise("b", 64), pointwise("c", 64, kind=OperatorKind.NORM, weights=8), linear("d", 8, 8, 8))
    compiled = fused(network_)
    assert [o.name for o in compiled] == ["a", "c", "d"]
    assert compiled[1].kind is OperatorKind.NORM
    assert total_flops(compiled) == total_flops(network_)
    assert total_weights(compiled) == total_weights(network_)
    assert total_bytes(compiled, 16, 16) < total_bytes(network_, 16, 16)
    assert kernels(compiled) == 3
