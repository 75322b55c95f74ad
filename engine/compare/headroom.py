"""How far a run is from what its host can do, in a sentence."""

from __future__ import annotations

from engine.domain.experiment import Run
from engine.domain.metrics import DECODE_SHARE, PREFILL_SHARE

_ABOVE = 1.05
"""A share beyond this is no share of what was measured: the weights come from the caches, say."""


def headroom(run: Run) -> str:
    """Empty where nothing is known of the host's limits.

    The inverse of a share is the most that a better program on this host could gain
    without reading fewer bytes or computing less.
    """
    parts = []
    for metric, phase, limit in (
        (PREFILL_SHARE, "Prefill", "the arithmetic that this host was measured to do"),
        (DECODE_SHARE, "Decode", "the bandwidth that this host was measured to read at"),
    ):
        share = run.value(metric.name)
        if share is None:
            continue
        if share > _ABOVE:
            parts.append(f"{phase} goes beyond {limit} ({share:.0%}): what it needs comes from the caches.")
        else:
            parts.append(f"{phase} reaches {share:.0%} of {limit}: at most {1 / share:.2g} times faster without doing less.")
    return " ".join(parts)
