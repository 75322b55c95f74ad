"""A measured run's operators under its host's measured ceilings (worker side)."""

from __future__ import annotations

from dataclasses import replace

from engine.domain.calibration import Calibration
from engine.domain.metrics import Provenance
from engine.domain.operators import OperatorProfile, OperatorTime
from engine.domain.roofline import Ceilings, Roofline, RooflinePoint
from engine.measure.work import kind_of

MEMORY = "memory"


def measured_roofline(profile: OperatorProfile, calibration: Calibration, threads: int) -> Roofline | None:
    """Those operators whose FLOPs and bytes the profiler could tell, equal ones of all layers as one point.

    None where there are none, or the host was not calibrated for these threads.
    """
    bandwidth = calibration.bandwidth(threads)
    peaks = {str(p.precision): p.per_second for p in calibration.peaks if p.threads == threads}
    if not bandwidth or not peaks:
        return None
    ceilings = Ceilings(compute=peaks, bandwidth={MEMORY: bandwidth})
    points: dict[tuple[object, ...], RooflinePoint] = {}
    for operator in profile.operators:
        if operator.flops and operator.bytes and operator.ms:
            # packed weights show no shapes, but other arithmetic
            key = (operator.type, operator.precision, operator.shapes, operator.flops / operator.calls)
            point = _point(operator, profile, ceilings)
            points[key] = _joined(points[key], point) if key in points else point
    if not points:
        return None
    used = {p.format for p in points.values()} & peaks.keys() or peaks.keys()
    return Roofline(
        device=f"{calibration.environment.cpu}, {threads} {'thread' if threads == 1 else 'threads'}",
        provenance=Provenance.MEASURED,
        ceilings=replace(ceilings, compute={name: peak for name, peak in peaks.items() if name in used}),
        points=tuple(sorted(points.values(), key=lambda p: -p.share)),
        source=f"measured on {calibration.measured_at:%Y-%m-%d} by python -m engine calibrate",
    )


def _point(operator: OperatorTime, profile: OperatorProfile, ceilings: Ceilings) -> RooflinePoint:
    intensity = operator.flops / operator.bytes
    peak = ceilings.compute.get(operator.precision) or max(ceilings.compute.values())
    return RooflinePoint(
        name=operator.name or operator.type, kind=str(kind_of(operator.type)), intensity=intensity,
        flops_per_second=operator.flops / operator.ms * 1e3, share=profile.share(operator), count=operator.calls,
        bound="compute" if ceilings.roof(intensity, operator.precision) >= peak else "memory", format=operator.precision,
    )  # fmt: skip


def _joined(one: RooflinePoint, other: RooflinePoint) -> RooflinePoint:
    """Of equal shapes, so of equal intensity; the pace is that of both together."""
    share = one.share + other.share
    flops = one.flops_per_second * one.share + other.flops_per_second * other.share
    return replace(one, share=share, flops_per_second=flops / share, count=one.count + other.count)
