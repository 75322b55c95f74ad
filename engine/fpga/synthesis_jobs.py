"""Syntheses that run: one at a time for each core of a home, in processes of their own, told of in a log.

    n8-w8.lock    held while somebody is at it; free again when he ends, however he ends
    n8-w8.pid     his process
    n8-w8.log     what the last that was started said
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from engine.fpga.cycles import Core
from engine.fpga.synthesis import kept
from engine.fpga.synthesis_tools import require_tools

FINISHED = "finished"
"""The last words of a synthesis that found all it was asked for."""
_STARTING_SECONDS = 30
"""A process that was started is believed to be coming for so long."""


@contextmanager
def alone(core: Core, home: Path) -> Iterator[None]:
    """Waits until nobody else is at this core in this home."""
    kept(core, home).parent.mkdir(parents=True, exist_ok=True)
    with _lock(core, home):
        _process_file(core, home).write_text(str(os.getpid()))
        yield


def start(core: Core, home: Path) -> None:
    """`synthesizing.synthesize` in a process of its own that outlives the caller; `state` tells how it goes.

    Raises ToolError when the tools are missing.
    """
    require_tools()
    log = _log(core, home)
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable, "-m", "engine", "fpga", "synthesize", "--size", str(core.size), "--width", str(core.width),
    ]  # fmt: skip
    with log.open("w") as output:
        subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True,
            env={**os.environ, "SPEEDRAIL_HOME": str(home)}, cwd=Path(__file__).parents[2],
        )  # fmt: skip


def stop(core: Core, home: Path) -> None:
    """Ends the synthesis of a core that runs in this home, whoever started it; what it found stays, and nothing else does."""
    if not _is_held(core, home):
        return
    try:
        process = psutil.Process(int(_process_file(core, home).read_text()))
        if "synthesize" not in process.cmdline():  # one that ended long ago left its number to somebody else
            return
        everything = [process, *process.children(recursive=True)]
    except (OSError, ValueError, psutil.Error):
        return
    for each in everything:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    psutil.wait_procs(everything, timeout=_STARTING_SECONDS)
    with _log(core, home).open("a") as log:
        log.write("It was stopped.\n")


@dataclass(frozen=True, slots=True)
class State:
    """How the last synthesis of a core that was started in a home goes."""

    running: bool
    said: str
    """Its last words: what it does, or why it ended early; empty if none was started."""

    @property
    def ended_early(self) -> bool:
        return bool(self.said) and not self.running and self.said != FINISHED


def state(core: Core, home: Path) -> State:
    """Of the last `start`."""
    log = _log(core, home)
    if not log.is_file():
        return State(False, "")
    lines = log.read_text().splitlines()
    starting = not lines and time.time() - log.stat().st_mtime < _STARTING_SECONDS
    return State(starting or _is_held(core, home), lines[-1] if lines else "")


def _is_held(core: Core, home: Path) -> bool:
    """Somebody is at it; the lock of a process that was killed is free again."""
    try:
        with _lock(core, home, timeout=0):
            return False
    except Timeout:
        return True


def _lock(core: Core, home: Path, timeout: float = -1) -> FileLock:
    return FileLock(kept(core, home).with_suffix(".lock"), timeout=timeout)


def _log(core: Core, home: Path) -> Path:
    return kept(core, home).with_suffix(".log")


def _process_file(core: Core, home: Path) -> Path:
    return kept(core, home).with_suffix(".pid")
