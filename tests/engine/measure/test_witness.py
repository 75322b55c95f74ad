"""Seeing what else the machine does."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from engine.domain.noise import RoundNoise, SeriesNoise
from engine.measure.witness import Reading, between, read

_BUSY = "import time\nend = time.monotonic() + 30\nwhile time.monotonic() < end: pass"


def test_a_neighbour_is_other_load_and_a_child_is_not() -> None:
    """The same busy process, looked at as a stranger and as one of ours."""
    with subprocess.Popen([sys.executable, "-c", _BUSY]) as neighbour:
        try:
            first, first_ours = read([]), read([os.getpid()])
            time.sleep(1.0)
            then, then_ours = read([]), read([os.getpid()])
        finally:
            neighbour.kill()
    used = then_ours.own - first_ours.own
    assert used > 0.05
    difference = between(first, then, 2).other_load - between(first_ours, then_ours, 2).other_load
    assert difference == pytest.approx(used / (then.at - first.at), abs=0.1)
    assert first_ours.threads >= 1


def test_loads_are_cores_and_steal_is_a_share() -> None:
    first = Reading(at=10.0, busy=100.0, stolen=1.0, own=50.0, mhz=None, threads=1)
    then = Reading(at=12.0, busy=103.0, stolen=1.2, own=52.0, mhz=None, threads=1)
    passage = between(first, then, cores=2)
    assert passage.other_load == pytest.approx(0.5, abs=0.02)
    assert passage.steal == pytest.approx(0.05, abs=0.01)


def test_what_the_kernels_tick_cannot_tell_is_no_load() -> None:
    first = Reading(at=10.0, busy=100.00, stolen=1.00, own=50.0, mhz=None, threads=1)
    then = Reading(at=10.01, busy=100.02, stolen=1.01, own=50.0, mhz=None, threads=1)
    assert between(first, then, 2).other_load == between(first, then, 2).steal == 0.0


def test_no_time_is_no_load() -> None:
    then = Reading(at=12.0, busy=103.0, stolen=1.2, own=52.0, mhz=None, threads=1)
    assert between(then, then, 2).other_load == 0.0


def round_noise(index: int, **changes: object) -> RoundNoise:
    usual = {"canary_ms": (4.0, 4.0), "other_load": 0.0, "steal": 0.0, "mhz": 2000.0, "threads": 8}
    return RoundNoise(index, **(usual | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cause", "changes"),
    [
        ("drift", {"canary_ms": (4.0, 4.3)}),
        ("other load", {"other_load": 0.9}),
        ("steal", {"steal": 0.1}),
        ("frequency", {"mhz": 1800.0}),
        ("threads", {"threads": 9}),
    ],
)
def test_each_disturbance_is_named(cause: str, changes: dict[str, object]) -> None:
    rounds = tuple(round_noise(i, **(changes if i in (2, 5, 6) else {})) for i in range(10))
    noise = SeriesNoise(0, 2, 1, rounds)
    assert noise.counts == {cause: 3} and noise.disturbed == 3
    assert noise.disturbances(rounds[2]) == (cause,)
    assert noise.is_noisy


def test_one_disturbed_round_in_ten_is_not_yet_noise() -> None:
    rounds = tuple(round_noise(i, steal=0.5 if i == 3 else 0.0) for i in range(10))
    assert not SeriesNoise(0, 2, 1, rounds).is_noisy


def test_a_host_that_tells_no_clock_has_no_frequency_change() -> None:
    rounds = tuple(round_noise(i, mhz=None) for i in range(3))
    assert not SeriesNoise(0, 2, 1, rounds).counts
