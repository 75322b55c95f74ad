"""What uploading a large file adds to the dashboard's memory.

    python -m benchmarks.upload_memory [--gib 2]

Serves a dashboard in a home of its own, uploads a sparse file through the page in a
real browser, and samples the server's resident memory all the while. Prints JSON;
exits 1 when the upload added 150 MB or more.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
from playwright.sync_api import sync_playwright

from benchmarks.serving import open_browser, serve

ALLOWED_BYTES = 150e6
# What comes after the last byte is intake, another process's work. (Playwright's own
# interception would copy every slice through its pipe.)
STOP_AT_FINISH = """
const send = XMLHttpRequest.prototype.send, open = XMLHttpRequest.prototype.open;
XMLHttpRequest.prototype.open = function (method, url) { this.target = url; return open.apply(this, arguments); };
XMLHttpRequest.prototype.send = function () {
  if (this.target.endsWith("/finish")) { window.allArrived = true; return; }
  return send.apply(this, arguments);
};
"""


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--gib", type=float, default=2.0, help="size of the upload in GiB")
    size = int(options.parse_args().gib * 2**30)
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), size)
    print(json.dumps(result, indent=2))
    return 0 if result["added_bytes"] < ALLOWED_BYTES else 1


def measure(folder: Path, size: int) -> dict[str, float]:
    """Resident bytes of the server before and at most, and how long the upload took."""
    big = folder / "model.zip"
    with big.open("wb") as file:
        file.truncate(size)
    server, address = serve(folder / "home")
    try:
        watched = Watch(server.pid)
        seconds = upload(address, big, watched)
    finally:
        server.terminate()
        server.wait()
    return {
        "upload_bytes": size,
        "seconds": round(seconds, 1),
        "resident_before_bytes": watched.before,
        "resident_peak_bytes": watched.peak,
        "added_bytes": watched.peak - watched.before,
    }


class Watch:
    """Samples a process's resident memory ten times a second, from `start` to `stop`."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self.before = self.peak = 0

    def start(self) -> None:
        self.before = self.peak = self._process.memory_info().rss
        self._thread.start()

    def stop(self) -> None:
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._done.wait(0.1):
            self.peak = max(self.peak, self._process.memory_info().rss)


def upload(address: str, file: Path, watched: Watch) -> float:
    """Seconds from choosing the file until the server has all of it."""
    with sync_playwright() as playwright:
        browser = open_browser(playwright)
        page = browser.new_page()
        page.add_init_script(STOP_AT_FINISH)
        page.goto(address)
        page.wait_for_selector("input.file", state="attached", timeout=60_000)
        page.wait_for_timeout(2000)
        watched.start()
        began = time.monotonic()
        page.set_input_files("input.file", str(file))
        page.wait_for_function("window.allArrived", timeout=3_600_000, polling=200)
        seconds = time.monotonic() - began
        watched.stop()
        browser.close()
    return seconds


if __name__ == "__main__":
    sys.exit(main())
