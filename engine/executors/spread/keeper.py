"""`python -m engine.executors.spread.keeper`, on each host: starts its workers, answers for them, ends them.

Its order is JSON on standard input (see Order). Every worker has a sandbox of its own and a connection that this
process has made for it. The keeper's own connection leads to the driver too: whoever it was given to asks

    {"do": "look" | "wait" | "end", "rank": R}    wait: up to a second for the rank to end; end: kill it

and is answered {"ended": how, or "", "cause": why it may be silent, "log": …, "pss": …, "rss": …, "peak": bytes}. When that connection closes,
or nobody is at its other end any more, every worker is ended. A refusal is a Problem on standard output. Torch-free.
"""

from __future__ import annotations

import socket
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.domain.codec import decode, encode
from engine.domain.errors import SpeedrailError, StageError
from engine.executors.spread import CONNECTION, wire
from engine.executors.spread.distant import watch_link
from engine.executors.spread.peers import LOG_TAIL, cause_of_silence, free_ports, held_by
from engine.host import PACKAGE, code, network_device
from engine.sandbox import DEVICE, HOSTS, LEVELS, Child, Limits, start_child, tree
from engine.sandbox.namespaces import die_with_parent

CONNECT_SECONDS = 20.0
END_SECONDS = 1.0
MOST_ASKED = 1000


@dataclass(frozen=True, slots=True)
class Order:
    """What a host is told to start. Paths are the same on every host; `code` is the Speedrail that asks.

    address, port: where to call back. own: the host's address in the cluster.
    """

    address: str
    port: int
    token: str
    code: str
    readable: tuple[str, ...]
    threads: int
    wall_seconds: float
    least_level: str
    accelerators: bool
    ranks: tuple[int, ...] = ()
    own: str = ""


@dataclass(frozen=True, slots=True)
class Kept:
    """A worker of this host. process: the innermost of its tree, which is the worker itself."""

    child: Child
    process: int

    def said(self) -> dict[str, Any]:
        held, ending = held_by(self.process), self.child.ending()
        return {
            "ended": f"it ended ({ending})" if ending else "", "cause": cause_of_silence(self.process), "log": _tail(self.child.log),
            "pss": held.pss, "rss": held.rss, "peak": self.child.peak_pss_bytes(),
        }  # fmt: skip


def main() -> int:
    die_with_parent()
    order = decode(Order, sys.stdin.read())
    try:
        with ExitStack() as exits:
            _keep(order, exits)
    except SpeedrailError as error:
        print(encode(error.as_problem()), flush=True)
        return 1
    return 0


def _keep(order: Order, exits: ExitStack) -> None:
    """Until the driver hangs up. Raises StageError, ChildError."""
    host = f"{socket.gethostname()} at {order.own}"
    _demand(order, host)
    logs = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="speedrail-ranks-")))
    ports = free_ports(len(order.ranks))
    # before its workers, so that it is closed after them
    driver = exits.enter_context(_call(order, host))
    kept = {rank: _start(order, rank, exits, logs, host) for rank in order.ranks}
    wire.send(driver, {
        "token": order.token, "level": min((k.child.level for k in kept.values()), key=LEVELS.index),
        "roots": [k.child.pid for k in kept.values()],
        "workers": [
            {"rank": rank, "host": host, "pid": k.process, "address": order.own, "port": ports[i], "device": i}
            for i, (rank, k) in enumerate(kept.items())
        ],
    })  # fmt: skip
    while True:
        try:
            message, _ = wire.receive(driver, most=MOST_ASKED)
            wire.send(driver, _answer(kept[int(message["rank"])], str(message["do"])))
        except OSError:
            return


def _answer(kept: Kept, do: str) -> dict[str, Any]:
    if do == "end":
        kept.child.kill()
    deadline = time.monotonic() + END_SECONDS
    while do == "wait" and not kept.child.ending() and time.monotonic() < deadline:
        time.sleep(0.02)
    return kept.said()


def _demand(order: Order, host: str) -> None:
    if code() != order.code:
        raise StageError(f"{host} has another version of Speedrail in {PACKAGE}.", mend="Put the same files in the same place on every host.")
    missing = next((path for path in order.readable if not Path(path).exists()), None)
    if missing:
        raise StageError(
            f"{host} has no {missing}.", mend="SPEEDRAIL_HOME and the store must be folders that every host has in the same place."
        )


def _start(order: Order, rank: int, exits: ExitStack, logs: Path, host: str) -> Kept:
    device = network_device(order.own)
    with _call(order, host) as connection:
        wire.send(connection, {"token": order.token, "rank": rank})
        child = start_child(
            "rank" + HOSTS + DEVICE * order.accelerators, readable=[Path(path) for path in order.readable], writable=[],
            limits=Limits.of_host(wall_seconds=order.wall_seconds), log=logs / f"{rank}.log", threads=order.threads,
            least_level=order.least_level, module="engine.executors.spread.rank", sockets=[connection],
            words={CONNECTION: str(connection.fileno()), "GLOO_SOCKET_IFNAME": device, "NCCL_SOCKET_IFNAME": device},
        )  # fmt: skip
    exits.callback(child.kill)
    return Kept(child, tree.descendants(child.pid)[-1])


def _call(order: Order, host: str) -> socket.socket:
    try:
        connection = socket.create_connection((order.address, order.port), CONNECT_SECONDS)
    except OSError as error:
        raise StageError(f"{host} does not reach {order.address}, where the run was begun: {error}", mend="Open the ports between the hosts.") from error
    connection.settimeout(None)
    return watch_link(connection)


def _tail(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - LOG_TAIL))
        return file.read().decode(errors="replace")


if __name__ == "__main__":
    sys.exit(main())
