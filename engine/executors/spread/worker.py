"""`python -m engine.executors.spread.worker RANK PORT`: one rank, or one replica, and what it is told to do.

It calls the driver back on PORT of loopback and proves itself with the token from its
standard input. It lives as long as the driver: the kernel ends it with its parent, and
a closed connection ends it too.
"""

from __future__ import annotations

import os
import socket
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any, NoReturn

from engine.domain.errors import Problem, SpeedrailError
from engine.domain.ports import Array
from engine.executors.spread import wire
from engine.sandbox.namespaces import die_with_parent

if TYPE_CHECKING:
    from engine.executors.spread.part import Part


class Worker:
    """Opens its part on the first request, then answers."""

    def __init__(self) -> None:
        self._part: Part | None = None

    def answer(self, message: wire.Message, arrays: dict[str, Array]) -> tuple[wire.Message, dict[str, Array]]:
        match message["do"]:
            case "open":
                return {"facts": self._open(message)}, {}
            case "infer":
                return {}, dict(self._opened.infer(arrays) or {})
            case "generate":
                made = self._opened.generate(arrays["input_ids"], message["new_tokens"], message["began"])
                return ({"times": made.token_times}, {"tokens": made.tokens}) if made else ({}, {})
            case "clock":
                return {"now": time.monotonic()}, {}
            case "trace":
                return {"events": [event.as_list() for event in self._opened.trace()]}, {}
        raise ValueError(message["do"])

    def _open(self, message: wire.Message) -> dict[str, Any]:
        from engine.domain.codec import from_data
        from engine.executors.spread.part import Place, open_part
        from engine.requests import OpenRequest

        self._part = open_part(from_data(OpenRequest, message["request"]), from_data(Place, message["place"]))
        return self._part.facts

    @property
    def _opened(self) -> Part:
        assert self._part is not None
        return self._part


def main(rank: int, port: int) -> None:
    die_with_parent()
    token = sys.stdin.readline().strip()
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    wire.send(connection, {"token": token, "rank": rank, "host": socket.gethostname(), "pid": os.getpid()})
    serve(connection)


def serve(connection: socket.socket) -> NoReturn:
    """Answer the driver until it has gone, and end with it."""
    worker = Worker()
    while True:
        try:
            message, arrays = wire.receive(connection)
        except OSError:  # closed, or the link to it is cut
            # a rank may hang in a collective of threads of its own: no orderly end
            os._exit(0)
        try:
            answer, outputs = worker.answer(message, arrays)
        except Exception as error:  # noqa: BLE001 everything becomes a Problem, as in engine.child
            traceback.print_exc()
            answer, outputs = {"problem": _problem(error)}, {}
        wire.send(connection, answer, outputs)


def _problem(error: Exception) -> dict[str, str]:
    known = error if isinstance(error, SpeedrailError) else None
    problem = known.as_problem() if known else Problem(
        "StageError", f"{type(error).__name__}: {error}"[:1000], detail=traceback.format_exc()
    )  # fmt: skip
    return {name: getattr(problem, name) for name in ("kind", "what", "mend", "where", "detail")}


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
