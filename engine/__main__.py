"""`python -m engine`: the engine without the dashboard."""

from __future__ import annotations

import signal
import sys

from engine.cli import main


def _end(*_: object) -> None:
    # unwinds, so that children are ended and scratch files removed
    sys.exit(1)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    sys.exit(main(sys.argv[1:]))
