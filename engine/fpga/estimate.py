"""Tier 1: latency of any network on a machine, layer by layer, in milliseconds of computing. Torch-free.

A product takes the longer of its cycles and of its bytes over the memory; operators that
the engine does not have go to the host: results there, arithmetic, results back. One
operator at a time, as a single core runs them; bias, ReLU and requantization are part of
a product and cost nothing. The host gives the rows of some linear layers scales of their own
(engine.fpga.integer_network): one operation more for each element of rows and results, and
the way there and back where they are not at the host anyway.

Bytes over the memory: every operand once where one of the two fits the on-chip buffer,
half of which is being filled while the other half is used. Else one operand stays in
pieces of half a buffer and the other one is read again for each piece, whichever way
round is less (Zhang et al., "Optimizing FPGA-based accelerator design for deep
convolutional neural networks", FPGA 2015, section 4.2, with two loops left). A
convolution reads its input once: the loader forms its rows (im2col) from the buffer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from math import ceil

from engine.fpga.machine import Host, Machine
from engine.fpga.placing import moves_nothing
from engine.fpga.scaling import scaling_seconds
from engine.hardware.operators import Gemm, Network, Operator, OperatorKind, fused


class Bound(StrEnum):
    COMPUTE = "compute"
    MEMORY = "memory"
    HOST = "host"


class Place(StrEnum):
    ARRAY = "array"
    FABRIC = "fabric"
    HOST = "host"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One operator, all its executions in a pass together."""

    name: str
    kind: str
    count: int
    place: Place
    gemm: Gemm | None = None
    macs: int = 0
    cycles: int = 0
    compute_seconds: float = 0.0
    memory_seconds: float = 0.0
    exposed_seconds: float = 0.0
    """Of the shorter of the two, what does not hide behind the longer."""
    host_seconds: float = 0.0
    memory_bytes: float = 0.0
    utilisation: float = 0.0
    """Useful products over what the engine could have done in its cycles; 0 where it does nothing."""

    @property
    def board_seconds(self) -> float:
        return max(self.compute_seconds, self.memory_seconds) + self.exposed_seconds

    @property
    def seconds(self) -> float:
        return self.board_seconds + self.host_seconds

    @property
    def bound(self) -> Bound:
        if self.host_seconds > self.board_seconds:
            return Bound.HOST
        return Bound.COMPUTE if self.compute_seconds >= self.memory_seconds else Bound.MEMORY


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """One pass over a network: a call, a prompt or one step of decoding."""

    layers: tuple[Layer, ...]
    transfer_seconds: float
    """Inputs to the board and results back."""
    call_seconds: float
    macs_per_cycle: int
    clock_hz: float

    @property
    def seconds(self) -> float:
        return sum(layer.seconds for layer in self.layers) + self.transfer_seconds + self.call_seconds

    @property
    def cycles(self) -> int:
        return sum(layer.cycles for layer in self.layers)

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    @property
    def memory_bytes(self) -> float:
        return sum(layer.memory_bytes for layer in self.layers)

    @property
    def utilisation(self) -> float:
        """Useful products over what the engine could have done in the whole pass, waiting included."""
        return self.macs / (self.seconds * self.clock_hz * self.macs_per_cycle) if self.seconds else 0.0

    def seconds_bound_by(self, bound: Bound) -> float:
        """Time in which this is what is waited for. The three add up to `seconds`."""
        if bound is Bound.HOST:
            return sum(layer.host_seconds for layer in self.layers) + self.transfer_seconds + self.call_seconds
        compute = bound is Bound.COMPUTE
        return sum(
            layer.board_seconds
            for layer in self.layers
            if (layer.compute_seconds >= layer.memory_seconds) is compute
        )

    @property
    def bound(self) -> Bound:
        return max(Bound, key=self.seconds_bound_by)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A network under its workload. `decode` is one step at the mean context; `steps` follow the prompt."""

    network: Network
    forward: Pass
    decode: Pass | None = None

    @property
    def seconds(self) -> float:
        """One call; a causal LM's whole generation."""
        return self.forward.seconds + (self.decode.seconds * self.network.steps if self.decode else 0.0)

    @property
    def throughput(self) -> float:
        """Items a second; of a generation, new tokens."""
        items = self.network.steps + 1 if self.decode else 1
        return self.network.batch * items / self.seconds

    @property
    def bound(self) -> Bound:
        """What the call waits for most."""

        def waited(bound: Bound) -> float:
            decoding = self.decode.seconds_bound_by(bound) * self.network.steps if self.decode else 0.0
            return self.forward.seconds_bound_by(bound) + decoding

        return max(Bound, key=waited)


def estimate(network: Network, machine: Machine) -> Estimate:
    """Raises nothing: what the engine cannot take is the host's."""
    decode = one_pass(network.decode, machine) if network.decode else None
    return Estimate(network=network, forward=one_pass(network.forward, machine), decode=decode)


def one_pass(operators: Iterable[Operator], machine: Machine) -> Pass:
    deployed = fused(tuple(operators))
    scaling = scaling_seconds(deployed, machine)
    layers = tuple(layer for o, seconds in zip(deployed, scaling, strict=True) for layer in layers_of(o, machine, seconds))
    return Pass(
        layers=layers, transfer_seconds=_ends(deployed, machine), call_seconds=machine.call_seconds,
        macs_per_cycle=machine.engine.macs_per_cycle, clock_hz=machine.clock_hz,
    )  # fmt: skip


def layers_of(operator: Operator, machine: Machine, scaling: float = 0.0) -> tuple[Layer, ...]:
    """An attention is three: scores, softmax, values. A linear layer whose rows the host scales is two.

    scaling: the seconds that takes in one execution.
    """
    if operator.kind is OperatorKind.ATTENTION and operator.gemm is not None:
        return _attention(operator, operator.gemm, machine)
    if operator.gemm is not None:
        first, second = operator.input_elements, operator.weight_elements
        product = _product(operator, operator.gemm, first, second, operator.output_elements, machine)
        scales = Layer(
            name=f"{operator.name}.scales", kind="scaling of rows", count=operator.count, place=Place.HOST,
            host_seconds=operator.count * scaling,
        )  # fmt: skip
        return (scales, product) if scaling else (product,)
    if moves_nothing(operator):
        return ()
    return (_other(operator, machine),)


def traffic(first: float, second: float, results: float, buffer: float) -> float:
    """Bytes over the memory for a product of two operands (in bytes) with so large an on-chip buffer."""
    half = max(buffer / 2, 1.0)
    if min(first, second) <= half:
        return first + second + results
    first_again, second_again = first * ceil(second / half), second * ceil(first / half)
    return min(first_again + second, second_again + first) + results


def _product(
    operator: Operator, gemm: Gemm, first: int, weights: int, results: int, machine: Machine, *, suffix: str = "",
    stored_bits: int | None = None,
) -> Layer:  # fmt: skip
    activation_bytes = machine.activation_bits / 8
    moved = operator.count * traffic(
        first * activation_bytes, weights * (stored_bits or machine.weight_bits) / 8, results * activation_bytes,
        machine.buffer_bytes,
    )  # fmt: skip
    cycles = operator.count * machine.engine.cycles(gemm)
    macs = operator.count * gemm.macs
    compute, memory = cycles / machine.clock_hz, moved / machine.memory_bytes_per_second
    return Layer(
        name=operator.name + suffix, kind=str(operator.kind), count=operator.count, place=Place.ARRAY, gemm=gemm, macs=macs,
        cycles=cycles, compute_seconds=compute, memory_bytes=moved, memory_seconds=memory,
        exposed_seconds=machine.exposed * min(compute, memory), utilisation=macs / (cycles * machine.engine.macs_per_cycle),
    )  # fmt: skip


def _attention(operator: Operator, scores: Gemm, machine: Machine) -> tuple[Layer, ...]:
    """Keys and values are activations, whatever the weights' bits; the scores pass through the softmax's place."""
    _, values = operator.gemms
    queries = results = operator.output_elements
    keys = (operator.input_elements - queries) // 2
    elements = scores.m * scores.n * scores.groups
    bits = machine.activation_bits
    softmax = Operator(
        name=f"{operator.name}.softmax", kind=OperatorKind.SOFTMAX, count=operator.count, flops=elements,
        input_elements=elements, output_elements=elements,
    )  # fmt: skip
    return (
        _product(operator, scores, queries, keys, elements, machine, suffix=".scores", stored_bits=bits),
        _other(softmax, machine),
        _product(operator, values, elements, keys, results, machine, suffix=".values", stored_bits=bits),
    )


def _other(operator: Operator, machine: Machine) -> Layer:
    elements = operator.input_elements + operator.output_elements
    if machine.host is None:
        moved = operator.count * elements * machine.activation_bits / 8
        return Layer(
            name=operator.name, kind=str(operator.kind), count=operator.count, place=Place.FABRIC, memory_bytes=moved,
            memory_seconds=moved / machine.memory_bytes_per_second,
        )  # fmt: skip
    seconds = operator.count * host_seconds(operator, machine.host, machine.activation_bits)
    return Layer(name=operator.name, kind=str(operator.kind), count=operator.count, place=Place.HOST, host_seconds=seconds)


def host_seconds(operator: Operator, host: Host, bits: int) -> float:
    """There, arithmetic, back. A table look-up reads only the rows it returns."""
    looked_up = operator.kind is OperatorKind.EMBEDDING
    read = operator.output_elements if looked_up else operator.input_elements
    twice = operator.kind in (OperatorKind.NORM, OperatorKind.SOFTMAX)
    arithmetic = (read + operator.output_elements) * (2 if twice else 1) / host.operations_per_second
    there = 0 if looked_up else read
    transfers = 1 if looked_up else 2
    moved = (there + operator.output_elements) * bits / 8 / host.bytes_per_second
    return moved + transfers * host.latency_seconds + arithmetic


def _ends(operators: tuple[Operator, ...], machine: Machine) -> float:
    """Inputs to the board, results back: once each, where the first and the last operator are the board's."""
    if machine.host is None or not operators:
        return 0.0
    first, last = operators[0], operators[-1]
    moved = (first.input_elements if first.gemm else 0) + (last.output_elements if last.gemm else 0)
    transfers = bool(first.gemm) + bool(last.gemm)
    return moved * machine.activation_bits / 8 / machine.host.bytes_per_second + transfers * machine.host.latency_seconds
