"""Starting worker processes and knowing how each of them is."""

from __future__ import annotations

import hmac
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import engine
from engine.domain.errors import StageError
from engine.executors.spread import wire
from engine.sandbox import tree

LOOPBACK = "127.0.0.1"
LOG_TAIL = 2000
_PACKAGE = Path(engine.__path__[0])
_START = """
import importlib.util, runpy, sys
package = sys.argv.pop(1)
spec = importlib.util.spec_from_file_location("engine", package + "/__init__.py", submodule_search_locations=[package])
sys.modules["engine"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["engine"])
runpy.run_module("engine.executors.spread.worker", run_name="__main__")
"""
"""Inside a sandbox the folder around `engine` cannot be searched, so the package is named instead of found."""


@dataclass(frozen=True, slots=True)
class Held:
    """Memory of one worker in bytes: its share of what it holds with others (PSS), and as if it shared nothing (RSS).

    elsewhere: the most it ever held, where that is outside of the driver's sandbox.
    """

    pss: int
    rss: int
    elsewhere: int = 0


STOPPED = "it is stopped (SIGSTOP)"
CUT = "its host does not answer: it is down, or the link to it is cut"
"""What makes others wait too."""


@dataclass(slots=True, kw_only=True)
class Peer(ABC):
    """A worker as the driver sees it: rank `rank` of a group, on `host`."""

    rank: int
    host: str
    pid: int
    connection: socket.socket
    address: str = LOOPBACK
    """Where others reach it."""
    port: int
    """Free there a moment ago: where its group meets if it is the first."""
    device: int
    """Which of its host's accelerators it takes."""
    ahead: float = 0.0
    """Seconds by which its host's monotonic clock is ahead of the driver's."""

    @property
    def name(self) -> str:
        return f"rank {self.rank} on {self.host} (pid {self.pid})"

    @abstractmethod
    def is_gone(self) -> bool: ...

    @abstractmethod
    def cause_of_silence(self) -> str:
        """Of a worker that does not answer."""

    @abstractmethod
    def cause_of_death(self) -> str: ...

    @abstractmethod
    def log_tail(self) -> str: ...

    @abstractmethod
    def memory(self) -> Held:
        """What it holds now."""

    @abstractmethod
    def end(self) -> None:
        """SIGKILL, which also ends what is stopped; returns when it has gone."""


@dataclass(slots=True, kw_only=True)
class LocalPeer(Peer):
    """A process below the driver."""

    process: subprocess.Popen[bytes]
    log: IO[bytes]
    """What it wrote: a file without a name, which is gone when nobody holds it any more."""

    def is_gone(self) -> bool:
        return self.process.poll() is not None

    def cause_of_silence(self) -> str:
        return cause_of_silence(self.pid)

    def cause_of_death(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(2.0)
        code = self.process.returncode
        if code is None:
            return "its connection closed"
        if code < 0:
            return f"it was killed by {signal.Signals(-code).name}"
        return f"it ended with exit code {code}"

    def log_tail(self) -> str:
        return "" if self.log.closed else log_tail(self.log)

    def memory(self) -> Held:
        return held_by(self.pid)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.connection.close()
        self.log.close()


@dataclass(frozen=True, slots=True)
class _Started:
    process: subprocess.Popen[bytes]
    log: IO[bytes]

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.log.close()


@dataclass(slots=True)
class Starter:
    """Starts workers of this host and waits until they have called back."""

    threads: int
    patience: float = 120.0
    token: str = field(default_factory=lambda: secrets.token_hex(16))

    def start(self, ranks: int) -> list[LocalPeer]:
        """`ranks` connected workers, in order. Raises StageError; then none is left."""
        listener = socket.create_server((LOOPBACK, 0), backlog=ranks)
        started: list[_Started] = []
        peers: dict[int, LocalPeer] = {}
        ports = free_ports(ranks)
        deadline = time.monotonic() + self.patience
        try:
            for rank in range(ranks):
                started.append(self._start(rank, listener.getsockname()[1]))
            while len(peers) < ranks:
                _look_for_dead(started)
                if time.monotonic() > deadline:
                    missing = sorted(set(range(ranks)) - set(peers))
                    raise StageError(f"Rank {missing[0]} did not start within {self.patience:g} s.", where="launch")
                listener.settimeout(0.1)
                with suppress(TimeoutError):
                    peer = self._accept(listener.accept()[0], started, ports)
                    peers[peer.rank] = peer
        except BaseException:
            for each in started:
                each.end()
            raise
        finally:
            listener.close()
        return [peers[rank] for rank in range(ranks)]

    def _start(self, rank: int, port: int) -> _Started:
        counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(self.threads))
        # ranks wait for each other: whoever waits must not burn the core that the other one needs
        waiting = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0", "GLOO_SOCKET_IFNAME": "lo"}
        log = tempfile.TemporaryFile()  # noqa: SIM115 (the peer closes it)
        process = subprocess.Popen(
            [sys.executable, "-P", "-s", "-c", _START, str(_PACKAGE), str(rank), str(port)],
            stdin=subprocess.PIPE, stdout=log, stderr=log, env={**os.environ, **counts, **waiting},
        )  # fmt: skip
        assert process.stdin is not None
        # not on the command line, which every process of the host can read
        process.stdin.write(f"{self.token}\n".encode())
        process.stdin.close()
        return _Started(process, log)

    def _accept(self, connection: socket.socket, started: list[_Started], ports: Sequence[int]) -> LocalPeer:
        hello, _ = wire.receive(connection, time.monotonic() + 10.0)
        if not hmac.compare_digest(str(hello.get("token")), self.token):
            raise StageError("Something else than a worker called.", where="launch")
        rank = int(hello["rank"])
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        own = started[rank]
        return LocalPeer(
            rank=rank, host=str(hello["host"]), pid=int(hello["pid"]), connection=connection, port=ports[rank], device=rank,
            process=own.process, log=own.log,
        )  # fmt: skip


def free_ports(count: int) -> list[int]:
    """Of this host. Held together for a moment, so that no two are the same."""
    with ExitStack() as held:
        return [int(held.enter_context(socket.create_server(("", 0))).getsockname()[1]) for _ in range(count)]


def cause_of_silence(pid: int) -> str:
    """What /proc says of a worker of this host that does not answer."""
    state = _state(pid)
    return {"T": STOPPED, "t": "a debugger holds it", "D": "it waits for a device"}.get(
        state, "it is still working or waits for another rank" if state else "it has gone"
    )


def held_by(pid: int) -> Held:
    return Held(tree.proportional_bytes(pid), tree.resident(pid).now)


def _look_for_dead(started: list[_Started]) -> None:
    for rank, each in enumerate(started):
        if each.process.poll() is not None:
            raise StageError(
                f"Rank {rank} ended with exit code {each.process.returncode} before it was ready.", where="launch",
                detail=log_tail(each.log),
            )  # fmt: skip


def log_tail(log: IO[bytes]) -> str:
    """The last of what a worker wrote."""
    # pread, because the worker writes where this file's offset is
    size = os.fstat(log.fileno()).st_size
    return os.pread(log.fileno(), LOG_TAIL, max(0, size - LOG_TAIL)).decode(errors="replace")


def _state(pid: int) -> str:
    """The letter that the kernel gives a process's state; empty when it has gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return ""
