"""Looks after one child from outside: memory, processes, time and what it writes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from engine.sandbox import tree
from engine.sandbox.limits import Limits

LOG_BYTES = 64 * 2**20
_POLL_SECONDS = 0.1
_DISK_SECONDS = 2.0


class Watchdog:
    """A thread that calls `overrun(sentence)` once when a limit is passed.

    `spare` processes at the top of the tree are the sandbox's own and are not counted.
    """

    def __init__(
        self, pid: int, spare: int, limits: Limits, written: list[Path], log: Path, overrun: Callable[[str], None]
    ) -> None:
        self._pid = pid
        self._spare = spare
        self._limits = limits
        self._written = written
        self._log = log
        self._overrun = overrun
        self._peak = 0
        self._stop = threading.Event()
        self._started = time.monotonic()
        self._thread = threading.Thread(target=self._watch, name=f"watchdog-{pid}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def peak_bytes(self) -> int:
        """The most memory of the tree so far.

        One process: the kernel's own high-water mark, so that nothing between two looks
        is missed. Several: the largest sum of their PSS that was seen.
        """
        self._memory_bytes()
        return self._peak

    def _watch(self) -> None:
        disk_at = 0.0
        while not self._stop.wait(_POLL_SECONDS):
            sentence = self._resources()
            if not sentence and time.monotonic() >= disk_at:
                sentence = self._disk()
                disk_at = time.monotonic() + _DISK_SECONDS
            if sentence:
                self._overrun(sentence)
                return

    def _resources(self) -> str:
        limits = self._limits
        if time.monotonic() - self._started > limits.wall_seconds:
            return f"It ran longer than its limit of {limits.wall_seconds:g} s."
        if (used := self._memory_bytes()) > limits.memory_bytes:
            return f"It used {_mib(used)} of memory; its limit is {_mib(limits.memory_bytes)}."
        if (count := len(self._processes())) > limits.processes:
            return f"It started {count} processes; its limit is {limits.processes}."
        return ""

    def _disk(self) -> str:
        written = sum(_size(path) for path in self._written)
        if written > self._limits.file_bytes:
            return f"It wrote {_mib(written)}; its limit is {_mib(self._limits.file_bytes)}."
        if self._log.stat().st_size > LOG_BYTES:
            return f"It wrote more than {_mib(LOG_BYTES)} of log."
        return ""

    def _processes(self) -> list[int]:
        return tree.descendants(self._pid)[self._spare - 1 :]

    def _memory_bytes(self) -> int:
        """Memory held now; PSS, which is slow to read, only where RSS cannot tell."""
        pids = self._processes()
        sizes = [tree.resident(pid) for pid in pids]
        used = sum(size.now for size in sizes)
        if len(pids) > 1:
            used = sum(tree.proportional_bytes(pid) for pid in pids)
        self._peak = max([self._peak, used, *(size.peak for size in sizes)])
        return used


def _size(path: Path) -> int:
    """Bytes on disk below `path`, a file or folder that may change meanwhile."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with suppress(FileNotFoundError):
                total += Path(folder, name).lstat().st_blocks * 512
    return total


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
