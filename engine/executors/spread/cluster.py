"""The hosts of a Ray cluster as the worker knows them: places a model's workers and takes their calls. Torch-free.

    worker ── launcher (clustered, Ray) ─ ─ Ray ─ ─ keeper, one a host ── ranks, each in a sandbox of its own
       │ takes their calls, checks the token, hands the connections over
    driver, in its sandbox without a network ═════ connections ═════ keepers and ranks

The connections are all that holds them: when the driver has gone, the keepers end their ranks.
"""

from __future__ import annotations

import hmac
import json
import queue
import secrets
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from engine.domain.codec import as_data
from engine.domain.errors import Problem, StageError
from engine.domain.layout import Workers
from engine.executors.spread import wire
from engine.executors.spread.distant import HANDED, watch_link
from engine.executors.spread.keeper import Order
from engine.host import PACKAGE, code
from engine.sandbox import LEVELS, Limits

START_SECONDS = 120.0
"""Ray connects, and then keepers call back, within so long."""
_LOOK_SECONDS = 0.1
_HELLO_SECONDS, _MOST_HELLO = 2.0, 100_000


@dataclass(frozen=True, slots=True)
class Handed:
    """What a driver is started with: connections, and its environment's word about them.

    level: the least of the workers' isolation. here: those of its own host, each the root of a tree.
    """

    sockets: tuple[socket.socket, ...]
    words: dict[str, str]
    level: str
    here: tuple[int, ...]


class Cluster:
    """Starts its launcher when it is first asked. When it is closed, Ray ends all that was placed.

    most: workers of runs to come cover no more than these.
    """

    def __init__(self) -> None:
        self.most = Workers(1)
        self._process: subprocess.Popen[str] | None = None
        self._said: queue.Queue[dict[str, Any]] = queue.Queue()
        self._address = ""
        self._number = 0

    @contextmanager
    def placed(
        self, workers: Workers, *, readable: Sequence[Path], limits: Limits, threads: int, least_level: str, accelerators: bool, log: Path,
        tick: Callable[[], None],
    ) -> Iterator[Handed]:  # fmt: skip
        """Workers that wait for their driver, which is to be started within; afterwards they live as long as it does.

        tick: called a few times a second; may raise. Raises StageError or what else a host refuses with.
        """
        self._launch(log, tick)
        with ExitStack() as exits:
            listener = exits.enter_context(socket.create_server((self._address, 0), backlog=workers.count + workers.hosts))
            order = Order(
                address=self._address, port=listener.getsockname()[1], token=secrets.token_hex(16), code=code(),
                readable=tuple(str(path.resolve()) for path in readable), threads=threads, wall_seconds=limits.wall_seconds,
                least_level=least_level, accelerators=accelerators,
            )  # fmt: skip
            self._number += 1
            self._tell({"number": self._number, "workers": as_data(workers), "most": as_data(self.most), "order": as_data(order)})
            yield self._called(listener, order.token, workers, exits, tick)

    def close(self) -> None:
        if self._process:
            assert self._process.stdin
            with suppress(BrokenPipeError):
                self._process.stdin.close()
            try:
                self._process.wait(5.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _launch(self, log: Path, tick: Callable[[], None]) -> None:
        if self._process and self._process.poll() is None:
            return
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "engine.executors.spread.clustered"], cwd=PACKAGE.parent, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=errors, text=True,
            )  # fmt: skip
        assert self._process.stdout
        self._said = queue.Queue()
        threading.Thread(target=_listen, args=(self._process.stdout, self._said), name="launcher", daemon=True).start()
        deadline, self._address = time.monotonic() + START_SECONDS, ""
        while not self._address:
            tick()
            _demand(deadline, "Ray did not connect")
            with suppress(queue.Empty):
                self._address = str(_checked(self._said.get(timeout=_LOOK_SECONDS))["address"])

    def _tell(self, message: dict[str, Any]) -> None:
        assert self._process and self._process.stdin
        with suppress(BrokenPipeError):  # what it ended with is heard in a moment
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()

    def _called(self, listener: socket.socket, token: str, workers: Workers, exits: ExitStack, tick: Callable[[], None]) -> Handed:
        """All of them, with what they say of themselves. Raises StageError."""
        silent: list[socket.socket] = []
        ranks: dict[int, socket.socket] = {}
        keepers: list[tuple[socket.socket, dict[str, Any]]] = []
        deadline = time.monotonic() + START_SECONDS
        while len(ranks) < workers.count or len(keepers) < workers.hosts:
            tick()
            _demand(deadline, f"{workers.count - len(ranks)} of {workers.count} workers did not call")
            with suppress(queue.Empty):
                said = self._said.get_nowait()
                if said.get("number", self._number) == self._number:
                    _checked(said)
            for ready in select.select([listener, *silent], [], [], _LOOK_SECONDS)[0]:
                if ready is listener:
                    silent.append(exits.enter_context(watch_link(listener.accept()[0])))
                    continue
                silent.remove(ready)
                hello = _hello(ready, token)
                if "workers" in hello:
                    keepers.append((ready, hello))
                elif "rank" in hello:
                    ranks[int(hello["rank"])] = ready
        return self._handed(ranks, keepers)

    def _handed(self, ranks: dict[int, socket.socket], keepers: list[tuple[socket.socket, dict[str, Any]]]) -> Handed:
        described = [
            {**own, "connection": ranks[own["rank"]].fileno(), "keeper": keeper.fileno()} for keeper, hello in keepers for own in hello["workers"]
        ]
        described.sort(key=lambda own: int(own["rank"]))
        here = [hello for _, hello in keepers if hello["workers"][0]["address"] == self._address]
        return Handed(
            sockets=(*ranks.values(), *(keeper for keeper, _ in keepers)),
            words={HANDED: json.dumps(described)},
            level=min((str(hello["level"]) for _, hello in keepers), key=LEVELS.index),
            here=tuple(int(root) for hello in here for root in hello["roots"]),
        )


def _hello(connection: socket.socket, token: str) -> dict[str, Any]:
    """What a caller says of itself; empty, and it is hung up on, where it does not know the token."""
    with suppress(OSError, ValueError):
        hello, _ = wire.receive(connection, time.monotonic() + _HELLO_SECONDS, most=_MOST_HELLO)
        if hmac.compare_digest(str(hello.get("token")), token):
            return hello
    connection.close()
    return {}


def _listen(lines: IO[str], said: queue.Queue[dict[str, Any]]) -> None:
    for line in lines:
        if line.startswith("{"):
            said.put(json.loads(line))
    problem = StageError("The process that asks Ray has ended.", mend="The run's log says more.").as_problem()
    said.put({"problem": as_data(problem)})


def _checked(said: dict[str, Any]) -> dict[str, Any]:
    if "problem" in said:
        raise replace(Problem.from_json(said["problem"]), where="launch").as_error()
    return said


def _demand(deadline: float, what: str) -> None:
    if time.monotonic() > deadline:
        raise StageError(f"{what} within {START_SECONDS:g} s.", mend="See `ray status` and the hosts' firewalls.", where="launch")
