"""Speedups over blocks of fresh processes: exact cases, and how often noise is taken for a difference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.compare.speedup import LEAST_BAND, USUAL_SCATTER, Speedup, noise_band, speedup_of
from engine.domain.experiment import Round
from engine.domain.metrics import Verdict
from engine.measure.bootstrap import median_interval


def rounds(run: str, blocks: list[list[float]], samples: int = 5) -> list[Round]:
    """Medians of each round, by block."""
    spread = np.linspace(-0.01, 0.01, samples)
    flat = [(block, median) for block, medians in enumerate(blocks) for median in medians]
    return [Round(run, block, i, {"latency": tuple(m * (1 + spread))}) for i, (block, m) in enumerate(flat)]


def one_each(medians: list[float]) -> list[list[float]]:
    return [[m] for m in medians]


paces = st.lists(st.lists(st.floats(0.1, 100), min_size=1, max_size=4), min_size=3, max_size=8)


@given(paces, st.floats(0.05, 20))
@settings(deadline=None, max_examples=40)
def test_the_machines_pace_cancels_out(pace: list[list[float]], factor: float) -> None:
    found = speedup_of(rounds("b", pace), rounds("r", [[p / factor for p in block] for block in pace]))
    assert found is not None
    assert found.ratio.median == pytest.approx(factor)
    assert found.ratio.ci95[0] <= found.ratio.median <= found.ratio.ci95[1]
    assert found.rounds == sum(len(block) for block in pace) and found.blocks == len(pace)


@given(paces, st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=40)
def test_swapping_the_two_inverts_the_ratio(first: list[list[float]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    second = [[p * float(rng.lognormal(0, 0.3)) for p in block] for block in first]
    one = speedup_of(rounds("b", first), rounds("r", second))
    other = speedup_of(rounds("r", second), rounds("b", first))
    assert one is not None and other is not None
    assert one.ratio.median * other.ratio.median == pytest.approx(1)
    assert one.ratio.ci95[0] * other.ratio.ci95[1] == pytest.approx(1)
    assert {one.verdict, other.verdict} in ({Verdict.FASTER, Verdict.SLOWER}, {Verdict.NOT_DISTINGUISHABLE})


def test_clear_differences_have_a_verdict() -> None:
    steady = one_each([10.0, 10.1, 9.9, 10.0, 10.05, 10.0])
    faster = speedup_of(rounds("b", steady), rounds("r", [[s / 1.5 for s in block] for block in steady]))
    slower = speedup_of(rounds("b", steady), rounds("r", [[s * 1.5 for s in block] for block in steady]))
    assert faster is not None and faster.verdict is Verdict.FASTER
    assert slower is not None and slower.verdict is Verdict.SLOWER


def test_less_than_one_percent_is_never_a_difference() -> None:
    steady = one_each([10.0] * 100)
    same = rounds("p", steady)
    found = speedup_of(rounds("b", steady), rounds("r", one_each([10.0 / 1.009] * 100)), partner=same)
    assert found is not None and found.verdict is Verdict.NOT_DISTINGUISHABLE
    assert found.band == pytest.approx(LEAST_BAND)


def test_more_processes_narrow_the_band_and_more_rounds_of_one_do_not() -> None:
    few, many = rounds("b", one_each([10.0] * 3)), rounds("b", one_each([10.0] * 12))
    long = rounds("b", [[10.0] * 4] * 3)
    bands = [noise_band(each, [Round("p", r.block, r.index, r.samples) for r in each]) for each in (few, many, long)]
    assert bands[1] < bands[0] / 1.5
    assert bands[2] == pytest.approx(bands[0])


def test_a_partner_that_differs_widens_the_band() -> None:
    steady = [10.0] * 8
    apart = [s * f for s, f in zip(steady, (1.05, 0.95) * 4, strict=True)]
    assert noise_band(rounds("b", one_each(steady)), rounds("p", one_each(apart))) > 2 * noise_band(
        rounds("b", one_each(steady)), rounds("p", one_each(steady))
    )
    run = rounds("r", one_each([s / 1.03 for s in steady]))
    for partner, verdict in ((steady, Verdict.FASTER), (apart, Verdict.NOT_DISTINGUISHABLE)):
        found = speedup_of(rounds("b", one_each(steady)), run, partner=rounds("p", one_each(partner)))
        assert found is not None and found.verdict is verdict


def test_processes_of_the_run_that_differ_widen_its_interval_and_band() -> None:
    steady = one_each([10.0] * 8)
    calm, restless = (
        speedup_of(rounds("b", steady), rounds("r", one_each([10.0 / 1.03 * f for f in (1 + by, 1 - by) * 4])))
        for by in (0.001, 0.06)
    )
    assert calm is not None and restless is not None
    assert calm.verdict is Verdict.FASTER and restless.verdict is Verdict.NOT_DISTINGUISHABLE
    assert restless.ratio.ci95[1] - restless.ratio.ci95[0] > 2 * (calm.ratio.ci95[1] - calm.ratio.ci95[0])


def test_one_process_alone_has_what_is_usual_and_its_own_unrest_for_a_band() -> None:
    still, restless = [[10.0] * 6], [[10.0, 12.0] * 3]
    usual = noise_band(rounds("b", still))
    assert usual > 4 * USUAL_SCATTER
    found = speedup_of(rounds("b", still), rounds("r", restless))
    assert found is not None and found.band > 1.3 * usual


def test_noise_demands_more() -> None:
    baseline, run = rounds("b", one_each([10.0] * 6)), rounds("r", one_each([10.0 / 1.02] * 6))
    quiet, noisy = (speedup_of(baseline, run, partner=rounds("p", one_each([10.0] * 6)), noisy=n) for n in (False, True))
    assert quiet is not None and noisy is not None
    assert quiet.verdict is Verdict.FASTER and not quiet.noisy
    assert noisy.verdict is Verdict.NOT_DISTINGUISHABLE and noisy.noisy
    assert noisy.ratio.median == quiet.ratio.median and noisy.band > quiet.band


def test_nothing_is_paired_across_blocks() -> None:
    baseline = rounds("b", [[10.0] * 3, [100.0] * 3])
    assert speedup_of(baseline[:3], rounds("r", [[], [5.0] * 3])) is None
    found = speedup_of(baseline, [r for r in rounds("r", [[1.0] * 3, [50.0] * 3]) if r.block == 1])
    assert found is not None
    assert found.ratio.median == pytest.approx(2.0)
    assert found.rounds == 3 and found.blocks == 1


def test_two_rounds_are_too_few_for_a_verdict() -> None:
    found = speedup_of(rounds("b", one_each([10.0, 10.0])), rounds("r", one_each([5.0, 5.0])))
    assert found is not None
    assert found.ratio.median == pytest.approx(2.0)
    assert found.verdict is Verdict.NOT_DISTINGUISHABLE


def test_metrics_a_run_lacks_give_no_speedup() -> None:
    steady = one_each([10.0] * 3)
    assert speedup_of(rounds("b", steady), rounds("r", steady), "time_to_first_token") is None
    assert speedup_of([], rounds("r", steady)) is None


def simulated(seed: int, factor: float, *, blocks: int = 10, scatter: float = 0.015, share: int = 1) -> Speedup:
    """A machine whose pace wanders by 10 %, on which each process has a bias of its own that it keeps."""
    rng = np.random.default_rng(seed)
    pace = 10 * rng.lognormal(0, 0.1, (blocks, share))
    made = {
        name: rounds(name, (pace * slow * rng.lognormal(0, scatter, (blocks, 1)) * rng.lognormal(0, 0.008, pace.shape)).tolist())
        for name, slow in (("b", 1.0), ("p", 1.0), ("r", factor))
    }
    found = speedup_of(made["b"], made["r"], partner=made["p"])
    assert found is not None
    return found


@pytest.mark.parametrize(("blocks", "scatter"), [(1, 0.012), (3, 0.005), (3, 0.012), (5, 0.02), (10, 0.012), (10, 0.03)])
def test_a_against_a_is_not_distinguishable(blocks: int, scatter: float) -> None:
    """At most 2 %, also where processes scatter more than they usually do."""
    found = [simulated(seed, 1.0, blocks=blocks, scatter=scatter, share=3) for seed in range(400)]
    wrong = sum(each.verdict is not Verdict.NOT_DISTINGUISHABLE for each in found)
    assert wrong <= 8 + 5  # 2 % of 400, and what so few trials may miss


@pytest.mark.parametrize("scatter", [0.008, 0.015, 0.02])
def test_a_true_slowdown_of_5_percent_is_seen(scatter: float) -> None:
    assert sum(simulated(seed, 1.05, scatter=scatter).verdict is Verdict.SLOWER for seed in range(100)) >= 90


@pytest.mark.parametrize(("blocks", "scatter"), [(3, 0.012), (5, 0.02), (10, 0.01), (10, 0.03)])
def test_intervals_of_the_ratio_cover_it(blocks: int, scatter: float) -> None:
    found = [simulated(seed, 1 / 1.5, blocks=blocks, scatter=scatter) for seed in range(200)]
    assert all(each.verdict is Verdict.FASTER for each in found)
    assert sum(each.ratio.ci95[0] <= 1.5 <= each.ratio.ci95[1] for each in found) / 200 >= 0.9


def test_the_interval_knows_that_samples_come_in_rounds() -> None:
    rng = np.random.default_rng(0)
    moods = [rng.normal(10 + mood, 0.01, 100) for mood in rng.normal(0, 1, 10)]
    together = median_interval(moods)
    alike = median_interval([rng.permutation(np.concatenate(moods))])
    assert together is not None and alike is not None
    assert together[1] - together[0] > 2 * (alike[1] - alike[0])


def test_one_sample_has_no_interval() -> None:
    assert median_interval([np.array([1.0])]) is None
