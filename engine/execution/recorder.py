"""What the worker writes of one attempt at one run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from engine.domain.errors import SpeedrailError
from engine.domain.experiment import Attachment, Progress, Round, Run, RunStatus
from engine.execution.transforming import Transformed
from storage import Storage

WRITE_SECONDS = 0.5
Report = Callable[[Run, Progress], None]
"""Who is told of progress beside the database: the command line."""


class Superseded(Exception):
    """A newer attempt exists; this one must stop writing."""


class Recorder:
    """Every write carries the attempt; raises Superseded when a newer one exists.

    `log` is the file the run's children write to; it is copied to the run's log.
    """

    def __init__(self, run: Run, attempt: int, storage: Storage, log: Path, report: Report) -> None:
        self.run = run
        self.attempt = attempt
        self.log = log
        self._storage = storage
        self._report = report
        self._copied = 0
        self._written = 0.0
        self._stage = ""

    def progress(self, progress: Progress) -> None:
        """A new stage is written at once, the rest at most twice a second."""
        self._report(self.run, progress)
        now = time.monotonic()
        if progress.stage != self._stage or now - self._written >= WRITE_SECONDS:
            self._stage, self._written = progress.stage, now
            self._demand(self._storage.runs.progress(self.run.id, self.attempt, progress))
            self.copy_log()

    def say(self, text: str) -> None:
        """A line of our own in the run's log."""
        self.copy_log()
        self._storage.runs.append_log(self.run.id, f"{datetime.now(UTC):%H:%M:%S} {text}\n")

    def copy_log(self) -> None:
        """What the children wrote since the last call."""
        if not self.log.exists():
            return
        with self.log.open("rb") as file:
            file.seek(self._copied)
            new = file.read()
        if new:
            self._copied += len(new)
            self._storage.runs.append_log(self.run.id, new.decode(errors="replace"))

    def transformed(self, transformed: Transformed, keep: bool) -> None:
        key = transformed.key if keep else ""
        size = transformed.lowered.size_bytes
        self._demand(self._storage.runs.record_stage(self.run.id, self.attempt, transformed.facts, key, size))

    def attach(self, attachments: Sequence[Attachment]) -> None:
        self._demand(self._storage.runs.record_attachments(self.run.id, self.attempt, attachments))

    def round(self, round_: Round) -> None:
        self._demand(self._storage.runs.record_round(round_, self.attempt))

    def finish(self, status: RunStatus, **result: Any) -> None:
        """See storage's Runs.finish."""
        self.copy_log()
        self._demand(self._storage.runs.finish(self.run.id, self.attempt, status, **result))

    def fail(self, error: SpeedrailError, remarks: Sequence[str] = ()) -> None:
        """This run ends here; the others go on."""
        self.say(f"failed: {error}")
        self.finish(RunStatus.FAILED, problems=(error.as_problem(),), remarks=remarks)

    def _demand(self, written: bool) -> None:
        if not written:
            raise Superseded(self.run.id)
