"""How soon the dashboard is there, how heavy it is, and how soon a wish to cancel is granted.

    python -m benchmarks.dashboard [--home FOLDER] [--loads 10] [--json benchmarks/results/dashboard.json]

Seconds from the start of the server to its first answer; from the address typed in a new
browser profile to a page that takes a click; from a click on History to its rows (FOLDER may
hold a large one, see history_100k); resident memory and whether torch is mapped; from the wish
to cancel a running experiment to its end, with the processes that are left. Loopback, headless Chromium.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import psutil
from playwright.sync_api import Browser, sync_playwright

from benchmarks.serving import open_browser, serve
from engine.cli.intake import take_in_path
from engine.domain.experiment import RunStatus
from engine.domain.workload import Workload
from engine.execution.execute import run_experiment
from engine.grammar import parse_recipe
from engine.launch import launch
from engine.settings import Settings
from storage import RunFilter, Storage, open_storage
from tests.models import tiny_bert

MINUTE = 60_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, help="a home with a history; a new one otherwise")
    parser.add_argument("--loads", type=int, default=10)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        home = options.home or Path(scratch) / "home"
        report = {
            **looked_at(home, options.loads),
            "cancel": [cancelled(Path(scratch) / f"cancel-{i}") for i in range(5)],
            "host": {"cores": os.cpu_count(), "machine": platform.machine(), "load_1m": round(os.getloadavg()[0], 1)},
        }
    print(json.dumps(report, indent=1))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


def looked_at(home: Path, loads: int) -> dict[str, object]:
    """What a browser sees of a server over `home`, started twice."""
    starts = []
    for _ in range(2):
        began = time.perf_counter()
        server, address = serve(home)
        starts.append(time.perf_counter() - began)
        if len(starts) == 1:
            _stop(server.pid)
    try:
        with sync_playwright() as playwright:
            browser = open_browser(playwright)
            first = [_first_page(browser, address) for _ in range(loads)]
            history = [_history(browser, address) for _ in range(loads)]
            browser.close()
        memory = psutil.Process(server.pid).memory_info().rss
        torch = any("torch" in Path(m.path).name for m in psutil.Process(server.pid).memory_maps())
    finally:
        _stop(server.pid)
    storage = open_storage(Settings.from_environment({"SPEEDRAIL_HOME": str(home)}))
    runs = storage.runs.search(RunFilter(), limit=1).total
    storage.close()
    return {
        "start_seconds": _rounded(starts), "runs_in_history": runs,
        "first_page_seconds": _rounded(first), "first_page_median": round(median(first), 2),
        "history_new_profile_seconds": _rounded([first for first, _ in history]),
        "history_seconds": _rounded([again for _, again in history]), "history_median": round(median(again for _, again in history), 2),
        "resident_bytes": memory, "torch_mapped": torch,
    }  # fmt: skip


def _first_page(browser: Browser, address: str) -> float:
    """From the address to the button that chooses a file, in a new profile with empty caches."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    began = time.perf_counter()
    page.goto(address, wait_until="commit")
    page.get_by_role("button", name="Choose file").click(trial=True, timeout=MINUTE)
    seconds = time.perf_counter() - began
    context.close()
    return seconds


def _history(browser: Browser, address: str) -> tuple[float, float]:
    """From a click in the menu to the table: in a new profile, and again when the browser has the table's script."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(address)
    seconds = []
    for _ in range(2):
        page.get_by_role("button", name="Choose file").wait_for(timeout=MINUTE)
        began = time.perf_counter()
        page.get_by_role("link", name="History").first.click()
        page.get_by_test_id("stDataFrame").first.wait_for(timeout=MINUTE)
        seconds.append(time.perf_counter() - began)
        page.get_by_role("link", name="Models").first.click()
    context.close()
    return seconds[0], seconds[1]


def cancelled(home: Path) -> dict[str, float | int]:
    """Seconds from the wish to the end of an experiment that is being measured, and who is left then."""
    settings = Settings.from_environment({"SPEEDRAIL_HOME": str(home)})
    storage = open_storage(settings)
    artifact = take_in_path(tiny_bert(home / "tiny"), "tiny", storage, settings)
    workload = Workload(sequence_length=16, threads=1, rounds=1000, processes=1, round_seconds=1.0)
    experiment = launch(storage, None, artifact, workload, [parse_recipe("@onnxruntime")])
    worker = threading.Thread(target=run_experiment, args=(experiment.id, storage, settings))
    worker.start()
    _wait(lambda: bool(storage.runs.rounds(_baseline(storage, experiment.id))))
    began = time.perf_counter()
    storage.experiments.request_cancel(experiment.id)
    _wait(lambda: all(r.status is RunStatus.CANCELLED for r in storage.runs.of_experiment(experiment.id)))
    seconds = time.perf_counter() - began
    worker.join()
    left = [p for p in psutil.Process().children(recursive=True) if "engine.child" in " ".join(p.cmdline())]
    storage.close()
    return {"seconds": round(seconds, 2), "processes_left": len(left)}


def _baseline(storage: Storage, experiment_id: str) -> str:
    return next(r.id for r in storage.runs.of_experiment(experiment_id) if r.is_baseline)


def _wait(until: Callable[[], bool]) -> None:
    for _ in range(6000):
        if until():
            return
        time.sleep(0.05)
    raise SystemExit("Waited five minutes in vain.")


def _stop(pid: int) -> None:
    process = psutil.Process(pid)
    process.terminate()
    process.wait(30)


def _rounded(seconds: list[float]) -> list[float]:
    return [round(s, 2) for s in seconds]


if __name__ == "__main__":
    sys.exit(main())
