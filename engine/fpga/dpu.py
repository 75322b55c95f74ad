"""AMD's DPU (DPUCZDX8G, configuration B4096) as a machine: what this project's model is validated on.

Its parallelism is published (PG338, "DPU configuration": 8 pixels × 16 input channels ×
16 output channels a cycle); what the published end-to-end latencies have beside it are
three constants, fitted on three rows and held against all others: benchmarks/fpga_dpu.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.fpga.machine import Machine
from engine.hardware.operators import Gemm

PIXELS = 8
CHANNELS = 16
DEPTHWISE_PIXELS = 4
"""Pixels a cycle of a depthwise convolution, on 16 channels: half, as its unit has half of the adders. Assumed."""
BUFFER_BYTES = 257 * 36 * 1024 / 8
"""257 block RAMs of 36 Kbit (PG338, resource utilisation of B4096 with low RAM usage)."""
CLOCK_HZ = {"zcu104": 300e6, "zcu102": 281e6}
"""As stated with the published tables."""


@dataclass(frozen=True, slots=True)
class DpuEngine:
    """B4096: 2,048 products a cycle."""

    @property
    def macs_per_cycle(self) -> int:
        return PIXELS * CHANNELS * CHANNELS

    def cycles(self, gemm: Gemm) -> int:
        """Rows are pixels; channels that do not fill the array are lost."""
        if gemm.groups > 1 and gemm.n == 1:
            return -(-gemm.m // DEPTHWISE_PIXELS) * -(-gemm.groups // CHANNELS) * gemm.k
        return gemm.groups * -(-gemm.m // PIXELS) * -(-gemm.k // CHANNELS) * -(-gemm.n // CHANNELS)


@dataclass(frozen=True, slots=True, kw_only=True)
class DpuConstants:
    """What is fitted."""

    call_seconds: float
    """Scaling the picture, starting the DPU, softmax."""
    memory_bytes_per_second: float
    """Of one core, over its memory ports."""
    exposed: float
    """Share of the shorter of arithmetic and loading that does not hide behind the longer."""


def dpu(board: str, constants: DpuConstants) -> Machine:
    """One B4096 core on a board of the published tables."""
    return Machine(
        engine=DpuEngine(), clock_hz=CLOCK_HZ[board],
        memory_bytes_per_second=constants.memory_bytes_per_second, buffer_bytes=BUFFER_BYTES,
        exposed=constants.exposed, call_seconds=constants.call_seconds,
    )  # fmt: skip
