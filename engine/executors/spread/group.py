"""A replica as the driver sees it: the workers that hold one model together, and how their failures are told."""

from __future__ import annotations

import select
import time
from collections.abc import Mapping, Sequence
from typing import Any

from engine.domain.errors import Problem, StageError
from engine.domain.ports import Array
from engine.executors.spread import wire
from engine.executors.spread.peers import CUT, STOPPED, Peer

_GRACE_SECONDS = 1.5
"""When one rank complains, another has often died a moment before: that is the cause to name."""

Answer = tuple[wire.Message, dict[str, Array]]


class Group:
    """Asks all ranks and waits for all of them. After a failure every rank is ended.

    timeout: seconds in which every rank must have answered a call.
    """

    def __init__(self, peers: Sequence[Peer], timeout: float) -> None:
        self.peers = tuple(peers)
        self.timeout = timeout
        self._deadline = 0.0

    def ask(self, message: Mapping[str, Any], arrays: Mapping[str, Array] | None = None, timeout: float = 0.0) -> list[Answer]:
        """The answers in the order of ranks. Raises StageError naming rank, host and cause."""
        self.begin(message, arrays, timeout)
        return self.finish()

    def begin(self, message: Mapping[str, Any], arrays: Mapping[str, Array] | None = None, timeout: float = 0.0) -> None:
        """Send to every rank; `finish` waits. timeout: 0 takes the group's."""
        self.expect(timeout or self.timeout)
        for peer in self.peers:
            try:
                peer.connection.settimeout(timeout or self.timeout)
                wire.send(peer.connection, _by_its_clock(message, peer), arrays)
            except OSError:
                raise self._failed(f"{peer.name} is gone: {peer.cause_of_death()}.", peer) from None

    def expect(self, seconds: float) -> None:
        """Answers are due in so many seconds from now."""
        self._deadline = time.monotonic() + seconds

    def finish(self) -> list[Answer]:
        answers: dict[int, Answer] = {}
        complaints: list[tuple[Peer, Problem]] = []
        deadline = self._deadline
        while waiting := [p for p in self.peers if p.rank not in answers and p not in [c for c, _ in complaints]]:
            ready, _, _ = select.select([p.connection for p in waiting], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                break
            for peer in [p for p in waiting if p.connection in ready]:
                answer = self._receive(peer)
                if "problem" in answer[0]:
                    complaints.append((peer, Problem.from_json(answer[0]["problem"])))
                    deadline = min(deadline, time.monotonic() + _GRACE_SECONDS)
                else:
                    answers[peer.rank] = answer
        if complaints:
            raise self._complained(complaints)
        if len(answers) < len(self.peers):
            raise self._silent([p for p in self.peers if p.rank not in answers])
        return [answers[peer.rank] for peer in self.peers]

    def end(self) -> None:
        """No worker is left."""
        for peer in self.peers:
            peer.end()

    def _receive(self, peer: Peer) -> Answer:
        try:
            return wire.receive(peer.connection, self._deadline + _GRACE_SECONDS)
        except (wire.Closed, OSError) as error:
            if isinstance(error, TimeoutError):
                raise self._silent([peer]) from None
            raise self._failed(f"{peer.name} is gone: {peer.cause_of_death()}.", peer) from None

    def _silent(self, silent: Sequence[Peer]) -> StageError:
        # whoever is stopped or out of reach is the cause; the others wait for it
        causes = [peer.cause_of_silence() for peer in silent]
        first = next((i for i, cause in enumerate(causes) if cause in (STOPPED, CUT)), 0)
        return self._failed(f"{silent[first].name} did not answer within {self.timeout:g} s: {causes[first]}.", silent[first])

    def _complained(self, complaints: Sequence[tuple[Peer, Problem]]) -> StageError:
        gone = [p for p in self.peers if p.is_gone()]
        if gone:
            return self._failed(f"{gone[0].name} is gone: {gone[0].cause_of_death()}.", gone[0])
        quiet = [p for p in self.peers if p.cause_of_silence() in (STOPPED, CUT)]
        if quiet:
            return self._silent(quiet)
        peer, problem = complaints[0]
        self.end()
        return StageError(
            f"{peer.name}: {problem.what}", mend=problem.mend, where=problem.where, detail=problem.detail + peer.log_tail()
        )

    def _failed(self, what: str, peer: Peer) -> StageError:
        log = peer.log_tail()
        self.end()
        return StageError(what, mend="Repeat the run; if it stays, the host's log says more.", where=peer.name, detail=log)


def _by_its_clock(message: Mapping[str, Any], peer: Peer) -> dict[str, Any]:
    """When a call began is told to each in seconds of its own host's clock."""
    began = {"began": message["began"] + peer.ahead} if "began" in message else {}
    return {**message, **began}
