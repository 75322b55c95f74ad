"""Operators as points under the ceilings of what ran them, or would (Williams, Waterman and Patterson 2009)."""

from __future__ import annotations

from dataclasses import dataclass

from engine.domain.metrics import Provenance

ROOFLINE = "roofline"
"""An attachment: a `Roofline`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceilings:
    """`compute`: number format to the most FLOP/s (OP/s) of its products; `bandwidth`: a memory's name to bytes/s."""

    compute: dict[str, float]
    bandwidth: dict[str, float]

    def roof(self, intensity: float, format: str = "") -> float:
        """FLOP/s that an operator of so many FLOPs a byte could reach; of an unknown format the highest."""
        peak = self.compute.get(format) or max(self.compute.values())
        return min(peak, intensity * max(self.bandwidth.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class RooflinePoint:
    """An operator, or equal ones of several layers.

    intensity         FLOPs for each byte
    flops_per_second  what it reaches
    share             of a call, in [0, 1]
    count             executions in a call
    bound             what it waits for: compute, memory, launch
    format            number format of its arithmetic, where it is known
    phase             `forward` or `decode`, where they are told apart
    """

    name: str
    kind: str
    intensity: float
    flops_per_second: float
    share: float
    count: int
    bound: str
    format: str = ""
    phase: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Roofline:
    """The points that take most of a call, the longest first. `source`: whose figures the ceilings are."""

    device: str
    provenance: Provenance
    ceilings: Ceilings
    points: tuple[RooflinePoint, ...]
    source: str = ""

    @property
    def covered(self) -> float:
        """Share of a call that the points stand for."""
        return sum(p.share for p in self.points)

    def reached(self, point: RooflinePoint) -> float:
        """What a point reaches of its ceiling; above 1 where its data came out of a cache, 0 where it does no arithmetic."""
        roof = self.ceilings.roof(point.intensity, point.format)
        return point.flops_per_second / roof if roof else 0.0
