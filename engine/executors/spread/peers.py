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
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import engine
from engine.domain.errors import StageError
from engine.executors.spread import wire

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


@dataclass(slots=True)
class Peer:
    """A worker as the driver sees it: rank `rank` of a group, on `host`."""

    rank: int
    host: str
    pid: int
    connection: socket.socket
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def name(self) -> str:
        return f"rank {self.rank} on {self.host} (pid {self.pid})"

    def cause_of_silence(self) -> str:
        """What /proc says of a worker that does not answer."""
        state = _state(self.pid)
        return {"T": "it is stopped (SIGSTOP)", "t": "a debugger holds it", "D": "it waits for a device"}.get(
            state, "it is still working or waits for another rank" if state else "it has gone"
        )

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
        if not self.log.exists():
            return ""
        text = self.log.read_bytes()[-LOG_TAIL:]
        return text.decode(errors="replace")

    def end(self) -> None:
        """SIGKILL, which also ends what is stopped; returns when it has gone."""
        self.process.kill()
        self.process.wait()
        self.connection.close()


@dataclass(slots=True)
class Starter:
    """Starts workers of this host and waits until they have called back."""

    threads: int
    patience: float = 120.0
    token: str = field(default_factory=lambda: secrets.token_hex(16))

    def start(self, ranks: int) -> list[Peer]:
        """`ranks` connected workers, in order. Raises StageError; then none is left."""
        listener = socket.create_server(("127.0.0.1", 0), backlog=ranks)
        place = Path(tempfile.mkdtemp(prefix="ranks-"))
        started = [self._start(rank, listener.getsockname()[1], place) for rank in range(ranks)]
        peers: dict[int, Peer] = {}
        deadline = time.monotonic() + self.patience
        try:
            while len(peers) < ranks:
                self._look_for_dead(started, place)
                if time.monotonic() > deadline:
                    missing = sorted(set(range(ranks)) - set(peers))
                    raise StageError(f"Rank {missing[0]} did not start within {self.patience:g} s.", where="launch")
                listener.settimeout(0.1)
                with suppress(TimeoutError):
                    peer = self._accept(listener.accept()[0], started, place)
                    peers[peer.rank] = peer
        except BaseException:
            for process in started:
                process.kill()
                process.wait()
            raise
        finally:
            listener.close()
        return [peers[rank] for rank in range(ranks)]

    def _start(self, rank: int, port: int, place: Path) -> subprocess.Popen[bytes]:
        counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(self.threads))
        # ranks wait for each other: whoever waits must not burn the core that the other one needs
        waiting = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0", "GLOO_SOCKET_IFNAME": "lo"}
        with (place / f"rank-{rank}.log").open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-P", "-s", "-c", _START, str(_PACKAGE), str(rank), str(port)],
                stdin=subprocess.PIPE, stdout=output, stderr=output, env={**os.environ, **counts, **waiting},
            )  # fmt: skip
        assert process.stdin is not None
        # not on the command line, which every process of the host can read
        process.stdin.write(f"{self.token}\n".encode())
        process.stdin.close()
        return process

    def _accept(self, connection: socket.socket, started: list[subprocess.Popen[bytes]], place: Path) -> Peer:
        hello, _ = wire.receive(connection, time.monotonic() + 10.0)
        if not hmac.compare_digest(str(hello.get("token")), self.token):
            raise StageError("Something else than a worker called.", where="launch")
        rank = int(hello["rank"])
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return Peer(
            rank, str(hello["host"]), int(hello["pid"]), connection, started[rank], place / f"rank-{rank}.log"
        )

    def _look_for_dead(self, started: list[subprocess.Popen[bytes]], place: Path) -> None:
        for rank, process in enumerate(started):
            if process.poll() is not None:
                log = (place / f"rank-{rank}.log").read_bytes()[-LOG_TAIL:].decode(errors="replace")
                raise StageError(
                    f"Rank {rank} ended with exit code {process.returncode} before it was ready.", where="launch", detail=log
                )


def _state(pid: int) -> str:
    """The letter that the kernel gives a process's state; empty when it has gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return ""
