"""Speedup of a run over its baseline, and whether it can be told from noise.

The effect is the Hodges–Lehmann estimate of the log-ratios of paired rounds, with its signed-rank
interval. That interval knows how rounds differ, but not how equal processes do: each
gets another layout of memory and keeps it, so more rounds never show it (Kalibera &
Jones). The noise band stands for that. A second process of the baseline in the same
block says how far two equal processes were apart this time; one pair being a poor judge, it is
weighed with what equal processes differ usually.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.special import stdtrit

from engine.domain.experiment import Round
from engine.domain.metrics import LATENCY, Ratio, Verdict
from engine.measure.bootstrap import Samples
from engine.measure.paired import paired_log_ratio

LEAST_BAND = 0.01
"""Differences below 1 % are never called a difference."""
USUAL_SCATTER = 0.008
"""Standard deviation of the log-ratio of two equal processes, as recorded on 2-core Zen 3 virtual
machines. A Zen 5 one showed more, which this does not yet follow (benchmarks/README.md, calibration)."""
USUAL_SCATTER_IN_NOISE = 0.04
"""The same where others keep the other core busy: whose memory lies where then matters five times as much."""
USUAL_WEIGHT = 6
"""How many pairs of processes that is worth beside the one of this block."""
CONFIDENCE, CONFIDENCE_IN_NOISE = 0.95, 0.99
"""Of interval and band in the verdict; what is shown is the 95 % interval."""
_FEWEST_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Speedup:
    """`ratio` is baseline ÷ run of a metric where lower is better; above 1 is faster.

    `band` is the noise band as a relative difference: what equal processes are taken to
    differ by. `rounds` is how many pairs it rests on. `noisy`: the block was disturbed,
    so the verdict demanded more confidence.
    """

    ratio: Ratio
    verdict: Verdict
    band: float
    rounds: int
    noisy: bool = False


def speedup_of(
    baseline: Sequence[Round],
    run: Sequence[Round],
    metric: str = LATENCY.name,
    *,
    partner: Sequence[Round] = (),
    noisy: bool = False,
) -> Speedup | None:
    """From rounds that were timed side by side; None when no round of both exists.

    Rounds are paired within their block only: what was measured at another time is
    never compared. partner: rounds of a second process of the baseline.
    """
    pairs = _paired(baseline, run, metric)
    if not pairs:
        return None
    middle, (low, high) = paired_log_ratio(pairs)
    band = noise_band(baseline, partner, metric, noisy=noisy)
    _, judged = paired_log_ratio(pairs, _confidence(noisy))
    ratio = Ratio(math.exp(middle), (math.exp(low), math.exp(high)))
    return Speedup(ratio, _verdict(*judged, math.log1p(band), len(pairs)), band, len(pairs), noisy)


def noise_band(
    baseline: Sequence[Round],
    partner: Sequence[Round] = (),
    metric: str = LATENCY.name,
    *,
    noisy: bool = False,
) -> float:
    """How far two equal processes are apart at most, with the verdict's confidence; at least 1 %.

    Their scatter is unknown: its square is the usual one's and this block's, weighed as
    that many pairs, hence a quantile of Student's t. Without a partner the baseline's own
    steps between neighbouring rounds stand in for it.
    """
    pairs = _paired(baseline, partner, metric)
    apart = abs(paired_log_ratio(pairs)[0]) if pairs else _own_step(baseline, metric)
    usual = USUAL_SCATTER_IN_NOISE if noisy else USUAL_SCATTER
    scatter = math.sqrt((USUAL_WEIGHT * usual**2 + apart**2) / (USUAL_WEIGHT + 1))
    quantile = float(stdtrit(USUAL_WEIGHT + 1, (1 + _confidence(noisy)) / 2))
    return max(LEAST_BAND, math.expm1(quantile * scatter))


def _confidence(noisy: bool) -> float:
    return CONFIDENCE_IN_NOISE if noisy else CONFIDENCE


def _own_step(baseline: Sequence[Round], metric: str) -> float:
    """The typical log-ratio of neighbouring rounds of one block; 0 without any."""
    ordered = sorted((r for r in baseline if r.samples.get(metric)), key=lambda r: (r.block, r.index))
    steps = [
        abs(math.log(_median(b.samples[metric]) / _median(a.samples[metric])))
        for a, b in pairwise(ordered)
        if a.block == b.block
    ]
    return float(np.median(steps)) if steps else 0.0


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
