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


class Leash:
    """A context: within it children may be started; on leaving none is left.

    `cancelled` is polled every 0.25 s from a thread of its own.
    """

    def __init__(self, cancelled: Callable[[], bool]) -> None:
        self._cancelled = cancelled
        self._children: list[Child] = []
        self._changing = threading.Lock()
        self._pulled = threading.Event()
        self._done = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="leash", daemon=True)

    def start(
        self, kind: str, *, readable: list[Path], writable: list[Path], limits: Limits, log: Path, threads: int
    ) -> Child:
        """A sandboxed child on this leash. Raises Cancelled once somebody pulled it."""
        with self._changing:
            self.check()
            child = start_child(
                kind, readable=readable, writable=writable, limits=limits, log=log, threads=threads
            )
            self._children.append(child)
        return child

    def end(self, child: Child) -> None:
        """Kill one child's whole tree."""
        child.kill()
        with self._changing:
            self._children.remove(child)

    def pull(self) -> None:
        """End everything now; nothing can be started from here on."""
        self._pulled.set()
        with self._changing:
            for child in self._children:
                child.kill()

    def check(self) -> None:
        """Raises Cancelled when the leash was pulled."""
        if self._pulled.is_set():
            raise Cancelled("Cancelled on request.")

    def wait(self, seconds: float) -> None:
        """Sleep, but wake and raise Cancelled when the leash is pulled."""
        if self._pulled.wait(seconds):
            self.check()

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
                self.pull()
