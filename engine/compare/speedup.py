"""Speedup of a run over its baseline, and whether it can be told from noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from engine.domain.experiment import Round
from engine.domain.metrics import LATENCY, Ratio, Verdict
from engine.measure.bootstrap import Samples, paired_log_ratio

LEAST_BAND = 0.01
"""Differences below 1 % are never called a difference."""
_FEWEST_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Speedup:
    """`ratio` is baseline ÷ run of a metric where lower is better; above 1 is faster.

    `band` is the noise band as a relative difference: what the baseline's own rounds
    differ from each other. `rounds` is how many pairs it rests on.
    """

    ratio: Ratio
    verdict: Verdict
    band: float
    rounds: int


def speedup_of(baseline: Sequence[Round], run: Sequence[Round], metric: str = LATENCY.name) -> Speedup | None:
    """From rounds that were timed side by side; None when no round of both exists.

    Rounds are paired within their block only: what was measured at another time is
    never compared.
    """
    pairs = _paired(baseline, run, metric)
    if not pairs:
        return None
    middle, (low, high) = paired_log_ratio(pairs)
    band = noise_band(baseline, metric)
    ratio = Ratio(math.exp(middle), (math.exp(low), math.exp(high)))
    return Speedup(ratio, _verdict(low, high, math.log1p(band), len(pairs)), band, len(pairs))


def noise_band(baseline: Sequence[Round], metric: str = LATENCY.name) -> float:
    """How far the baseline differs from itself, round to round: an A/A comparison.

    The typical (median) relative difference of neighbouring rounds of one block, at
    least 1 %.
    """
    ordered = sorted((r for r in baseline if r.samples.get(metric)), key=lambda r: (r.block, r.index))
    steps = [
        abs(math.log(_median(b.samples[metric]) / _median(a.samples[metric])))
        for a, b in pairwise(ordered)
        if a.block == b.block
    ]
    return max(LEAST_BAND, math.expm1(float(np.median(steps)))) if steps else LEAST_BAND


def _paired(baseline: Sequence[Round], run: Sequence[Round], metric: str) -> list[tuple[Samples, Samples]]:
    by_turn = {(r.block, r.index): r for r in baseline}
    pairs = []
    for other in sorted(run, key=lambda r: (r.block, r.index)):
        mate = by_turn.get((other.block, other.index))
        if mate and mate.samples.get(metric) and other.samples.get(metric):
            pairs.append((np.asarray(mate.samples[metric]), np.asarray(other.samples[metric])))
    return pairs


def _verdict(low: float, high: float, band: float, rounds: int) -> Verdict:
    if rounds >= _FEWEST_ROUNDS and low > band:
        return Verdict.FASTER
    if rounds >= _FEWEST_ROUNDS and high < -band:
        return Verdict.SLOWER
    return Verdict.NOT_DISTINGUISHABLE


def _median(samples: Sequence[float]) -> float:
    return float(np.median(samples))
