"""What a network would do on a device of the catalogue: latency, throughput, memory, energy. All projected."""

from __future__ import annotations

from dataclasses import dataclass

from engine.hardware.efficiency import Efficiency, efficiency_of
from engine.hardware.gpus import Gpu
from engine.hardware.operators import Network, OperatorKind, largest_activation, total_weights
from engine.hardware.precisions import Precision
from engine.hardware.roofline import Bound, Execution, Timed, seconds_of, timed

RESERVED_BYTES = 600_000_000
"""Driver context and libraries on the device. Assumed; nvidia-smi shows 300 to 700 MB for an idle PyTorch process."""
BUSY_POWER = (0.5, 1.0)
"""Share of the board's power while it is busy, from memory-bound to compute-bound. Assumed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes on the device. `activations` are twice the largest operator's, as an allocator holds them."""

    weights: int
    cache: int
    activations: int
    reserved: int = RESERVED_BYTES

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.activations + self.reserved


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """Seconds, bytes, joules of one call on one device.

    `latency`: one inference, or prompt and all new tokens; `transfer` of it is copying
    inputs and outputs over the host's link. `low` and `high` bound it as the held-out
    rows were bounded. `items`: samples of a call, new tokens for causal LMs. `under_way`:
    calls that are answered at once, more than one where several devices share them.
    """

    device: Gpu
    precision: Precision
    latency: float
    transfer: float
    first_token: float | None
    per_token: float | None
    low: float
    high: float
    items: int
    memory: Memory
    joules_low: float
    joules_high: float
    bound: Bound
    forward: tuple[Timed, ...]
    decode: tuple[Timed, ...]
    steps: int
    efficiency: Efficiency
    under_way: float = 1.0

    @property
    def throughput(self) -> float:
        """Items per second."""
        return self.under_way * self.items / self.latency

    @property
    def arithmetic(self) -> str:
        """Format of the products: the precision's, or what the device has units for instead."""
        return self.device.computes(self.precision.compute)

    @property
    def fits(self) -> bool:
        return self.memory.total <= self.device.memory_bytes


def project(
    network: Network, device: Gpu, precision: Precision, execution: Execution = Execution(), reached: Efficiency | None = None
) -> Projection:
    """Whatever does not fit is projected too, and says so by `fits`. reached: instead of the generation's fitted shares."""
    reached = reached or efficiency_of(device.generation)
    forward = timed(network.forward, device, reached, precision, execution)
    decode = timed(network.decode, device, reached, precision, execution)
    first, step = seconds_of(forward), seconds_of(decode)
    transfer = _transfer(network, device, precision)
    busy = first + step * network.steps
    latency = busy + transfer
    return Projection(
        device=device, precision=precision, latency=latency, transfer=transfer,
        first_token=first + transfer if network.is_generation else None, per_token=step if network.is_generation else None,
        low=latency / reached.band, high=latency * reached.band,
        items=network.batch * (network.steps + 1 if network.is_generation else 1),
        memory=memory_of(network, precision), joules_low=busy * device.power_watts * BUSY_POWER[0],
        joules_high=busy * device.power_watts * BUSY_POWER[1], bound=_bound(forward, decode, network.steps),
        forward=forward, decode=decode, steps=network.steps, efficiency=reached,
    )  # fmt: skip


def memory_of(network: Network, precision: Precision) -> Memory:
    """Weights, the whole KV cache at its longest, and room for activations."""
    matrices = total_weights(o for o in network.forward if o.kind in (OperatorKind.MATMUL, OperatorKind.CONV2D))
    matrices = min(matrices, network.parameters)
    weights = (matrices * precision.weight_bits + (network.parameters - matrices) * precision.activation_bits) / 8
    cache = network.cache_elements * network.batch * network.longest_context * precision.cache_bits / 8
    largest = max(largest_activation(network.forward), largest_activation(network.decode))
    return Memory(weights=int(weights), cache=int(cache), activations=int(2 * largest * precision.activation_bits / 8))


def _transfer(network: Network, device: Gpu, precision: Precision) -> float:
    """Inputs to the device and the answer back; nothing moves where memory is shared."""
    if device.unified_memory:
        return 0.0
    inputs = network.forward[0].input_elements * precision.activation_bits / 8
    outputs = network.forward[-1].output_elements * precision.activation_bits / 8
    return device.host_link.seconds(inputs) + device.host_link.seconds(outputs)


def _bound(forward: tuple[Timed, ...], decode: tuple[Timed, ...], steps: int) -> Bound:
    """What most of the time is spent on."""
    spent = dict.fromkeys(Bound, 0.0)
    for pass_, times in ((forward, 1), (decode, steps)):
        for each in pass_:
            spent[each.bound] += each.total_seconds * times
    return max(spent, key=spent.__getitem__)
