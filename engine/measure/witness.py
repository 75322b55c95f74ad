"""What the machine did beside the timed processes, from /proc and /sys (worker side).

Read between rounds, never during one: what is timed shares the cores with the reader.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from engine.sandbox import tree

_TICK = os.sysconf("SC_CLK_TCK")
_GONE = (FileNotFoundError, ProcessLookupError)


@dataclass(frozen=True, slots=True)
class Reading:
    """Counters at one moment: seconds of all cores since boot, and of our own processes.

    at: monotonic seconds. mhz: mean clock of the cores, None where it cannot be read.
    threads: of the watched processes.
    """

    at: float
    busy: float
    stolen: float
    own: float
    mhz: float | None
    threads: int


@dataclass(frozen=True, slots=True)
class Passage:
    """What lies between two readings: cores that others kept busy, and the share stolen."""

    other_load: float
    steal: float


def read(roots: Iterable[int]) -> Reading:
    """`roots`: processes whose descendants are timed; this process is counted as our own too."""
    watched = [pid for root in roots for pid in tree.descendants(root)]
    found = [_used(pid) for pid in watched]
    busy, stolen = _cores()
    own = sum(seconds for seconds, _ in found) + time.process_time()
    return Reading(time.monotonic(), busy, stolen, own, _mhz(), sum(threads for _, threads in found))


def between(first: Reading, then: Reading, cores: int) -> Passage:
    """Only what the kernel's ticks can tell: one a core is left out of account, which matters in short rounds."""
    seconds = max(then.at - first.at, 1e-9)
    unsure = cores / _TICK
    others = (then.busy - first.busy) - (then.own - first.own) - unsure
    stolen = then.stolen - first.stolen - unsure
    return Passage(max(0.0, others / seconds), max(0.0, stolen / seconds / cores))


def _cores() -> tuple[float, float]:
    """Busy and stolen seconds of all cores: user, nice, system, irq, softirq; steal.

    Guest time is contained in user time.
    """
    with suppress(*_GONE):
        user, nice, system, _, _, irq, soft, stolen = map(int, Path("/proc/stat").read_text().split()[1:9])
        return (user + nice + system + irq + soft) / _TICK, stolen / _TICK
    return 0.0, 0.0


def _used(pid: int) -> tuple[float, int]:
    """CPU seconds and threads of one process; nothing of one that has gone."""
    with suppress(*_GONE):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICK, int(fields[17])
    return 0.0, 0


def _mhz() -> float | None:
    """The cores' mean clock now."""
    clocks = [
        int(path.read_text()) / 1e3
        for path in Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq")
    ]
    if not clocks:
        with suppress(*_GONE):
            lines = Path("/proc/cpuinfo").read_text().splitlines()
            clocks = [float(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz")]
    return sum(clocks) / len(clocks) if clocks else None
