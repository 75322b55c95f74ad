"""Paired speedups: exact cases, and how often noise is taken for a difference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.compare.speedup import LEAST_BAND, USUAL_SCATTER, Speedup, noise_band, speedup_of
from engine.domain.experiment import Round
from engine.domain.metrics import Verdict
from engine.measure.bootstrap import median_interval
from engine.measure.paired import paired_log_ratio


def rounds(run: str, medians: list[float], block: int = 0, samples: int = 5) -> list[Round]:
    spread = np.linspace(-0.01, 0.01, samples)
    return [Round(run, block, i, {"latency": tuple(m * (1 + spread))}) for i, m in enumerate(medians)]


def noisy(run: str, pace: np.ndarray, factor: float, rng: np.random.Generator, block: int = 0) -> list[Round]:
    """Rounds on a machine whose pace changes from round to round, with 2 % noise of the turn's own."""
    turns = pace * factor * rng.lognormal(0, 0.02, pace.size)
    return [Round(run, block, i, {"latency": tuple(t * rng.lognormal(0, 0.03, 20))}) for i, t in enumerate(turns)]


@given(st.lists(st.floats(0.1, 100), min_size=3, max_size=12), st.floats(0.05, 20))
@settings(deadline=None, max_examples=40)
def test_the_machines_pace_cancels_out(pace: list[float], factor: float) -> None:
    found = speedup_of(rounds("b", pace), rounds("r", [p / factor for p in pace]))
    assert found is not None
    assert found.ratio.median == pytest.approx(factor)
    assert found.ratio.ci95[0] <= found.ratio.median <= found.ratio.ci95[1]
    assert found.rounds == len(pace)


@given(st.lists(st.floats(0.1, 100), min_size=6, max_size=12), st.lists(st.floats(0.1, 100), min_size=6, max_size=12))
@settings(deadline=None, max_examples=40)
def test_swapping_the_two_inverts_the_ratio(first: list[float], second: list[float]) -> None:
    count = min(len(first), len(second))
    one = speedup_of(rounds("b", first[:count]), rounds("r", second[:count]))
    other = speedup_of(rounds("r", second[:count]), rounds("b", first[:count]))
    assert one is not None and other is not None
    assert one.ratio.median * other.ratio.median == pytest.approx(1)


def test_clear_differences_have_a_verdict() -> None:
    steady = [10.0, 10.1, 9.9, 10.0, 10.05, 10.0]
    faster = speedup_of(rounds("b", steady), rounds("r", [s / 1.5 for s in steady]))
    slower = speedup_of(rounds("b", steady), rounds("r", [s * 1.5 for s in steady]))
    assert faster is not None and faster.verdict is Verdict.FASTER
    assert slower is not None and slower.verdict is Verdict.SLOWER


def test_within_the_band_there_is_no_verdict() -> None:
    steady = [10.0] * 8
    found = speedup_of(rounds("b", steady), rounds("r", [s / 1.008 for s in steady]))
    assert found is not None and found.verdict is Verdict.NOT_DISTINGUISHABLE
    assert LEAST_BAND <= found.band < 0.03


def test_a_partner_that_differs_widens_the_band() -> None:
    steady = [10.0] * 8
    alike, apart = (noise_band(rounds("b", steady), rounds("p", [s * f for s in steady])) for f in (1.0, 1.06))
    assert alike < 0.02 < 0.05 < apart
    run = rounds("r", [s / 1.05 for s in steady])
    for partner, verdict in ((1.0, Verdict.FASTER), (1.06, Verdict.NOT_DISTINGUISHABLE)):
        found = speedup_of(rounds("b", steady), run, partner=rounds("p", [s * partner for s in steady]))
        assert found is not None and found.verdict is verdict


def test_without_a_partner_the_baselines_own_steps_stand_in() -> None:
    restless = [10.0, 11.0, 10.0, 11.0, 10.0, 11.0]
    assert noise_band(rounds("b", restless)) > noise_band(rounds("b", [10.0] * 6)) + 0.05
    found = speedup_of(rounds("b", restless), rounds("r", [r / 1.08 for r in restless]))
    assert found is not None and found.verdict is Verdict.NOT_DISTINGUISHABLE


def test_a_noisy_block_demands_more() -> None:
    pace = np.array([10.0, 10.2, 9.9, 10.1, 10.0, 10.3, 9.8, 10.0, 10.1, 9.9])
    baseline, partner = rounds("b", list(pace)), rounds("p", list(pace * 1.003))
    run = rounds("r", [float(v) for v in pace / 1.026 * (1 + 0.004 * np.cos(np.arange(10)))])
    quiet, noisy = (speedup_of(baseline, run, partner=partner, noisy=n) for n in (False, True))
    assert quiet is not None and noisy is not None
    assert quiet.verdict is Verdict.FASTER and not quiet.noisy
    assert noisy.verdict is Verdict.NOT_DISTINGUISHABLE and noisy.noisy
    assert noisy.ratio == quiet.ratio and noisy.band > quiet.band


def test_nothing_is_paired_across_blocks() -> None:
    assert speedup_of(rounds("b", [10.0] * 3, block=0), rounds("r", [5.0] * 3, block=1)) is None
    baseline = [*rounds("b", [10.0] * 3, block=0), *rounds("b", [100.0] * 3, block=1)]
    found = speedup_of(baseline, rounds("r", [50.0] * 3, block=1))
    assert found is not None
    assert found.ratio.median == pytest.approx(2.0)
    assert found.rounds == 3


def test_two_rounds_are_too_few_for_a_verdict() -> None:
    found = speedup_of(rounds("b", [10.0, 10.0]), rounds("r", [5.0, 5.0]))
    assert found is not None
    assert found.ratio.median == pytest.approx(2.0)
    assert found.verdict is Verdict.NOT_DISTINGUISHABLE


def test_metrics_a_run_lacks_give_no_speedup() -> None:
    assert speedup_of(rounds("b", [10.0] * 3), rounds("r", [5.0] * 3), "time_to_first_token") is None
    assert speedup_of([], rounds("r", [5.0] * 3)) is None


def simulated(seed: int, factor: float, count: int = 10, scatter: float = USUAL_SCATTER) -> Speedup:
    """A block on a machine whose pace wanders by 10 %, each process with a bias of its own that it keeps."""
    rng = np.random.default_rng(seed)
    pace = 10 * rng.lognormal(0, 0.1, count)
    bias = np.exp(rng.normal(0, scatter / 2**0.5, 3))
    baseline, partner, run = (noisy(n, pace * b, f, rng) for n, b, f in zip("bpr", bias, (1, 1, factor), strict=True))
    found = speedup_of(baseline, run, partner=partner)
    assert found is not None
    return found


@pytest.mark.parametrize(("count", "scatter"), [(3, 0.008), (5, 0.008), (10, 0.008), (10, 0.02)])
def test_a_against_a_is_not_distinguishable(count: int, scatter: float) -> None:
    """Also where processes scatter more than they usually do."""
    wrong = sum(
        simulated(seed, 1.0, count, scatter).verdict is not Verdict.NOT_DISTINGUISHABLE for seed in range(300)
    )
    assert wrong <= (6 if scatter == USUAL_SCATTER else 15)


def test_a_true_slowdown_of_5_percent_is_seen() -> None:
    rng = np.random.default_rng(5)
    seen = 0
    for _ in range(100):
        pace = 10 * rng.lognormal(0, 0.1, 10)
        bias = np.exp(rng.normal(0, USUAL_SCATTER / 2**0.5, 3))
        turns = [pace * b * rng.lognormal(0, 0.006, 10) * f for b, f in zip(bias, (1, 1, 1.05), strict=True)]
        baseline, partner, run = (rounds(n, list(t)) for n, t in zip("bpr", turns, strict=True))
        found = speedup_of(baseline, run, partner=partner)
        seen += found is not None and found.verdict is Verdict.SLOWER
    assert seen >= 90


def test_a_true_speedup_is_seen_through_the_noise() -> None:
    found = [simulated(seed, 1 / 1.5) for seed in range(60)]
    assert all(each.verdict is Verdict.FASTER for each in found)
    assert sum(each.ratio.ci95[0] <= 1.5 <= each.ratio.ci95[1] for each in found) >= 51


@pytest.mark.parametrize("count", [3, 4, 5, 6, 10])
def test_intervals_of_the_ratio_cover_it(count: int) -> None:
    covered = 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        pairs = [(rng.lognormal(0, 0.03, 8) * rng.lognormal(0, 0.05), rng.lognormal(0, 0.03, 8)) for _ in range(count)]
        _, (low, high) = paired_log_ratio(pairs)
        covered += low <= 0 <= high
    assert covered / 150 >= 0.91  # 95 % less what 150 draws may miss


def test_the_interval_knows_that_samples_come_in_rounds() -> None:
    rng = np.random.default_rng(0)
    moods = [rng.normal(10 + mood, 0.01, 100) for mood in rng.normal(0, 1, 10)]
    together = median_interval(moods)
    alike = median_interval([rng.permutation(np.concatenate(moods))])
    assert together is not None and alike is not None
    assert together[1] - together[0] > 2 * (alike[1] - alike[0])


def test_one_sample_has_no_interval() -> None:
    assert median_interval([np.array([1.0])]) is None
