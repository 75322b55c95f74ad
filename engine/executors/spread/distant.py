"""Workers on several hosts as the driver sees them. Torch-free.

The driver's sandbox has no network. Connections to the workers, and one to each host's keeper
(engine.executors.spread.keeper), are made outside and handed over to it when it starts (engine.executors.spread.cluster).
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from engine.domain.errors import StageError
from engine.executors.spread import wire
from engine.executors.spread.peers import CUT, Held, Peer

HANDED = "SPEEDRAIL_WORKERS"
"""In the driver's environment: for each worker what it is, and the numbers of the connections to it and to its keeper."""
KEEPER_SECONDS = 3.0
"""A keeper that reaches us answers within a fraction of this, or a little more when it waits for a rank to end."""
SILENT_SECONDS, ASKED_AGAIN = 5, 3
_CLOCK_TRIES = 5


class Keeper:
    """The process on a host that keeps its workers. Used by several threads.

    What does not answer is not asked again.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self.silence = ""

    def ask(self, do: str, rank: int) -> dict[str, Any]:
        """See keeper.Kept; empty when there is no answer, and `silence` then says why."""
        with self._lock:
            if self.silence:
                return {}
            try:
                self._connection.settimeout(KEEPER_SECONDS)
                wire.send(self._connection, {"do": do, "rank": rank})
                return wire.receive(self._connection, time.monotonic() + KEEPER_SECONDS)[0]
            except (wire.Closed, BrokenPipeError):
                self.silence = "its connection closed and its host's keeper has gone too: the host, or its Ray node, has ended"
            except OSError:
                self.silence = CUT
            return {}


@dataclass(slots=True, kw_only=True)
class DistantPeer(Peer):
    """A process in a sandbox of its own, perhaps on another host."""

    number: int
    """Its rank among all workers; `rank` is that in its group."""
    keeper: Keeper

    def is_gone(self) -> bool:
        return bool(self.keeper.ask("look", self.number).get("ended"))

    def cause_of_silence(self) -> str:
        return str(self.keeper.ask("look", self.number).get("cause", self.keeper.silence))

    def cause_of_death(self) -> str:
        return str(self.keeper.ask("wait", self.number).get("ended", self.keeper.silence)) or "its connection closed"

    def log_tail(self) -> str:
        return str(self.keeper.ask("look", self.number).get("log", ""))

    def memory(self) -> Held:
        found = self.keeper.ask("look", self.number)
        return Held(*(int(found.get(name, 0)) for name in ("pss", "rss", "peak")))

    def end(self) -> None:
        self.keeper.ask("end", self.number)
        self.connection.close()


def handed_over() -> list[Peer]:
    """The workers that this process was given when it started. Raises StageError when they have gone already."""
    keepers: dict[int, Keeper] = {}
    peers: list[Peer] = []
    for own in json.loads(os.environ[HANDED]):
        number = own.pop("keeper")
        if number not in keepers:
            keepers[number] = Keeper(socket.socket(fileno=number))
        connection = socket.socket(fileno=own.pop("connection"))
        peer = DistantPeer(**own, number=own["rank"], connection=connection, keeper=keepers[number])
        peer.ahead = _ahead(peer)
        peers.append(peer)
    return peers


def watch_link(connection: socket.socket) -> socket.socket:
    """The same; a peer that is out of reach closes it after 14 s, whatever is or is not said over it."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", SILENT_SECONDS), ("TCP_KEEPINTVL", ASKED_AGAIN), ("TCP_KEEPCNT", ASKED_AGAIN)):
        connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    # what was sent and never acknowledged counts as silence too
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * (SILENT_SECONDS + ASKED_AGAIN * ASKED_AGAIN))
    return connection


def _ahead(peer: Peer) -> float:
    """Seconds by which the other clock is ahead, as exact as half of the quickest of a few round trips."""
    found = []
    for _ in range(_CLOCK_TRIES):
        with suppress(OSError):
            sent = time.monotonic()
            wire.send(peer.connection, {"do": "clock"})
            answer, _ = wire.receive(peer.connection, sent + KEEPER_SECONDS)
            got = time.monotonic()
            found.append((got - sent, float(answer["now"]) - (sent + got) / 2))
    if not found:
        raise StageError(f"{peer.name} is gone: {peer.cause_of_death()}.", where="launch", detail=peer.log_tail())
    return min(found)[1]
