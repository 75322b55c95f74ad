"""How a run's rounds are shared among its processes."""

from __future__ import annotations

import math

FEWEST_PROCESSES = 3
"""Unless the workload says otherwise: fewer say nothing of their own scatter."""
WITHIN_TO_BETWEEN = 0.5
"""Variance of rounds of a second within a process ÷ between processes; 0.25 to 1 on 2-core virtual machines."""


def rounds_a_process(rounds: int, processes: int, opening: float) -> int:
    """How many rounds each process has of `rounds` in all, so that there are so many `processes`; 0 chooses.

    opening: what opening a process costs, in rounds. Kalibera & Jones' number of repetitions for the least
    variance in a given time: √(cost of opening ÷ cost of a round × variance within ÷ between processes).
    """
    wanted = processes or max(FEWEST_PROCESSES, round(rounds / max(1.0, math.sqrt(opening * WITHIN_TO_BETWEEN))))
    return math.ceil(rounds / wanted)
