"""Rounds to measurements."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain.experiment import Round
from engine.domain.metrics import QUALITY, Measurement
from engine.measure.block import Measured
from engine.measure.percentiles import FEWEST_SAMPLES, percentile, percentile_interval
from engine.measure.summary import summarize
from engine.requests import OpenResult

MEASURED = Measured(
    "r", (OpenResult(1.0, 80.0, (12.0, 11.0)),), (Measurement(QUALITY.name, QUALITY.unit, 0.99, (0.98, 1.0), 64),),
    300_000_000, 8, "full",
)  # fmt: skip


def rounds(count: int, each: int, **more: float) -> list[Round]:
    rng = np.random.default_rng(0)
    return [
        Round("r", 0, i, {"latency": tuple(rng.normal(10, 0.1, each)), **{n: (v,) * each for n, v in more.items()}})
        for i in range(count)
    ]


def test_everything_is_there_with_its_unit() -> None:
    found = {m.name: m for m in summarize(rounds(10, 10), MEASURED, 23_000_000)}
    assert list(found) == ["latency", "latency_p90", "first_call_latency", "throughput", "peak_memory", "size", "quality"]
    assert found["latency"].median == pytest.approx(10, abs=0.05)
    assert found["latency"].unit == "ms" and found["latency"].samples == 100
    low, high = found["latency"].ci95 or (0, 0)
    assert 9.9 < low < found["latency"].median < high < 10.1
    assert found["throughput"].median == pytest.approx(8 * 1000 / found["latency"].median)
    assert found["throughput"].ci95 == (pytest.approx(8000 / high), pytest.approx(8000 / low))
    assert found["first_call_latency"] == Measurement("first_call_latency", "ms", 80.0, None, 1)
    assert found["peak_memory"].median == 300_000_000 and found["peak_memory"].ci95 is None
    assert found["size"].median == 23_000_000
    assert found["quality"].ci95 == (0.98, 1.0)


def test_the_interval_of_the_median_knows_processes() -> None:
    paces = np.repeat(np.linspace(10, 12, 9), 4).tolist()
    several = [Round("r", i // 4, i, {"latency": (pace, pace)}) for i, pace in enumerate(paces)]
    alone = [replace(each, block=0) for each in several]
    wide, narrow = (next(m for m in summarize(each, MEASURED, 1) if m.name == "latency").ci95 for each in (several, alone))
    assert wide and narrow
    assert wide[1] - wide[0] > narrow[1] - narrow[0]


def test_p90_needs_64_samples() -> None:
    assert "latency_p90" not in {m.name for m in summarize(rounds(9, 7), MEASURED, 1)}
    assert "latency_p90" in {m.name for m in summarize(rounds(8, 8), MEASURED, 1)}


def test_a_causal_lm_has_its_token_latencies() -> None:
    found = {m.name: m for m in summarize(rounds(3, 4, time_to_first_token=5.0, time_per_output_token=1.0), MEASURED, 1)}
    assert found["time_to_first_token"].median == 5.0
    assert found["time_per_output_token"].ci95 == (1.0, 1.0)


def test_warm_up_samples_are_not_counted() -> None:
    assert next(m for m in summarize(rounds(3, 4), MEASURED, 1) if m.name == "latency").samples == 12


@given(st.integers(0, 700), st.sampled_from(sorted(FEWEST_SAMPLES)))
def test_no_percentile_from_too_few_samples(count: int, p: int) -> None:
    samples = np.arange(count)
    found = percentile(samples, p)
    assert (found is None) == (count < FEWEST_SAMPLES[p])
    if found is not None:
        low, high = percentile_interval(samples, p)
        assert low <= found <= high
