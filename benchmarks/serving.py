"""A dashboard of its own and a browser, for benchmarks that look at it as a user does."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from playwright.sync_api import Browser, Playwright

ROOT = Path(__file__).parents[1]
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def serve(home: Path) -> tuple[subprocess.Popen[bytes], str]:
    """A server that answers, over `home`, and its address. It is Streamlit alone, as `make run` becomes it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    server = subprocess.Popen(
        [sys.executable, "-m", "engine", "serve"], cwd=ROOT, stdout=subprocess.DEVNULL,
        env={**os.environ, "SPEEDRAIL_HOME": str(home), "SPEEDRAIL_PORT": str(port)},
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    for _ in range(1200):
        try:
            urllib.request.urlopen(f"{address}/_stcore/health", timeout=1)
            return server, address
        except OSError:
            time.sleep(0.05)
    server.kill()
    raise SystemExit("The dashboard did not start.")


def open_browser(playwright: Playwright) -> Browser:
    """Headless Chromium as the system has it."""
    return playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(_FLAGS))
