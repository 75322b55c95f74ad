"""The children of one piece of work, and the one place that can end them all.

A cancel must take effect within 2 s whatever the worker waits for, so a thread of
its own watches for it and kills the children; who waits for a child then finds
it dead, asks the leash why, and stops.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

from engine.domain.errors import Cancelled, ChildError
from engine.sandbox import Child, Limits, start_child

POLL_SECONDS = 0.25


class Stopping(BaseException):
    """The worker is being stopped: leave everything as it is, it will be resumed.

    Not an Exception, so that nobody takes it for a failure of what was being done.
    """


class Leash:
    """A context: within it children may be started; on leaving none is left.

    `cancelled` is polled every 0.25 s from a thread of its own.
    """

    def __init__(self, cancelled: Callable[[], bool], least_level: str = "none") -> None:
        self._cancelled = cancelled
        self._children: list[Child] = []
        self._changing = threading.Lock()
        self._why: BaseException | None = None
        self._pulled = threading.Event()
        self._done = threading.Event()
        self._least_level = least_level
        self._watcher = threading.Thread(target=self._watch, name="leash", daemon=True)

    def start(
        self, kind: str, *, readable: list[Path], writable: list[Path], limits: Limits, log: Path, threads: int
    ) -> Child:
        """A sandboxed child on this leash. Raises what `check` raises."""
        with self._changing:
            self.check()
            child = start_child(
                kind,
                readable=readable,
                writable=writable,
                limits=limits,
                log=log,
                threads=threads,
                least_level=self._least_level,
            )
            self._children.append(child)
        return child

    def end(self, child: Child) -> None:
        """Kill one child's whole tree."""
        child.kill()
        with self._changing:
            self._children.remove(child)

    def pull(self, why: BaseException) -> None:
        """End everything now; from here on whoever asks gets `why` raised."""
        self._why = self._why or why
        self._pulled.set()
        with self._changing:
            for child in self._children:
                child.kill()

    def check(self) -> None:
        """Raises Cancelled or Stopping when the leash was pulled."""
        if self._why:
            raise self._why

    def __enter__(self) -> Self:
        self._watcher.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._done.set()
        self._watcher.join()
        with self._changing:
            for child in self._children:
                child.kill()
            self._children.clear()
        if isinstance(error, ChildError):
            # the child died because we killed it
            self.check()

    def _watch(self) -> None:
        while not self._done.wait(POLL_SECONDS):
            if not self._pulled.is_set() and self._cancelled():
                self.pull(Cancelled("Cancelled on request."))
