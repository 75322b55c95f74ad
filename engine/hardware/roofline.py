"""How long operators take on a device that is not here: an operator-level roofline.

    seconds(operator) = max(arithmetic, memory) + kernel
    arithmetic = FLOPs ÷ (peak of the format × share reached)
    memory     = bytes ÷ (bandwidth × share reached)
    kernel     = from the end of one kernel to full speed of the next

Kernels launched one by one from the host (no graph) cannot follow one another faster
than the host launches them. Williams, Waterman and Patterson 2009, "Roofline: an
insightful visual performance model".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from engine.hardware.efficiency import Efficiency
from engine.hardware.gpus import Gpu
from engine.hardware.operators import Operator, OperatorKind, Operators, fused
from engine.hardware.precisions import Precision

EAGER_DISPATCH_SECONDS = 20e-6
"""Host time of an operator called from Python one by one. Assumed; ResNet-50 of NVIDIA's DeepLearningExamples, bound
by its host on T4 and V100 alike, took 60 µs an operator in 2021."""


class Bound(StrEnum):
    """What an operator's time is made of."""

    COMPUTE = "compute"
    MEMORY = "memory"
    LAUNCH = "launch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """How a model is called: pointwise operators fused by a compiler, kernels replayed from a graph."""

    fused: bool = True
    graphs: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """An operator on a device: seconds and bytes of one execution, FLOP/s and bytes/s that bound it."""

    operator: Operator
    seconds: float
    bytes: float
    bound: Bound

    @property
    def total_seconds(self) -> float:
        return self.seconds * self.operator.count

    @property
    def intensity(self) -> float:
        """FLOPs for each byte."""
        return self.operator.flops / self.bytes if self.bytes else 0.0

    @property
    def flops_per_second(self) -> float:
        return self.operator.flops / self.seconds


def timed(operators: Operators, device: Gpu, reached: Efficiency, precision: Precision, execution: Execution) -> tuple[Timed, ...]:
    """All operators of a pass, in order."""
    launched = fused(operators) if execution.fused else operators
    return tuple(_timed(operator, device, reached, precision, execution) for operator in launched)


def seconds_of(pass_: Iterable[Timed]) -> float:
    return sum(t.total_seconds for t in pass_)


def _timed(operator: Operator, device: Gpu, reached: Efficiency, precision: Precision, execution: Execution) -> Timed:
    size = bytes_of(operator, precision)
    memory = size / (device.bandwidth * reached.bandwidth)
    arithmetic = operator.flops / _rate(operator, device, reached, precision)
    busy = max(arithmetic, memory)
    seconds = busy + reached.kernel_seconds
    if not execution.graphs:
        # a compiler's wrapper launches faster than Python calls operators
        seconds = max(seconds, device.launch_seconds if execution.fused else EAGER_DISPATCH_SECONDS)
    bound = Bound.COMPUTE if arithmetic >= memory else Bound.MEMORY
    return Timed(operator=operator, seconds=seconds, bytes=size, bound=Bound.LAUNCH if seconds > 2 * busy else bound)


def bytes_of(operator: Operator, precision: Precision) -> float:
    """Bytes that cross the memory: matrices in the weights' format, all else in the activations'."""
    weights = precision.weight_bits if operator.kind in (OperatorKind.MATMUL, OperatorKind.CONV2D) else precision.activation_bits
    if operator.kind is OperatorKind.ATTENTION:
        # keys and values lie in the cache's format; they are most of what is read
        return operator.bytes(weights, max(precision.cache_bits, 8))
    return operator.bytes(weights, precision.activation_bits)


def _rate(operator: Operator, device: Gpu, reached: Efficiency, precision: Precision) -> float:
    """FLOP/s that this operator can reach."""
    if not operator.kind.on_array:
        return device.peak("fp32")
    if operator.kind is OperatorKind.ATTENTION:
        # scores and their softmax are kept in 16 bits whatever the weights are
        wide = precision.compute if precision.activation_bits >= 16 and precision.compute in ("fp32", "tf32") else "fp16"
        return device.peak(wide) * reached.compute
    share = reached.conv if operator.kind is OperatorKind.CONV2D else reached.compute
    return device.peak(precision.compute) * share
