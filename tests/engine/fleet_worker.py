"""A worker whose measuring is a stand-in of a few milliseconds: what a fleet does around it is real.

`python -m tests.engine.fleet_worker NAME` serves the settings of the environment as host NAME.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from datetime import timedelta

from engine import fleet, host, worker
from engine.domain.experiment import Run, RunStatus
from engine.domain.metrics import LATENCY, Measurement
from engine.execution import execute
from engine.execution.recorder import Recorder
from engine.execution.work import Work
from engine.settings import Settings

RUN_SECONDS = 0.05
SILENT = timedelta(seconds=4)


def main(name: str) -> int:
    facts = replace(host.this_host(), name=name)
    for module in (worker, fleet, sys.modules["engine.queue"], sys.modules["engine.launch"]):
        module.this_host = lambda: facts  # type: ignore[attr-defined]
    worker.ALIVE_FOR = SILENT
    worker.BEAT_SECONDS = 0.5
    worker.QUEUE_SECONDS = 0.2
    execute._carry_out = lambda work, runs: carry_out(work, runs, name)
    return worker.serve(Settings.from_environment())


def carry_out(work: Work, runs: list[Run], name: str) -> None:
    """Every run is begun, takes its time and is recorded, as the real thing does it."""
    for run in runs:
        attempt = work.storage.runs.start(run.id)
        recorder = Recorder(run, attempt, work.storage, work.place / f"{run.id}.log", work.report)
        recorder.say(f"begun by {name}")
        time.sleep(RUN_SECONDS)
        work.leash.check()
        value = Measurement(LATENCY.name, LATENCY.unit, float(attempt), None, 1)
        recorder.finish(RunStatus.SUCCEEDED, measurements=(value,), environment=None)
        recorder.say(f"recorded by {name}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
