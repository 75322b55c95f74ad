"""`python -m engine.executors.spread.rank KIND DESCRIPTOR`: a worker in a sandbox of its own, for models on several hosts.

It is started by the keeper of its host, which hands it a connection to the driver. It lives as long as that and its keeper do.
"""

from __future__ import annotations

import os
import socket
import sys

from engine.executors.spread import CONNECTION
from engine.sandbox.channel import Channel
from engine.sandbox.enter import Profile, enter


def main(descriptor: int) -> None:
    channel = Channel(descriptor)
    first = channel.receive()
    if first is None:
        return
    isolation = enter(Profile(**first["profile"]), descriptor)
    channel.send({"hello": list(isolation)})
    # numpy starts threads, and the sandbox is entered with one
    from engine.executors.spread.worker import serve

    serve(socket.socket(fileno=int(os.environ[CONNECTION])))


if __name__ == "__main__":
    main(int(sys.argv[2]))
