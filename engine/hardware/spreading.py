"""What a network would do cut over several devices of the catalogue, and copied: all projected. Torch-free.

From the projection on one device, operator by operator: tensor parallelism divides what products and attention
take, everything else (norms, launches) is done by every device; a pipeline divides the layers, so that a call
is not faster but the next one follows sooner; replicas multiply calls. See engine.hardware.communication for the
formula and benchmarks/spreading_projection.py for what it is held against.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import ceil

from engine.domain.errors import InvalidInput
from engine.hardware.communication import (
    MOST_DEVICES,
    Calibration,
    pipeline_calls_per_second,
    pipeline_seconds,
    tensor_seconds,
)
from engine.hardware.entries import DATA
from engine.hardware.links import Link
from engine.hardware.operators import Network, OperatorKind, Operators
from engine.hardware.projection import Memory, Projection
from engine.hardware.roofline import Timed, seconds_of

FILE = DATA / "spreading.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Degrees:
    """`tensor` × `pipeline` devices hold one model, `replicas` times."""

    tensor: int = 1
    pipeline: int = 1
    replicas: int = 1

    def __post_init__(self) -> None:
        for name, value in (("tensor", self.tensor), ("pipeline", self.pipeline), ("replicas", self.replicas)):
            if not 1 <= value <= MOST_DEVICES:
                raise InvalidInput(f"{name}={value} is not projected.", mend=f"Choose 1 to {MOST_DEVICES}.", where=name)

    @property
    def devices(self) -> int:
        return self.tensor * self.pipeline * self.replicas


@dataclass(frozen=True, slots=True, kw_only=True)
class Constants:
    """γ in seconds a call, k and κ of engine.hardware.communication, fitted; `band` as in Efficiency."""

    fixed: float
    moving: float
    stepping: float
    band: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A projection over several devices.

    `latency` and its parts in seconds of one call, `low` and `high` bound it; `throughput` in items a second of all
    devices while calls follow each other without end; `communication` is the share of the latency spent on links;
    `speedup` is in latency, over one device; `memory` is one device's.
    """

    single: Projection
    degrees: Degrees
    link: Link
    latency: float
    low: float
    high: float
    first_token: float | None
    per_token: float | None
    throughput: float
    communication: float
    memory: Memory

    @property
    def speedup(self) -> float:
        return self.single.latency / self.latency

    @property
    def efficiency(self) -> float:
        """Of the throughput that as many single devices would have side by side."""
        return self.throughput / (self.degrees.devices * self.single.throughput)

    @property
    def fits(self) -> bool:
        return self.memory.total <= self.single.device.memory_bytes

    def as_projection(self) -> Projection:
        """The same in the words of one device: energy of all of them while calls follow each other, memory of each."""
        busy = 1 / self.efficiency
        return replace(
            self.single, latency=self.latency, first_token=self.first_token, per_token=self.per_token, low=self.low, high=self.high,
            memory=self.memory, joules_low=self.single.joules_low * busy, joules_high=self.single.joules_high * busy,
            efficiency=replace(self.single.efficiency, band=self.high / self.latency),
            under_way=self.throughput * self.latency / self.single.items,
        )  # fmt: skip


@cache
def constants(transport: str = "") -> Constants:
    """γ is of devices that launch kernels; k and κ of links that these drive, or of hosts' network stacks (`tcp`)."""
    tables = tomllib.loads(FILE.read_text())
    t = tables[transport or "tensor"]
    return Constants(fixed=tables["tensor"]["fixed_us"] * 1e-6, moving=t["moving"], stepping=t["stepping"], band=t["band"])


def spread(
    network: Network, single: Projection, degrees: Degrees, link: Link, *, measured: float = 0.0, fitted: Constants | None = None
) -> Spread:
    """`single` is the network's projection on one of the devices. Raises InvalidInput for degrees it does not have.

    measured: seconds that a call really takes on one device, where that is known; all its parts then keep their
    proportions. 0: as projected.
    """
    fitted = fitted or constants(link.transport)
    _demand_cuts(network, degrees)
    if measured:
        single = _paced(single, measured / single.latency)
    passes = [_pass(network, single.forward, network.forward, single, degrees, link, fitted)]
    if network.is_generation:
        passes.append(_pass(network, single.decode, network.decode, single, degrees, link, fitted))
    first, step = passes[0], passes[-1]
    computing = first.computing + step.computing * network.steps
    # fitted to models whose calls take longer: more than a call itself is not believed of smaller ones
    launches = degrees.tensor > 1 and single.device.launch_seconds > 0
    fixed = min(fitted.fixed, seconds_of(single.forward)) if launches else 0.0
    busy = fixed + first.seconds + step.seconds * network.steps
    latency = busy + single.transfer
    slowest = fixed + first.slowest + step.slowest * network.steps + single.transfer
    band = max(single.efficiency.band, fitted.band if degrees.devices > 1 else 1.0)
    generates = single.first_token is not None
    return Spread(
        single=single, degrees=degrees, link=link, latency=latency, low=latency / band, high=latency * band,
        first_token=fixed + first.seconds + single.transfer if generates else None, per_token=step.seconds if generates else None,
        throughput=degrees.replicas * single.items / slowest, communication=max(0.0, 1 - computing / busy),
        memory=_memory(single.memory, degrees),
    )  # fmt: skip


def _paced(single: Projection, pace: float) -> Projection:
    """So many times as slow, in all parts."""

    def slowed(timed: Sequence[Timed]) -> tuple[Timed, ...]:
        return tuple(replace(t, seconds=t.seconds * pace) for t in timed)

    reached = replace(single.efficiency, kernel_seconds=single.efficiency.kernel_seconds * pace)
    return replace(
        single, latency=single.latency * pace, transfer=single.transfer * pace, forward=slowed(single.forward),
        decode=slowed(single.decode), efficiency=reached,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Pass:
    """Seconds of one pass through all stages, of its computing alone, and of its slowest stage."""

    seconds: float
    computing: float
    slowest: float


def _pass(
    network: Network, timed: Sequence[Timed], operators: Operators, single: Projection, degrees: Degrees, link: Link, fitted: Constants
) -> _Pass:
    alone = seconds_of(timed)
    divided = sum((t.seconds - single.efficiency.kernel_seconds) * t.operator.count for t in timed if t.operator.kind.on_array)
    calibration = Calibration(split=max(0.0, divided) / alone, moving=fitted.moving, stepping=fitted.stepping)
    size = _handed_on(operators) * single.precision.activation_bits / 8

    def seconds(collectives: int) -> float:
        return tensor_seconds(alone, degrees.tensor, collectives=collectives, size=size, link=link, calibration=calibration)

    whole = seconds(network.sums * _layers(operators))
    handed = size / degrees.tensor
    fullest = whole * _largest_share(timed, degrees.pipeline)
    others = degrees.pipeline - 1
    stages = [fullest, *[(whole - fullest) / others for _ in range(others)]]
    return _Pass(
        pipeline_seconds(stages, 1, size=handed, link=link), seconds(0), 1 / pipeline_calls_per_second(stages, size=handed, link=link)
    )


def _layers(operators: Operators) -> int:
    """Layers that have an attention."""
    return sum(o.count for o in operators if o.kind is OperatorKind.ATTENTION)


def _handed_on(operators: Operators) -> int:
    """Elements of what one layer hands to the next: what the product after an attention writes, or any product at most."""
    kinds = [o.kind for o in operators]
    if OperatorKind.ATTENTION in kinds:
        after = operators[kinds.index(OperatorKind.ATTENTION) + 1 :]
        return next((o.output_elements for o in after if o.kind is OperatorKind.MATMUL), 0)
    written = sorted(o.output_elements for o in operators if o.kind.on_array)
    return written[len(written) // 2] if written else 0


def _largest_share(timed: Sequence[Timed], parts: int) -> float:
    """Of the time, what the fullest of `parts` stages takes: as even as whole layers allow."""
    if parts == 1:
        return 1.0
    total = seconds_of(timed)
    blocks = max(t.operator.count for t in timed)
    if blocks < parts:
        return max(1 / parts, max(t.seconds for t in timed) / total)
    layer = sum(t.seconds for t in timed if t.operator.count == blocks)
    return max(1 / parts, ceil(blocks / parts) * layer / total)


def _memory(memory: Memory, degrees: Degrees) -> Memory:
    """Of one device; what a layer works on is whole on every one."""
    parts = degrees.tensor * degrees.pipeline
    return replace(memory, weights=memory.weights // parts, cache=memory.cache // parts)


def _demand_cuts(network: Network, degrees: Degrees) -> None:
    layers = _layers(network.forward)
    if degrees.tensor > 1 and not layers:
        raise InvalidInput(
            f"{network.name} has no attention, whose heads tensor parallelism splits.", mend="Choose a pipeline or replicas.", where="tensor"
        )
    places = layers or sum(o.count for o in network.forward if o.kind.on_array)
    if degrees.pipeline > places:
        raise InvalidInput(
            f"{network.name} has {places} layers, fewer than {degrees.pipeline} stages.", mend=f"Choose at most {places}.", where="pipeline"
        )
