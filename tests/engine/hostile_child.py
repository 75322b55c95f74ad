"""A child that does whatever it is told, as code in an uploaded model would.

KIND `bare` pretends that the kernel grants no namespaces.
"""

from __future__ import annotations

import sys
from typing import Any

from engine.sandbox import namespaces
from engine.sandbox.channel import Channel
from engine.sandbox.enter import Profile, enter


def main(kind: str, descriptor: int) -> None:
    channel = Channel(descriptor)
    first = channel.receive()
    assert first is not None
    if kind == "bare":
        namespaces.unshare = lambda *, network: frozenset()
    holds = enter(Profile(**first["profile"]), descriptor)
    channel.send({"hello": list(holds)})
    while (message := channel.receive()) is not None:
        names: dict[str, Any] = {"channel": channel, "said": None}
        try:
            exec(message["code"], names)
            channel.send({"result": names["said"]})
        except Exception as error:  # noqa: BLE001 the test wants to see it
            channel.send({"result": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
