"""Measuring a host itself: its ceilings, then the scatter of equal processes beside each other."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path

import numpy as np

from engine.domain.calibration import Calibration, Precision
from engine.domain.codec import as_data, from_data
from engine.domain.experiment import Progress
from engine.domain.metrics import LATENCY
from engine.domain.noise import MOST_DRIFT, MOST_OTHER_LOAD
from engine.execution.leash import Leash
from engine.host import environment, this_host
from engine.measure import witness
from engine.measure.canary import Canary, drift
from engine.requests import CeilingsRequest, CeilingsResult, RoundResult
from engine.sandbox import Child, Limits

PROCESSES = 6
ROUNDS = 8
_ROUND_SECONDS = 0.5
_CEILING_SECONDS = 1.5
_PATIENCE_SECONDS = 600.0


def calibrate(leash: Leash, place: Path, report: Callable[[Progress], None]) -> Calibration:
    """About a minute on two cores. `place`: an empty directory for logs. Raises ChildError."""
    host = this_host()
    report(Progress("peaks and bandwidth", 0.0))
    found = _ceilings(leash, place)
    report(Progress("noise between equal processes", 0.4))
    with Canary(host.cores) as canary, ExitStack() as exits:
        children = [_opened(leash, place, exits) for _ in range(PROCESSES)]
        songs = [canary.sing()]
        before = witness.read(child.pid for child in children)
        rounds: list[list[float]] = []
        for index in range(ROUNDS):
            rounds.append(_round(children, index))
            songs.append(canary.sing())
            report(Progress("noise between equal processes", 0.4 + 0.6 * (index + 1) / ROUNDS))
        busy = witness.between(before, witness.read(child.pid for child in children), host.cores).other_load
        level = children[0].level
    return Calibration(
        host=host.name,
        measured_at=datetime.now(UTC),
        environment=environment(host.cores, level),
        peaks=found.peaks,
        bandwidths=found.bandwidths,
        noise_band=_band(np.array(rounds)),
        pairs=math.comb(PROCESSES, 2),
        canary_seconds=min(songs),
        remarks=tuple(_remarks(drift(songs), busy)),
    )


def _remarks(steadiness: float, busy: float) -> Iterator[str]:
    """Why the peaks may be too low and the band too wide. steadiness: the canary's drift; busy: cores."""
    if busy > MOST_OTHER_LOAD:
        yield f"Other processes kept {busy:.1f} cores busy meanwhile; repeat this when nothing else runs."
    elif steadiness > MOST_DRIFT:
        yield f"The machine's own pace changed by {steadiness:.0%} meanwhile; repeat this when nothing else runs."


def _ceilings(leash: Leash, place: Path) -> CeilingsResult:
    host = this_host()
    precisions = (
        Precision.FP32,
        *((Precision.BF16,) if host.has_bf16 else ()),
        *((Precision.INT8,) if host.has_vnni else ()),
    )
    request = CeilingsRequest(tuple(sorted({1, host.cores})), precisions, _CEILING_SECONDS)
    child = _start(leash, "ceilings", place)
    try:
        return from_data(CeilingsResult, child.ask({"request": as_data(request)}, timeout=_PATIENCE_SECONDS))
    finally:
        leash.end(child)


def _opened(leash: Leash, place: Path, exits: ExitStack) -> Child:
    child = _start(leash, "fixed", place)
    exits.callback(leash.end, child)
    child.ask({"threads": this_host().cores}, timeout=_PATIENCE_SECONDS)
    return child


def _start(leash: Leash, kind: str, place: Path) -> Child:
    limits = Limits.of_host(wall_seconds=2 * _PATIENCE_SECONDS)
    return leash.start(
        kind, readable=[], writable=[], limits=limits, log=place / f"{kind}.log", threads=this_host().cores
    )


def _round(children: list[Child], index: int) -> list[float]:
    """Log of the median latency of each; every second round in reverse order."""
    order = list(range(len(children)))
    medians = [0.0] * len(children)
    for which in reversed(order) if index % 2 else order:
        answer = children[which].ask({"round": _ROUND_SECONDS}, timeout=_PATIENCE_SECONDS, tick=lambda: None)
        medians[which] = math.log(float(np.median(from_data(RoundResult, answer).samples[LATENCY.name])))
    return medians


def _band(rounds: np.ndarray) -> float:
    """What 95 % of the pairs of equal processes stay within, as a relative difference.

    rounds: (rounds, processes), logs of median latencies.
    """
    apart = [abs(float(np.median(rounds[:, a] - rounds[:, b]))) for a, b in combinations(range(rounds.shape[1]), 2)]
    return math.expm1(float(np.quantile(apart, 0.95)))
