"""Bootstrap intervals for samples that come in rounds.

Samples of one round share the machine's mood of that second, so rounds are resampled
first and samples within them second; resampling all samples alike would promise
intervals several times too narrow.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float64]

_DRAWS = 1000
_INNER_DRAWS = 200
_WORK = 20_000_000
_SEED = 20_260_101
"""Fixed, so that the same samples always give the same interval."""

FEWEST_ROUNDS = 6
"""With fewer, resampling cannot reach 95 %: five rounds' extremes cover 94 % at most."""
_STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}
"""97.5 % quantile of Student's t, by number of rounds."""


def median_interval(rounds: Sequence[Samples]) -> tuple[float, float] | None:
    """95 % interval of the median of all samples. None: a single sample says nothing of spread."""
    filled = [r for r in rounds if r.size]
    total = sum(r.size for r in filled)
    if total < 2:
        return None
    rng = np.random.default_rng(_SEED)
    draws = int(np.clip(_WORK // total, 200, _DRAWS))
    medians = np.empty(draws)
    for draw in range(draws):
        chosen = rng.integers(len(filled), size=len(filled))
        medians[draw] = np.median(np.concatenate([rng.choice(filled[i], filled[i].size) for i in chosen]))
    low, high = np.percentile(medians, (2.5, 97.5))
    return float(low), float(high)


def paired_log_ratio(pairs: Sequence[tuple[Samples, Samples]]) -> tuple[float, tuple[float, float]]:
    """Median over rounds of log(median first ÷ median second), and its 95 % interval.

    pairs: at least one; what was timed in the same round, all positive.
    """
    rng = np.random.default_rng(_SEED)
    observed = np.array([np.log(np.median(first) / np.median(second)) for first, second in pairs])
    middle = float(np.median(observed))
    if 2 <= len(pairs) < FEWEST_ROUNDS:
        half = _STUDENT[len(pairs)] * float(observed.std(ddof=1)) / len(pairs) ** 0.5
        centre = float(observed.mean())
        return middle, (min(middle, centre - half), max(middle, centre + half))
    inner = np.stack([_log_medians(first, rng) - _log_medians(second, rng) for first, second in pairs])
    chosen = rng.integers(len(pairs), size=(_DRAWS, len(pairs)))
    which = rng.integers(_INNER_DRAWS, size=chosen.shape)
    low, high = np.percentile(np.median(inner[chosen, which], axis=1), (2.5, 97.5))
    return middle, (min(middle, float(low)), max(middle, float(high)))


def _log_medians(samples: Samples, rng: np.random.Generator) -> Samples:
    drawn = rng.choice(samples, (_INNER_DRAWS, samples.size))
    medians: Samples = np.log(np.median(drawn, axis=1))
    return medians
