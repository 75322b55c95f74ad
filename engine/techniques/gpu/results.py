"""What a projection says of a run: measurements with their band, a roofline, remarks. Torch-free."""

from __future__ import annotations

from dataclasses import replace

from engine.domain.codec import as_data
from engine.domain.errors import StageError
from engine.domain.experiment import Attachment
from engine.domain.layout import Cut, Layout
from engine.domain.metrics import (
    ENERGY,
    LATENCY,
    PEAK_MEMORY,
    THROUGHPUT,
    TIME_PER_OUTPUT_TOKEN,
    TIME_TO_FIRST_TOKEN,
    Measurement,
    Metric,
    Provenance,
)
from engine.domain.recipe import RuntimeId
from engine.domain.roofline import ROOFLINE, Ceilings, Roofline, RooflinePoint
from engine.hardware.efficiency import UNKNOWN_BAND
from engine.hardware.gpus import gpus
from engine.hardware.projection import Projection
from engine.hardware.roofline import Execution
from engine.hardware.spreading import Degrees, Spread
from engine.techniques.gpu.spec import GpuConfig

MOST_POINTS = 400


def execution_of(runtime: RuntimeId, config: GpuConfig) -> Execution:
    """Eager launches operator by operator; the compiled runtimes fuse."""
    return Execution(fused=runtime is not RuntimeId.EAGER, graphs=config.cuda_graphs)


def demand_fit(projected: Projection) -> None:
    """Raises StageError, with the devices it would fit into, when memory would run out."""
    if projected.fits:
        return
    larger = [g.name for g in gpus() if g.memory_bytes >= projected.memory.total]
    raise StageError(
        shortage(projected),
        mend="Take fewer bits, a smaller batch or a shorter context"
        + (f", or a larger device: {', '.join(larger[:4])}." if larger else "; no device of the catalogue holds it."),
    )


def shortage(projected: Projection) -> str:
    """What is needed and what is there, of a model that does not fit."""
    needed = projected.memory
    return (
        f"It would run out of memory on {projected.device.name}: {needed.total / 1e9:.1f} GB are needed "
        f"({needed.weights / 1e9:.1f} weights, {needed.cache / 1e9:.1f} KV cache, {needed.activations / 1e9:.1f} activations) "
        f"and {projected.device.memory_bytes / 1e9:.0f} GB are there."
    )


def degrees_of(layout: Layout) -> Degrees:
    """A layout's workers as devices."""
    return Degrees(
        tensor=layout.degree if layout.cut is Cut.TENSOR else 1, pipeline=layout.degree if layout.cut is Cut.PIPELINE else 1,
        replicas=layout.replicas,
    )  # fmt: skip


def spread_remarks(over: Spread) -> tuple[str, ...]:
    devices, link = over.degrees.devices, over.link
    return (
        f"{devices} devices over {link.name}, projected: latency {over.speedup:.2f} times as fast as one, throughput at "
        f"{over.efficiency:.0%} of {devices} single ones; {over.communication:.0%} of a call is spent on links. "
        "Memory is one device's, energy that of all.",
    )


def measurements(projected: Projection) -> tuple[Measurement, ...]:
    """Latencies in ms; intervals are the band within which nine of ten held-out published rows lay."""
    band = projected.efficiency.band

    def of(metric: Metric, value: float, low: float | None = None, high: float | None = None) -> Measurement:
        interval = None if low is None or high is None else (low, high)
        return Measurement(metric.name, metric.unit, value, interval, 0, Provenance.PROJECTED)

    def around(metric: Metric, value: float) -> Measurement:
        return of(metric, value, value / band, value * band)

    found = [around(LATENCY, projected.latency * 1e3)]
    if projected.first_token is not None and projected.per_token is not None:
        found += [around(TIME_TO_FIRST_TOKEN, projected.first_token * 1e3), around(TIME_PER_OUTPUT_TOKEN, projected.per_token * 1e3)]
    low, high = projected.joules_low / projected.items, projected.joules_high / projected.items
    return (
        *found,
        around(THROUGHPUT, projected.throughput),
        of(PEAK_MEMORY, projected.memory.total),
        of(ENERGY, (low + high) / 2, low, high),
    )


def attachment(projected: Projection) -> Attachment:
    device = projected.device
    formats = {projected.precision.compute, "fp32"} & device.peaks.keys() or {"fp32"}
    roofline = Roofline(
        device=device.name, provenance=Provenance.PROJECTED,
        ceilings=Ceilings(
            compute={name: device.peaks[name] for name in sorted(formats)}, bandwidth={"memory": device.bandwidth}
        ),
        points=points(projected), source=f"published: {device.source}",
    )  # fmt: skip
    return Attachment(ROOFLINE, as_data(roofline))


def points(projected: Projection) -> tuple[RooflinePoint, ...]:
    """The operators that take most of a call, the longest first; equal ones of all layers are one point."""
    busy = projected.latency - projected.transfer
    merged: dict[tuple[object, ...], RooflinePoint] = {}
    for phase, timed, times in (("forward", projected.forward, 1), ("decode", projected.decode, projected.steps)):
        for each in timed:
            operator = each.operator
            key = (phase, operator.kind, operator.flops, each.bytes)
            one = RooflinePoint(
                name=operator.name or str(operator.kind), kind=str(operator.kind), intensity=each.intensity,
                flops_per_second=each.flops_per_second, share=each.total_seconds * times / busy, count=operator.count * times,
                bound=str(each.bound), phase=phase,
                format=projected.arithmetic if operator.kind.on_array else "fp32",
            )  # fmt: skip
            before = merged.get(key)
            merged[key] = replace(before, share=before.share + one.share, count=before.count + one.count) if before else one
    return tuple(sorted(merged.values(), key=lambda p: -p.share)[:MOST_POINTS])


def remarks(projected: Projection, runtime: RuntimeId) -> tuple[str, ...]:
    reached = projected.efficiency
    basis = (
        f"Nine of ten published figures of its generation ({reached.generation}) lay within a factor of {reached.band:g}."
        if reached.fitted
        else f"No published figure of its generation was used; the band of {UNKNOWN_BAND:g} is assumed."
    )
    return (
        f"Most of the time would be bound by {projected.bound}. {basis}",
        f"Quality is what {runtime} answers on this host's CPU in the same number formats.",
        "Energy is the board's power at half to full load; memory is weights, KV cache, activations and the driver's own.",
    )
