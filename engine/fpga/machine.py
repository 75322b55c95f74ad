"""What a latency is computed from: something that multiplies, a memory, a host. Torch-free.

The arrays of this project and AMD's DPU are both machines, so that what is validated on
the published latencies of one (engine.fpga.dpu) is the very model that projects the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from engine.hardware.operators import Gemm


class Engine(Protocol):
    """What multiplies."""

    @property
    def macs_per_cycle(self) -> int: ...

    def cycles(self, gemm: Gemm) -> int:
        """All groups of a product, operands on the chip."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What does the operators that the engine does not have, and how far it is."""

    bytes_per_second: float
    latency_seconds: float
    """Of one transfer, in one direction."""
    operations_per_second: float
    """One for each element read or written; norms and softmax count twice."""


@dataclass(frozen=True, slots=True)
class RowScaling:
    """What the host does so that each row of a linear layer has a scale of its own."""

    first: bool
    """Of the layers that read these rows; the others find them scaled."""
    fetches: bool
    """The rows come from the array, else the host makes them."""
    returns: bool
    """The array reads the results, else the host does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """An engine with its memory and host. `host` None: other operators are the fabric's, at the memory's speed."""

    engine: Engine
    clock_hz: float
    memory_bytes_per_second: float
    buffer_bytes: float
    weight_bits: int = 8
    activation_bits: int = 8
    host: Host | None = None
    scaled: Mapping[str, RowScaling] | None = None
    """The layers whose rows have scales, by name; None: nobody knows yet, and it is assumed where it costs little."""
    exposed: float = 0.0
    """Share of the shorter of arithmetic and memory that does not hide behind the longer; 0: double buffering hides it."""
    call_seconds: float = 0.0
    """Of each call, whatever it computes: scaling a picture, waking up the driver."""
