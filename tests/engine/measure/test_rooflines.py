"""Arithmetic told from types and shapes; measured operators under measured ceilings."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from engine.domain.calibration import Bandwidth, Calibration, Peak, Precision
from engine.domain.metrics import Provenance
from engine.domain.operators import OVERHEAD, OperatorTime, profile_of
from engine.hardware.operators import OperatorKind
from engine.measure.rooflines import under_host, with_operators
from engine.measure.work import convolved_shape, flops_of, kind_of, product_shape
from tests.pages.seed import ENVIRONMENT

CALIBRATION = Calibration(
    "lab", datetime(2026, 11, 28, tzinfo=UTC), ENVIRONMENT, (Peak(Precision.FP32, 2, 1e11), Peak(Precision.INT8, 2, 4e11)),
    (Bandwidth(2, 2e10),), 0.02, 8, 0.001,
)  # fmt: skip


@pytest.mark.parametrize(
    ("type", "kind"),
    [
        ("linear", OperatorKind.MATMUL), ("_int_mm", OperatorKind.MATMUL), ("_weight_int8pack_mm", OperatorKind.MATMUL),
        ("qlinear_pointwise", OperatorKind.MATMUL), ("MatMulNBits", OperatorKind.MATMUL), ("FullyConnected", OperatorKind.MATMUL),
        ("QLinearConv", OperatorKind.CONV2D), ("_convolution_pointwise", OperatorKind.CONV2D), ("Convert", OperatorKind.OTHER),
        ("scaled_dot_product_attention", OperatorKind.ATTENTION), ("SkipLayerNormalization", OperatorKind.NORM),
        ("DequantizeLinear", OperatorKind.OTHER), ("QLinearAdd", OperatorKind.ELEMENTWISE), ("FastGelu", OperatorKind.ELEMENTWISE),
        ("Softmax", OperatorKind.SOFTMAX), ("Reorder", OperatorKind.OTHER), ("fused kernel", OperatorKind.OTHER), ("Subgraph", OperatorKind.OTHER),
    ],
)  # fmt: skip
def test_runtimes_have_many_names_for_a_few_kinds(type: str, kind: OperatorKind) -> None:
    assert kind_of(type) is kind


def test_arithmetic_is_told_by_shapes() -> None:
    assert flops_of("linear", [(2, 3, 8), (16, 8), (16,)], (2, 3, 16)) == 2 * 6 * 8 * 16
    assert flops_of("addmm", [(16,), (6, 8), (8, 16)], (6, 16)) == 2 * 6 * 8 * 16
    assert flops_of("conv2d", [(1, 3, 16, 16), (8, 3, 3, 3)], (1, 8, 8, 8)) == 2 * 8 * 64 * 27
    # depthwise: openvino keeps the groups as an axis of the kernel's own, torch does not
    assert flops_of("GroupConvolution", [(1, 8, 16, 16), (8, 1, 1, 3, 3)], (1, 8, 16, 16)) == 2 * 8 * 256 * 9
    assert flops_of("conv2d", [(1, 8, 16, 16), (8, 1, 3, 3)], (1, 8, 16, 16)) == 2 * 8 * 256 * 9
    assert flops_of("scaled_dot_product_attention", [(1, 2, 5, 8), (1, 2, 7, 8)], (1, 2, 5, 8)) == 4 * 2 * 5 * 7 * 8
    assert flops_of("gelu", [(2, 3)], (2, 3)) == 6
    assert flops_of("Reorder", [(2, 3)], (2, 3)) == 0


def test_results_of_torchs_operators_follow_from_their_inputs() -> None:
    assert product_shape("linear", [(2, 3, 8), (16, 8), (16,)]) == (2, 3, 16)
    assert product_shape("addmm", [(16,), (6, 8), (8, 16)]) == (6, 16)
    assert product_shape("bmm", [(4, 5, 8), (4, 8, 7)]) == (4, 5, 7)
    assert product_shape("mv", [(5, 8), (8,)]) is None
    assert convolved_shape((1, 3, 224, 224), (64, 3, 7, 7), (2, 2), (3, 3), (1, 1)) == (1, 64, 112, 112)


def _operator(name: str, ms: float, flops: float, bytes: float) -> OperatorTime:
    return OperatorTime(type="linear", name=name, calls=1, ms=ms, precision="fp32", shapes=((2, 2),), flops=flops, bytes=bytes)


def test_measured_operators_lie_under_measured_ceilings() -> None:
    between = OperatorTime(type=OVERHEAD, name=OVERHEAD, calls=1, ms=1.0)
    dense, thin = _operator("dense", 2.0, 1e8, 1e6), replace(_operator("thin", 1.0, 1e6, 1e7), shapes=((1, 1),))
    profile = profile_of("torch.profiler", [dense, thin, replace(dense, name="next layer", ms=6.0), between], 3)
    host = under_host(CALIBRATION, 2)
    assert host is not None
    found = with_operators(host, profile)
    assert found is not None and found.provenance is Provenance.MEASURED
    first, second = found.points
    # two equal layers are one point at their common pace: 2e8 FLOPs in 8 ms
    assert (first.name, first.count, first.share) == ("next layer", 2, pytest.approx(0.8))
    assert first.flops_per_second == pytest.approx(2e8 / 8e-3)
    assert found.reached(first) == pytest.approx(0.25) and first.bound == "compute"
    assert second.bound == "memory" and found.reached(second) == pytest.approx(0.5)
    assert found.covered == pytest.approx(0.9)
    assert found.ceilings.compute == {"fp32": 1e11}


def test_without_ceilings_or_shapes_there_is_no_roofline() -> None:
    assert under_host(CALIBRATION, 1) is None and under_host(None, 2) is None
    host = under_host(CALIBRATION, 2)
    assert host is not None
    assert with_operators(host, profile_of("openvino", [_operator("a", 1.0, 0.0, 0.0)], 1)) is None
