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
_WORK = 20_000_000
_SEED = 20_260_101
"""Fixed, so that the same samples always give the same interval."""


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
