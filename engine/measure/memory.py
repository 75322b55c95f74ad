"""Memory of this process, as the kernel counts it (child side)."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")
_SAMPLE_SECONDS = 0.001


def resident_bytes() -> int:
    """What this process has in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


class Growth:
    """How resident memory grew from stage to stage of a model's life, from its making on."""

    def __init__(self) -> None:
        self._before = resident_bytes()
        self.by_opening = 0
        self.by_calling = 0

    def opened(self) -> None:
        self.by_opening = max(0, resident_bytes() - self._before)

    def warm(self) -> None:
        """The model answered a few times: what it needs for answers it has by now."""
        self.by_calling = max(0, resident_bytes() - self._before - self.by_opening)


def peak_while(call: Callable[[], object]) -> int:
    """The most that was resident while `call` ran, looked at every millisecond."""
    peak = resident_bytes()
    ended = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.wait(_SAMPLE_SECONDS):
            peak = max(peak, resident_bytes())

    watcher = threading.Thread(target=watch, name="memory", daemon=True)
    watcher.start()
    try:
        call()
    finally:
        peak = max(peak, resident_bytes())
        ended.set()
        watcher.join()
    return peak
