"""What a host can do at best and how much its measurements scatter: `python -m engine calibrate`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from engine.domain.host import Environment


class Precision(StrEnum):
    """The number formats whose peak is measured."""

    FP32 = "fp32"
    BF16 = "bf16"
    INT8 = "int8"


@dataclass(frozen=True, slots=True)
class Peak:
    """The most multiply-adds a large matrix product reached, two operations each.

    per_second: floating-point operations, or integer ones for int8.
    """

    precision: Precision
    threads: int
    per_second: float


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """The most bytes a second that were read from memory, from an array far larger than the caches."""

    threads: int
    bytes_per_second: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """One host measured once. A later calibration replaces it.

    noise_band: relative difference that two fresh processes of the same fixed network
    stay within (see engine.compare.speedup), from `pairs` pairs of processes.
    canary_seconds: the canary's latency on all cores while nothing else ran.
    """

    host: str
    measured_at: datetime
    environment: Environment
    peaks: tuple[Peak, ...]
    bandwidths: tuple[Bandwidth, ...]
    noise_band: float
    pairs: int
    canary_seconds: float
    remarks: tuple[str, ...] = ()

    def peak(self, precision: Precision | str, threads: int) -> float | None:
        """Operations a second at this precision, or None where that was not measured.

        None for a precision the host has no instructions for, and for another number of
        threads than those measured (1 and all cores).
        """
        return next((p.per_second for p in self.peaks if (p.precision, p.threads) == (precision, threads)), None)

    def bandwidth(self, threads: int) -> float | None:
        """Bytes read a second, or None for a number of threads that was not measured."""
        return next((b.bytes_per_second for b in self.bandwidths if b.threads == threads), None)
