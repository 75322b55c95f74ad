"""What a reader of a block's numbers should know of the machine they were taken on."""

from __future__ import annotations

from engine.compare.speedup import CONFIDENCE, CONFIDENCE_IN_NOISE
from engine.domain.metrics import Verdict
from engine.domain.noise import NOISY, SeriesNoise

_CAUSES = {
    "drift": "the canary's pace changed by more than 5 %",
    "other load": "other processes kept a quarter of a core or more busy",
    "steal": "the hypervisor took time away",
    "frequency": "the clock changed",
    "threads": "the number of threads changed",
}


def noise_remarks(noise: SeriesNoise) -> tuple[str, ...]:
    """That the machine was disturbed while this was measured, and by what; and a self-check that failed."""
    found = []
    if noise.is_noisy:
        causes = ", ".join(f"{_CAUSES[name]} in {count}" for name, count in noise.counts.most_common())
        found.append(
            f"{NOISY}: {noise.disturbed} of {len(noise.rounds)} rounds were disturbed ({causes}). "
            f"The verdict demanded {CONFIDENCE_IN_NOISE:.1%} confidence instead of {CONFIDENCE:.0%} and allowed equal processes to differ more."
        )
    if noise.check and noise.check.verdict is not Verdict.NOT_DISTINGUISHABLE:
        found.append(
            f"The baseline was told from itself in this block ({noise.check.ratio.median:.3f}×): "
            "do not trust small differences; repeat it when the machine is quiet."
        )
    return tuple(found)
