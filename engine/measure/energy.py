"""Joules from a real meter, where the host has one (worker side).

RAPL counts what the processor package draws since boot, whoever caused it, so a reading is
of the whole machine: rounds are measured while nothing else should run. Nothing is
estimated: without a meter there is no number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from engine.measure.boards import Board, board_meter

POWERCAP = Path("/sys/class/powercap")


class Meter(Protocol):
    """Something that counts joules: a processor package, a GPU."""

    def read(self) -> float:
        """Joules since some moment; only differences mean something."""
        ...


@dataclass(slots=True)
class RaplMeter:
    """The sum of the package domains under powercap. Counters wrap; a reading goes on upwards."""

    domains: Sequence[Path]
    _last: list[int] | None = None
    _joules: float = 0.0

    def read(self) -> float:
        now = [_number(domain / "energy_uj") for domain in self.domains]
        if self._last is not None:
            for domain, before, after in zip(self.domains, self._last, now, strict=True):
                step = after - before
                if step < 0:
                    step += _number(domain / "max_energy_range_uj")
                self._joules += step / 1e6
        self._last = now
        return self._joules


@dataclass(frozen=True, slots=True)
class _Sum:
    """Several meters as one."""

    meters: Sequence[Meter]

    def read(self) -> float:
        return sum(meter.read() for meter in self.meters)


def host_meter(root: Path = POWERCAP, boards: Sequence[Board] = ()) -> Meter | None:
    """The processor's meter and that of `boards`; None where there is none or this user may not read it."""
    packages = [domain for domain in sorted(root.glob("*-rapl:*")) if _is_package(domain)]
    found = [meter for meter in (RaplMeter(packages) if packages else None, board_meter(boards)) if meter]
    return found[0] if len(found) == 1 else _Sum(found) if found else None


def _is_package(domain: Path) -> bool:
    """Packages only: their cores and memory controllers are counted in them."""
    try:
        return (domain / "name").read_text().startswith("package") and _number(domain / "energy_uj") >= 0
    except (OSError, ValueError):
        return False


def _number(file: Path) -> int:
    return int(file.read_text())
