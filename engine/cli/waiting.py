"""What the command line says while it waits for the host."""

from __future__ import annotations

import sys
from collections.abc import Callable


def say_who_holds() -> Callable[[str], None]:
    """A `wait` for HostLock that says once, on standard error, whom it waits for."""
    said: set[str] = set()

    def say(holder: str) -> None:
        if not said:
            said.add(holder)
            pid, _, note = holder.partition(" ")
            print(f"waiting for the host: process {pid} measures ({note})", file=sys.stderr)

    return say
