"""What a process and torch's compiler count beside the clock, as evidence for causes."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from engine.domain.evidence import Counters


class Counting:
    """From its making on; CPU time and switches during turns only."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._seconds = 0.0
        self._cpu = 0.0
        self._switches = 0
        self._before = _graphs()

    @contextmanager
    def turn(self) -> Iterator[None]:
        begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
        try:
            yield
        finally:
            after = resource.getrusage(resource.RUSAGE_SELF)
            self._seconds += time.perf_counter() - begin
            self._cpu += after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            self._switches += after.ru_nivcsw - before.ru_nivcsw

    def counters(self) -> Counters:
        seconds = self._seconds or 1.0
        return Counters(
            threads=self._threads, busy_cores=self._cpu / seconds, involuntary_switches=self._switches / seconds,
            compiled_before=self._before, compiled_while_timed=_graphs() - self._before,
        )  # fmt: skip


def _graphs() -> int:
    """Graphs that torch.compile has made in this process; 0 where torch's compiler was never loaded."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    return int(dynamo.counters["stats"]["unique_graphs"]) if dynamo else 0

