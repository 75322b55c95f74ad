"""File locks that the kernel releases when their holder dies.

Linux' open-file-description locks: owned by the open file, as flock's are, so that two
threads exclude each other, and unlike those they can be asked after without being taken
for a moment, which would make somebody else's attempt fail.

The host lock keeps measurements from disturbing each other: whatever loads a
model (an experiment, an intake, the command line) holds it. It is fair: who
waits stands at a turnstile, so that a long experiment which offers a turn
between two pieces of work (`HostLock.offer_turn`) really gives it away.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

POLL_SECONDS = 0.1
_FLOCK = struct.Struct("@hhqqi4x")
"""struct flock: type, whence, start, length (0: to the end), pid (0 for this kind of lock)."""
_WHOLE_FILE = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)


class FileLock:
    """An exclusive lock on `path`. Not inherited by children; not re-entrant.

    The file holds who has it (a pid and a note), for messages only: the lock itself
    is the kernel's. Two `FileLock`s on one path exclude each other within a process too.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        return self._descriptor is not None

    def try_acquire(self, note: str = "") -> bool:
        """Take the lock if it is free."""
        assert self._descriptor is None, f"{self.path} is already held here"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _WHOLE_FILE)
        except (BlockingIOError, PermissionError):
            os.close(descriptor)
            return False
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()} {note}".encode(), 0)
        self._descriptor = descriptor
        return True

    def acquire(self, note: str = "", wait: Callable[[], None] = lambda: None) -> None:
        """Take the lock, calling `wait` every 0.1 s until it is free; `wait` may raise."""
        while not self.try_acquire(note):
            wait()
            time.sleep(POLL_SECONDS)

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        if not self.held:
            self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def is_locked(path: Path) -> bool:
    """Whether somebody holds the lock on `path` right now; asking disturbs nobody."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _WHOLE_FILE)
    finally:
        os.close(descriptor)
    return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)


def holder(path: Path) -> str:
    """The pid and note of who took the lock last, or an empty text."""
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return ""


class HostLock:
    """One at a time for everything heavy on this host."""

    def __init__(self, home: Path) -> None:
        self._lock = FileLock(home / "host.lock")
        self._turnstile = FileLock(home / "host.turnstile.lock")

    def acquire(self, note: str, wait: Callable[[str], None] = lambda holder: None) -> None:
        """Take the host; `wait(holder)` is called every 0.1 s meanwhile and may raise."""

        def tell() -> None:
            wait(holder(self._lock.path))

        with self._entered(tell):
            self._lock.acquire(note, tell)

    def release(self) -> None:
        self._lock.release()

    def offer_turn(self, note: str, wait: Callable[[str], None] = lambda holder: None) -> None:
        """Between two pieces of work: let through who waits, then go on."""
        if is_locked(self._turnstile.path):
            self.release()
            self.acquire(note, wait)

    @contextmanager
    def hold(self, note: str, wait: Callable[[str], None] = lambda holder: None) -> Iterator[Self]:
        self.acquire(note, wait)
        try:
            yield self
        finally:
            self.release()

    @contextmanager
    def _entered(self, wait: Callable[[], None]) -> Iterator[None]:
        self._turnstile.acquire(wait=wait)
        try:
            yield
        finally:
            self._turnstile.release()
