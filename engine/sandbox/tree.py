"""The processes below a child and the memory they hold, from /proc.

Read many times a second beside what is being timed, so it follows the kernel's own
child lists instead of scanning every process of the host.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_GONE = (FileNotFoundError, ProcessLookupError)
_KIB = 1024


@dataclass(frozen=True, slots=True)
class Resident:
    """Bytes of one process: now, and the most so far."""

    now: int
    peak: int


def descendants(pid: int) -> list[int]:
    """All processes below `pid`, parents first; `pid` itself is not among them."""
    found: list[int] = []
    frontier = [pid]
    while frontier:
        below = _children(frontier.pop())
        found += below
        frontier += below
    return found


def resident(pid: int) -> Resident:
    """Zero when the process has gone."""
    fields = {}
    with suppress(*_GONE):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name in ("VmRSS", "VmHWM"):
                fields[name] = int(rest.split()[0]) * _KIB
    return Resident(fields.get("VmRSS", 0), fields.get("VmHWM", 0))


def proportional_bytes(pid: int) -> int:
    """PSS: pages shared by n processes count 1/n. Zero when the process has gone."""
    with suppress(*_GONE):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * _KIB
    return 0


def kill_all(pids: list[int], seconds: float = 5.0) -> list[int]:
    """SIGKILL each and wait for it; those that are still there afterwards."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + seconds
    while (alive := [p for p in pids if is_alive(p)]) and time.monotonic() < deadline:
        time.sleep(0.005)
    return alive


def is_alive(pid: int) -> bool:
    """Whether it still runs; a zombie does not."""
    try:
        # the name in parentheses may hold anything, the state follows the last one
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except _GONE:
        return False


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(*_GONE):
        for task in os.scandir(f"/proc/{pid}/task"):
            with suppress(*_GONE):
                found += map(int, Path(task.path, "children").read_text().split())
    return found
