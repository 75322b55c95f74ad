"""The children of one piece of work, and the one place that can end them all.

A cancel must take effect within 2 s whatever the worker waits for, so a thread of
its own watches for it and kills the children; who waits for a child then finds
it dead, asks the leash why, and stops.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Self, TypedDict

from engine.domain.errors import Cancelled, ChildError, StageError
from engine.domain.layout import Workers, largest
from engine.executors.spread.cluster import Cluster
from engine.sandbox import DEVICE, LEVELS, RANKS, Child, Limits, start_child

POLL_SECONDS = 0.25
ALONE = Workers(1)


class _More(TypedDict):
    """Of a child, whoever works for it."""

    readable: list[Path]
    writable: list[Path]
    limits: Limits
    log: Path
    threads: int


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
        self._cluster = Cluster()
        self._watcher = threading.Thread(target=self._watch, name="leash", daemon=True)

    def start(
        self, kind: str, *, readable: list[Path], writable: list[Path], limits: Limits, log: Path, threads: int,
        workers: Workers = ALONE, opened: Sequence[Path] = (),
    ) -> Child:  # fmt: skip
        """A sandboxed child on this leash, which drives so many workers. Raises what `check` raises.

        Workers of this host are below it in its sandbox. On several hosts each has a sandbox of its own, which reads what is to be
        `opened` and nothing else of the run's. The hosts' network keeps it from being full, and `level` is theirs: StageError where
        more is demanded, or where they cannot be placed.
        """
        more = _More(readable=readable, writable=writable, limits=limits, log=log, threads=threads)
        if workers.hosts == 1:
            return self._start(kind + RANKS * (workers.count > 1), more)
        if self._least_level == "full":
            raise StageError(
                "Workers on several hosts talk over the hosts' network, so their isolation is partial; full is demanded.",
                mend="Leave out hosts, or lower SPEEDRAIL_SANDBOX_LEVEL.", where="launch",
            )  # fmt: skip
        with self._cluster.placed(
            workers, readable=opened, limits=limits, threads=max(1, threads // workers.each),
            least_level=self._least_level, accelerators=DEVICE in kind, log=log, tick=self.check,
        ) as handed:  # fmt: skip
            child = self._start(kind, more, sockets=handed.sockets, words=handed.words)
        child.level = min(child.level, handed.level, key=LEVELS.index)
        child.further = handed.here
        return child

    def _start(self, kind: str, more: _More, sockets: Sequence[socket.socket] = (), words: Mapping[str, str] = MappingProxyType({})) -> Child:
        with self._changing:
            self.check()
            child = start_child(kind, **more, least_level=self._least_level, sockets=sockets, words=words)
            self._children.append(child)
        return child

    def expect(self, workers: Iterable[Workers]) -> None:
        """What runs to come will drive: hosts of a cluster are reserved for the largest, since they take turns."""
        self._cluster.most = largest(workers)

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
        self._cluster.close()
        if isinstance(error, ChildError):
            # the child died because we killed it
            self.check()

    def _watch(self) -> None:
        while not self._done.wait(POLL_SECONDS):
            if not self._pulled.is_set() and self._cancelled():
                self.pull(Cancelled("Cancelled on request."))
