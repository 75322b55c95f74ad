"""The child's end of the channel. Standard library only."""

from __future__ import annotations

import json
import os
import socket
from typing import Any


class Channel:
    """One JSON object a line, both ways, on an inherited socket."""

    def __init__(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)
        self.descriptor = descriptor
        self._socket = socket.socket(fileno=descriptor)
        self._lines = self._socket.makefile("rb")

    def receive(self) -> dict[str, Any] | None:
        """The next message, waiting for it; None when the other side has closed."""
        line = self._lines.readline()
        return dict(json.loads(line)) if line else None

    def send(self, message: dict[str, Any]) -> None:
        self._socket.sendall(json.dumps(message).encode() + b"\n")
