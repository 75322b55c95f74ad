"""The communication model in its limits, and its parts by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.hardware.communication import (
    Calibration,
    all_reduce_seconds,
    pipeline_calls_per_second,
    pipeline_seconds,
    tensor_seconds,
)
from engine.hardware.entries import SourceStatus
from engine.hardware.links import Link, links

SLOW = Link(id="x", name="x", kind="network", bandwidth=1e9, latency=1e-3, source="", status=next(iter(SourceStatus)))


def test_one_device_has_no_communication() -> None:
    assert all_reduce_seconds(1e9, 1, SLOW) == 0.0
    assert tensor_seconds(2.0, 1, collectives=9, size=1e9, link=SLOW, calibration=Calibration(fixed=5.0)) == 2.0
    assert pipeline_seconds([2.0], 1, size=1e9, link=SLOW) == 2.0


def test_each_term_by_hand() -> None:
    assert all_reduce_seconds(1e9, 4, SLOW) == pytest.approx(1.502)
    found = tensor_seconds(8.0, 4, collectives=2, size=1e9, link=SLOW, calibration=Calibration(split=0.75, fixed=0.5, moving=2.0, stepping=3.0))
    assert found == pytest.approx((0.75 / 4 + 0.25) * 8.0 + 0.5 + 2 * (2.0 * 1.5 + 3.0 * 0.002))
    # two stages of 3 s and 5 s, four microbatches, a hop of 1.001 s
    assert pipeline_seconds([3.0, 5.0], 4, size=1e9, link=SLOW) == pytest.approx(8.0 + 1.001 + 3 * 5.0)
    assert pipeline_calls_per_second([0.1, 0.2], size=1e9, link=SLOW) == pytest.approx(1 / 1.001)


@given(st.integers(1, 63), st.floats(1e-3, 10.0), st.floats(0.0, 1e6))
def test_never_faster_than_an_equal_share(devices: int, single: float, size: float) -> None:
    for link in links():
        found = tensor_seconds(single, devices, collectives=24, size=size, link=link, calibration=Calibration())
        assert found >= single / devices * (1 - 1e-9)
