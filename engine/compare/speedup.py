"""Speedup of a run over its baseline, and whether it can be told from noise.

The effect is the mean log-ratio over blocks, each of which opened both in fresh processes. Equal
processes differ (each gets another layout of memory and keeps it), so what counts as one
observation is a block, however many rounds it has (Kalibera & Jones 2013). Few blocks tell their own scatter
poorly. It is therefore estimated from three sources together: the run's blocks, the baseline's against its
partner's (equal by construction, so their difference is all noise), and what is usual on such hosts,
as a prior worth a few observations: the moderated t-statistic (Smyth 2004).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit  # scipy.stats would cost the dashboard 50 MB

from engine.domain.experiment import Round
from engine.domain.metrics import LATENCY, Ratio, Verdict

LEAST_BAND = 0.01
"""Differences below 1 % are never called a difference."""
USUAL_SCATTER = 0.012
"""Standard deviation of the log of a process's pace beside equal ones: 0.5 to 4 % on quiet 2-core virtual machines."""
USUAL_SCATTER_IN_NOISE = 0.03
"""The same where others keep the other core busy: 1 to 13 %."""
USUAL_WEIGHT = 4
"""How many blocks of this run that is worth."""
CONFIDENCE, CONFIDENCE_IN_NOISE = 0.99, 0.999
"""Of the verdict; the interval that is shown is the 95 % one. What disturbs lasts longer than a block, so
in noise blocks are less independent than the formula takes them for."""
_FEWEST_ROUNDS = 3

LogRatios = NDArray[np.float64]
"""Of one block, by round."""


@dataclass(frozen=True, slots=True)
class Speedup:
    """`ratio` is baseline ÷ run of a metric where lower is better; above 1 is faster.

    `band` is the noise band as a relative difference: what two equal processes could be apart by, as
    they were measured here. `rounds` and `blocks` are how many pairs it rests on. `noisy`: the machine was disturbed.
    """

    ratio: Ratio
    verdict: Verdict
    band: float
    rounds: int
    blocks: int = 1
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
    never compared. partner: rounds of further processes of the baseline.
    """
    pairs = _log_ratios(baseline, run, metric)
    if not pairs:
        return None
    middle = float(_means(pairs).mean())
    variance, freedom = _scatter(pairs, _log_ratios(baseline, partner, metric), noisy)
    error = math.sqrt(variance / len(pairs))
    half = _quantile(0.95, freedom) * error
    band = max(math.log1p(LEAST_BAND), _quantile(_confidence(noisy), freedom) * error)
    rounds = sum(len(each) for each in pairs)
    ratio = Ratio(math.exp(middle), (math.exp(middle - half), math.exp(middle + half)))
    return Speedup(ratio, _verdict(middle, band, rounds), math.expm1(band), rounds, len(pairs), noisy)


def noise_band(
    baseline: Sequence[Round], partner: Sequence[Round] = (), metric: str = LATENCY.name, *, noisy: bool = False
) -> float:
    """What two equal runs could be apart by in these blocks, at the verdict's confidence; at least 1 %.

    Without a partner, what is usual.
    """
    equal = _log_ratios(baseline, partner, metric)
    variance, freedom = _scatter([], equal, noisy)
    return max(LEAST_BAND, math.expm1(_quantile(_confidence(noisy), freedom) * math.sqrt(variance / max(1, len(equal)))))


def _confidence(noisy: bool) -> float:
    return CONFIDENCE_IN_NOISE if noisy else CONFIDENCE


def _scatter(own: Sequence[LogRatios], equal: Sequence[LogRatios], noisy: bool) -> tuple[float, int]:
    """Variance of the log-ratio of one block, and its degrees of freedom.

    own: of baseline and run, by block; equal: of baseline and partner, whose true mean is zero.
    """
    usual = USUAL_SCATTER_IN_NOISE if noisy else USUAL_SCATTER
    prior = 2 * usual**2 + _variance_within(own or equal)
    deviations = _means(own) - _means(own).mean() if own else np.zeros(0)
    freedom = USUAL_WEIGHT + max(0, len(own) - 1) + len(equal)
    squares = float(np.square(deviations).sum() + np.square(_means(equal)).sum())
    return (USUAL_WEIGHT * prior + squares) / freedom, freedom


def _variance_within(pairs: Sequence[LogRatios]) -> float:
    """What the rounds of one block add to the variance of its mean; 0 where no block has two."""
    several = [each for each in pairs if each.size > 1]
    if not several:
        return 0.0
    of_a_round = sum(float(np.square(each - each.mean()).sum()) for each in several) / sum(each.size - 1 for each in several)
    return of_a_round / float(np.mean([each.size for each in several]))


def _means(pairs: Sequence[LogRatios]) -> NDArray[np.float64]:
    return np.array([each.mean() for each in pairs])


def _quantile(confidence: float, freedom: float) -> float:
    return float(stdtrit(freedom, (1 + confidence) / 2))


def _log_ratios(baseline: Sequence[Round], run: Sequence[Round], metric: str) -> list[LogRatios]:
    """log(median of the baseline ÷ median of the run) of each round of both, by block."""
    by_turn = {(r.block, r.index): r for r in baseline}
    found: dict[int, list[float]] = defaultdict(list)
    for other in sorted(run, key=lambda r: (r.block, r.index)):
        mate = by_turn.get((other.block, other.index))
        if mate and mate.samples.get(metric) and other.samples.get(metric):
            found[other.block].append(math.log(np.median(mate.samples[metric]) / np.median(other.samples[metric])))
    return [np.array(each) for each in found.values()]


def _verdict(middle: float, band: float, rounds: int) -> Verdict:
    if rounds < _FEWEST_ROUNDS or abs(middle) <= band:
        return Verdict.NOT_DISTINGUISHABLE
    return Verdict.FASTER if middle > 0 else Verdict.SLOWER
