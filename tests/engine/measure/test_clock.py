"""Samples: how many calls each spans, how many there are, what a generation adds."""

from __future__ import annotations

import gc
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.measure.clock import FEWEST_SAMPLES, take_turn, time_calls


def test_a_sample_is_one_call_in_ms() -> None:
    [sample] = time_calls(lambda: time.sleep(0.02), 1)
    assert sample.keys() == {"latency"}
    assert 20 <= sample["latency"] < 200


def test_short_calls_are_timed_several_at_a_time() -> None:
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1

    samples = take_turn(call, 0.05, typical=0.01)["latency"]
    assert calls == 1 + 100 * len(samples)


def test_long_calls_still_give_enough_samples() -> None:
    samples = take_turn(lambda: time.sleep(0.02), 0.001, typical=20.0)["latency"]
    assert len(samples) == FEWEST_SAMPLES


def test_a_turn_lasts_as_long_as_asked() -> None:
    began = time.perf_counter()
    samples = take_turn(lambda: time.sleep(0.002), 0.2, typical=2.0)["latency"]
    assert time.perf_counter() - began >= 0.2
    assert sum(samples) >= 150


def test_generations_tell_when_tokens_came() -> None:
    turn = take_turn(lambda: (0.010, 0.012, 0.014), 0.0, typical=1.0)
    assert turn["time_to_first_token"] == (pytest.approx(10.0),) * FEWEST_SAMPLES
    assert turn["time_per_output_token"] == (pytest.approx(2.0),) * FEWEST_SAMPLES
    assert turn["latency"][0] < 10.0  # what the clock says, not what the generation says


def test_a_single_token_has_no_time_per_token() -> None:
    assert take_turn(lambda: (0.010,), 0.0, typical=1.0).keys() == {"latency", "time_to_first_token"}


def test_no_garbage_is_collected_while_timing() -> None:
    seen: list[bool] = []
    take_turn(lambda: seen.append(gc.isenabled()), 0.0, typical=1.0)
    assert not any(seen)
    assert gc.isenabled()


def test_collection_goes_on_after_a_failure() -> None:
    def call() -> None:
        raise ValueError

    with pytest.raises(ValueError):
        time_calls(call, 1)
    assert gc.isenabled()


@given(st.floats(1e-3, 50))
@settings(deadline=None, max_examples=20)
def test_every_sample_spans_a_millisecond_of_the_typical_call(typical: float) -> None:
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1

    samples = len(take_turn(call, 0.0, typical=typical)["latency"])
    assert (calls - 1) / samples * typical >= 0.999
