"""Where to cut a chain of work into stages: by cost, not by counting layers. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate


def choose_cuts(costs: Sequence[float], links: Sequence[float], parts: int) -> list[int]:
    """Indices after which to cut, so that the slowest stage is as fast as can be.

    costs: seconds of each item. links: seconds to hand on what is alive after item i;
    infinite where no cut is possible. A stage's time is its items' and its sending; among equals
    the cuts that send least are taken. Raises ValueError when there are fewer places than cuts.
    """
    places = [i for i in range(len(costs) - 1) if math.isfinite(links[i])]
    if len(places) < parts - 1:
        raise ValueError(f"{len(places)} places for {parts - 1} cuts")
    before = [0.0, *accumulate(costs)]
    # best[j]: (slowest stage, sent in all, cuts) of everything up to place j with the cuts so far
    best = {j: (before[j + 1] + links[j], links[j], [j]) for j in places}
    for _ in range(parts - 2):
        best = {
            j: min(
                (max(slow, before[j + 1] - before[i + 1] + links[j]), sent + links[j], [*cuts, j])
                for i, (slow, sent, cuts) in best.items() if i < j
            )
            for j in places if any(i < j for i in best)
        }  # fmt: skip
    last = [(max(slow, before[-1] - before[j + 1]), sent, cuts) for j, (slow, sent, cuts) in best.items()]
    return min(last)[2]


def balance(seconds: Sequence[float]) -> float:
    """Mean over slowest stage: 1 when all take equally long."""
    return sum(seconds) / len(seconds) / max(seconds) if max(seconds, default=0.0) > 0 else 1.0


def pieces(batch: int, wanted: int) -> int:
    """Equal microbatches of a batch: the most that divide it, up to `wanted`."""
    return max(n for n in range(1, max(1, min(wanted, batch)) + 1) if batch % n == 0)
