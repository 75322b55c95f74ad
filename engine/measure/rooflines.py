"""A measured run's operators under the ceilings of what it ran on (worker side)."""

from __future__ import annotations

from dataclasses import replace

from engine.domain.calibration import Calibration
from engine.domain.metrics import Provenance
from engine.domain.operators import OperatorProfile, OperatorTime
from engine.domain.roofline import Ceilings, Roofline, RooflinePoint
from engine.hardware.gpus import gpu_shown_as
from engine.measure.work import kind_of

MEMORY = "memory"


def under_host(calibration: Calibration | None, threads: int) -> Roofline | None:
    """What this host's processor can do, as measured; without operators. None where it was not calibrated for these threads."""
    if calibration is None:
        return None
    bandwidth = calibration.bandwidth(threads)
    peaks = {str(p.precision): p.per_second for p in calibration.peaks if p.threads == threads}
    if not bandwidth or not peaks:
        return None
    return Roofline(
        device=f"{calibration.environment.cpu}, {threads} {'thread' if threads == 1 else 'threads'}",
        provenance=Provenance.MEASURED, ceilings=Ceilings(compute=peaks, bandwidth={MEMORY: bandwidth}), points=(),
        source=f"measured on {calibration.measured_at:%Y-%m-%d} by python -m engine calibrate",
    )  # fmt: skip


def under_device(name: str, profile: OperatorProfile) -> Roofline | None:
    """What a device can do in the profile's formats, as published; without operators. None where it is not in the catalogue.

    name: as its driver says it.
    """
    gpu = gpu_shown_as(name)
    if gpu is None:
        return None
    formats = {o.precision for o in profile.operators if o.precision} or {"fp32"}
    return Roofline(
        device=gpu.name, provenance=Provenance.MEASURED,
        ceilings=Ceilings(compute={each: gpu.peak(each) for each in sorted(formats)}, bandwidth={MEMORY: gpu.bandwidth}), points=(),
        source=f"published: {gpu.source}",
    )  # fmt: skip


def with_operators(empty: Roofline, profile: OperatorProfile) -> Roofline | None:
    """Those whose FLOPs and bytes the profiler could tell, equal ones of all layers as one point; None where there are none."""
    points: dict[tuple[object, ...], RooflinePoint] = {}
    for operator in profile.operators:
        if operator.flops and operator.bytes and operator.ms:
            # packed weights show no shapes, but other arithmetic
            key = (operator.type, operator.precision, operator.shapes, operator.flops / operator.calls)
            point = _point(operator, profile, empty.ceilings)
            points[key] = _joined(points[key], point) if key in points else point
    if not points:
        return None
    peaks = empty.ceilings.compute
    used = {p.format for p in points.values()} & peaks.keys() or peaks.keys()
    return replace(
        empty, points=tuple(sorted(points.values(), key=lambda p: -p.share)),
        ceilings=replace(empty.ceilings, compute={name: peak for name, peak in peaks.items() if name in used}),
    )  # fmt: skip


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
