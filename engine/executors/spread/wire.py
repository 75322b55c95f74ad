"""Messages between the driver and its workers: a JSON header, then the arrays it names.

    8 bytes length of the header │ header {"…": …, "arrays": [[name, dtype, shape], …]} │ the arrays' bytes

Data, not pickles: a worker runs a stranger's model.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from engine.domain.ports import Array

Message = dict[str, Any]
_LENGTH = struct.Struct("!Q")
_MOST_HEADER = 64 * 2**20


class Closed(ConnectionError):
    """The other side has gone."""


def send(connection: socket.socket, message: Mapping[str, Any], arrays: Mapping[str, Array] | None = None) -> None:
    """Raises OSError when the other side has gone."""
    solid = {name: np.ascontiguousarray(value) for name, value in (arrays or {}).items()}
    described = [[name, value.dtype.str, list(value.shape)] for name, value in solid.items()]
    header = json.dumps({**message, "arrays": described}).encode()
    connection.sendall(_LENGTH.pack(len(header)) + header)
    for value in solid.values():
        connection.sendall(value.data.cast("B") if value.size else b"")


def receive(connection: socket.socket, deadline: float | None = None, most: int = 0) -> tuple[Message, dict[str, Array]]:
    """The next message and its arrays. deadline: of time.monotonic. most: bytes of a header, where no arrays are expected.

    Raises Closed when the other side has gone, TimeoutError when the deadline passed.
    """
    (length,) = _LENGTH.unpack(_read(connection, _LENGTH.size, deadline))
    if length > (most or _MOST_HEADER):
        raise Closed(f"a header of {length} bytes")
    message: Message = json.loads(_read(connection, length, deadline))
    arrays: dict[str, Array] = {}
    for name, dtype, shape in message.pop("arrays")[: 0 if most else None]:
        kind = np.dtype(dtype)
        raw = _read(connection, kind.itemsize * prod(shape), deadline)
        arrays[name] = np.frombuffer(raw, kind).reshape(shape)
    return message, arrays


def _read(connection: socket.socket, size: int, deadline: float | None) -> bytearray:
    buffer = bytearray(size)
    view = memoryview(buffer)
    while view:
        connection.settimeout(None if deadline is None else max(deadline - time.monotonic(), 0.001))
        try:
            got = connection.recv_into(view)
        except ConnectionResetError as error:
            raise Closed(str(error)) from error
        if got == 0:
            raise Closed("the connection was closed")
        view = view[got:]
    return buffer
