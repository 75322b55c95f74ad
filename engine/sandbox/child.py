"""The worker's handle on a sandboxed child: a channel, limits, an end."""

from __future__ import annotations

import json
import select
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from engine.domain.codec import from_data
from engine.domain.errors import ChildError, InvalidInput, Problem
from engine.domain.experiment import Progress
from engine.sandbox import tree
from engine.sandbox.limits import Limits
from engine.sandbox.watchdog import Watchdog

T = TypeVar("T")

MESSAGE_BYTES = 16 * 2**20
_LOG_TAIL = 4000
_TICK_SECONDS = 0.2
_PATIENCE_SECONDS = 3.0


def _nothing() -> None:
    return None


def _unheard(_: Progress) -> None:
    return None


class Child:
    """A running sandboxed child. Used by one thread; `kill` may come from any.

    `level` is what isolation holds: full, partial or none; `isolation` names its parts. `further` are processes of this
    host that work for it without being below it, each the root of a tree.
    """

    def __init__(self, process: subprocess.Popen[bytes], channel: socket.socket, log: Path, scratch: Path) -> None:
        self.pid = process.pid
        self.level = "none"
        self.isolation: tuple[str, ...] = ()
        self.log = log
        self.further: tuple[int, ...] = ()
        self.scratch = scratch
        self._process = process
        self._channel = channel
        self._received = bytearray()
        self._why = ""
        self._lock = threading.Lock()
        self._watchdog: Watchdog | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()

    def watch(self, limits: Limits, written: list[Path]) -> None:
        """Begin to enforce `limits`."""
        spare = 2 if "pid" in self.isolation else 1
        self._watchdog = Watchdog(self.pid, spare, limits, written, self.log, self._end)
        self._watchdog.start()

    def send(self, message: dict[str, Any]) -> None:
        """Raises ChildError when the child has gone."""
        try:
            self._channel.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise self._death() from error

    def receive(self, timeout: float) -> dict[str, Any]:
        """The next message. Raises ChildError: it died (with the log's tail) or was silent too long."""
        message = self.poll(timeout)
        if message is None:
            raise self._silent(timeout)
        return message

    def poll(self, timeout: float) -> dict[str, Any] | None:
        """The next message, or None when none came within `timeout` seconds. Raises ChildError."""
        deadline = time.monotonic() + timeout
        while (end := self._received.find(b"\n")) < 0:
            if len(self._received) > MESSAGE_BYTES:
                raise self._broken("a line without an end")
            if not self._read(max(0.0, deadline - time.monotonic())):
                return None
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        return self._parse(line)

    def ask(
        self,
        message: dict[str, Any],
        *,
        timeout: float,
        report: Callable[[Progress], None] = _unheard,
        tick: Callable[[], None] = _nothing,
    ) -> Any:
        """Send, pass progress on to `report`, return the data of the result.

        `tick` is called a few times a second; what it raises (Cancelled) kills the child
        and comes through. Raises the child's own problem as its error, ChildError when
        the child dies or has no result within `timeout` seconds.
        """
        self.send(message)
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            try:
                tick()
            except BaseException:
                self.kill()
                raise
            answer = self.poll(min(_TICK_SECONDS, left)) or {}
            if "problem" in answer:
                raise _shortened(self._decode(Problem, answer["problem"])).as_error()
            if "result" in answer:
                return answer["result"]
            if "progress" in answer:
                report(self._decode(Progress, answer["progress"]))
            elif answer:
                raise self._broken(f"a message with {sorted(answer)[:3]}")
        raise self._silent(timeout)

    def peak_pss_bytes(self) -> int:
        """The most memory the process tree has held so far (see Watchdog.peak_bytes)."""
        return self._watchdog.peak_bytes() if self._watchdog else 0

    def ending(self) -> str:
        """How it ended, or which limit it passed; empty while it runs."""
        code = self._process.poll()
        return "" if code is None else self._why or _ending(code)

    def kill(self) -> None:
        """End the whole tree; returns when nothing is left. May be called again."""
        with self._lock:
            if self._watchdog:
                self._watchdog.stop()
            if self._process.poll() is None:
                self._hang_up()
            self._channel.close()
            shutil.rmtree(self.scratch, ignore_errors=True)

    def _hang_up(self) -> None:
        """The supervisor ends everything when the channel closes; help it if it does not."""
        everyone = [*tree.descendants(self.pid), self.pid]
        with suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)
        try:
            self._process.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if left := tree.kill_all(everyone):
            raise ChildError(f"Processes {left} could not be killed.", where=self.log.name)

    def _end(self, why: str) -> None:
        self._why = self._why or why
        self.kill()

    def _read(self, seconds: float) -> bool:
        """Whether something came. Raises ChildError when the channel has closed."""
        try:
            ready, _, _ = select.select([self._channel], [], [], seconds)
            came = self._channel.recv(1 << 16) if ready else None
        except (OSError, ValueError):  # closed by `kill` from another thread
            came = b""
        if came == b"":
            raise self._death()
        self._received += came or b""
        return came is not None

    def _parse(self, line: bytes) -> dict[str, Any]:
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            raise self._broken("a line that is not JSON") from None
        if not isinstance(message, dict):
            raise self._broken("a message that is not an object")
        return message

    def _decode(self, kind: type[T], data: Any) -> T:
        try:
            return from_data(kind, data)
        except InvalidInput:
            raise self._broken(f"what is no {kind.__name__}") from None

    def _silent(self, seconds: float) -> ChildError:
        self.kill()
        return self._error(f"The child had no answer within {seconds:g} s.")

    def _broken(self, said: str) -> ChildError:
        self.kill()
        return self._error(f"The child broke the protocol: it sent {said}.")

    def _death(self) -> ChildError:
        self.kill()
        code = self._process.returncode
        return self._error(self._why or f"The child ended unexpectedly ({_ending(code)}).")

    def _error(self, what: str) -> ChildError:
        mend = "Its log says more." if self.log.stat().st_size else ""
        return ChildError(what, mend=mend, where=self.log.name, detail=self._log_tail())

    def _log_tail(self) -> str:
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - _LOG_TAIL))
            return log.read().decode(errors="replace")


def _shortened(problem: Problem) -> Problem:
    """A child's words go to the database and to people: not megabytes of them."""
    return Problem(
        problem.kind[:100], problem.what[:2000], problem.mend[:2000], problem.where[:500], problem.detail[-20_000:]
    )


def _ending(code: int | None) -> str:
    """What an exit code means; the supervisor passes a signal on as 128 + its number."""
    number = -code if code is not None and code < 0 else (code or 0) - 128
    if number == signal.SIGKILL:
        return "SIGKILL, perhaps because the host ran out of memory"
    if number in signal.valid_signals():
        return signal.Signals(number).name
    return f"exit code {code}"
