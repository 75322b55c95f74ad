"""What a series' shadows and its noise mean for the runs measured in it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from engine.compare.speedup import noise_band, speedup_of
from engine.domain.experiment import Round
from engine.domain.noise import SelfCheck, SeriesNoise
from engine.measure.block import Candidate
from engine.measure.series import Series

PARTNER, CHECK = "partner", "check"
VERIFY_AA = "verify_aa"
"""In an experiment's `extra`: judge a further process of the baseline as if it were a candidate."""


def pinned_cores(threads: int) -> tuple[int, ...]:
    """The cores that all of a block's processes are held to; empty when they use every core.

    Cores of a shared machine differ in pace for minutes, and a scheduler keeps a process where
    it is: left alone, two equal processes differ by where they happen to stay. The last
    cores are taken because interrupts are mostly served by the first.
    """
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return tuple(usable[-threads:]) if 0 < threads < len(usable) else ()


def shadows_of(baseline: Candidate, place: Path, *, verify: bool) -> list[Candidate]:
    """Further processes of the baseline: the noise reference, and the one that is checked against it."""
    found = []
    for name in (PARTNER, CHECK) if verify else (PARTNER,):
        scratch = place / f"{baseline.run_id}-{name}"
        scratch.mkdir(exist_ok=True)
        found.append(replace(baseline, run_id=name, request=replace(baseline.request, scratch_dir=str(scratch))))
    return found


def partner_of(series: Series) -> Sequence[Round]:
    """Rounds of the noise reference; empty where there is none."""
    return series.shadow_rounds.get(PARTNER, ())


def noise_of(series: Series, baseline: Sequence[Round]) -> SeriesNoise:
    """What was seen, with the band that follows from it. baseline: its rounds."""
    own = [each for each in baseline if each.block >= series.first]
    partner = partner_of(series)
    apart = speedup_of(own, partner)
    seen = series.noise
    checked = speedup_of(own, series.shadow_rounds.get(CHECK, ()), partner=partner, noisy=seen.is_noisy)
    return replace(
        seen,
        band=noise_band(own, partner, noisy=seen.is_noisy),
        partner=apart.ratio if apart else None,
        check=SelfCheck(checked.ratio, checked.verdict) if checked else None,
    )
