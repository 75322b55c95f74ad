"""The worker: one process a host that takes experiments and intakes off the queue.

A stop by SIGTERM and a kill -9 leave the same state behind: rows that say what is
finished, and a workflow that DBOS delivers again to the next worker.
"""

from __future__ import annotations

import hashlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from engine.domain.errors import SpeedrailError
from engine.execution import execute
from engine.execution.leash import Stopping
from engine.execution.lock import FileLock, is_locked
from engine.execution.scratch import sweep
from engine.fleet import ALIVE_FOR, demand_same_code
from engine.host import code, this_host
from engine.launch import HOST
from engine.queue import (
    APPLICATION,
    APPLICATION_VERSION,
    EXPERIMENTS,
    INTAKES,
    RUN_EXPERIMENT,
    RUN_INTAKE,
    Queue,
    queue_of,
)
from engine.settings import Settings
from storage import Storage, open_storage

TICK_SECONDS = 1.0
BEAT_SECONDS = 3.0
QUEUE_SECONDS = 1.0
QUIET_SECONDS = 60.0
"""What we do not use of DBOS looks at its tables this seldom, for the sake of what is timed beside it."""
LOG_BYTES = 10 * 2**20

log = logging.getLogger("speedrail.worker")


def worker_lock(settings: Settings) -> Path:
    """Held by the worker of this installation for as long as it lives."""
    return settings.home / "worker.lock"


def log_file(settings: Settings) -> Path:
    return settings.home / "logs" / "worker.log"


def ensure_worker(settings: Settings, patience_seconds: float = 20.0) -> bool:
    """Start a worker in a session of its own if none is alive; whether one was started.

    Safe to call from many processes at once. Raises SpeedrailError when the worker
    does not come up within `patience_seconds`.
    """
    if is_locked(worker_lock(settings)):
        return False
    with FileLock(settings.home / "worker.start.lock"):
        if is_locked(worker_lock(settings)):
            return False
        process = _start_detached(settings)
        deadline = time.monotonic() + patience_seconds
        while not is_locked(worker_lock(settings)):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SpeedrailError(
                    "The worker did not start.", mend=f"Its log says why: {log_file(settings)}.", where="worker"
                )
            time.sleep(0.1)
    # reaps it when it ends while this process still lives
    threading.Thread(target=process.wait, name="worker-reaper", daemon=True).start()
    return True


def serve(settings: Settings) -> int:
    """Work until SIGTERM or SIGINT. Returns 1 at once when this home has a worker already.

    Raises StageError when another host of the team serves with another Speedrail.
    """
    lock = FileLock(worker_lock(settings))
    if not lock.try_acquire("worker"):
        print(f"A worker already serves {settings.home}.", file=sys.stderr)
        return 1
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("speedrail").setLevel(logging.INFO)
    stop = threading.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: stop.set())
    sweep(settings)
    storage = open_storage(settings)
    demand_same_code(storage)
    worker = _Worker(settings, storage)
    worker.start()
    log.info("worker %s serves %s", worker.id, settings.home)
    while not stop.wait(TICK_SECONDS):
        worker.tick()
    log.info("stopping: children end, unfinished work stays queued")
    execute.stop_all()
    # no orderly end: DBOS would record running workflows as failed instead of resuming them
    os._exit(0)


class _Worker:
    """Serves both queues, beats, and finds what was committed but never enqueued."""

    def __init__(self, settings: Settings, storage: Storage) -> None:
        self.id = worker_id(settings)
        self._settings = settings
        self._storage = storage
        self._queue = Queue(settings)
        self._doing: set[str] = set()
        self._beaten = 0.0

    def start(self) -> None:
        from dbos import DBOS, DBOSPortableJSONSerializer

        DBOS(
            config={
                "name": APPLICATION,
                "system_database_url": self._settings.queue_url,
                "application_version": APPLICATION_VERSION,
                "executor_id": self.id,
                "serializer": DBOSPortableJSONSerializer(),
                "log_level": "WARNING",
                "enable_otlp": False,
                "use_listen_notify": False,
                "notification_listener_polling_interval_sec": QUIET_SECONDS,
                "scheduler_polling_interval_sec": QUIET_SECONDS,
            }
        )
        self._register(RUN_EXPERIMENT, execute.run_experiment)
        self._register(RUN_INTAKE, execute.run_intake)
        # of work that only one host can do, this one takes its own
        queues = [name for queue in (EXPERIMENTS, INTAKES) for name in (queue, queue_of(queue, this_host().name))]
        DBOS.listen_queues(queues)
        DBOS.launch()
        for queue in queues:
            DBOS.register_queue(queue, worker_concurrency=1, polling_interval_sec=QUEUE_SECONDS, on_conflict="always_update")
        self.tick()

    def tick(self) -> None:
        """Every second: end what was cancelled while it waited; now and then the rest."""
        try:
            unfinished = self._storage.experiments.unfinished()
            for experiment_id in unfinished:
                execute.end_cancelled(experiment_id, self._storage, self._settings)
            if time.monotonic() - self._beaten >= BEAT_SECONDS:
                self._beaten = time.monotonic()
                self._storage.hosts.beat(this_host().name, self.id, replace(this_host(), code=code()), "; ".join(tuple(self._doing)))
                self._reconcile(unfinished)
                self._recover_stale_hosts()
        except SpeedrailError:
            # a full disk or a busy database passes; the worker must still be there then
            log.exception("tick")

    def _register(self, name: str, do: Callable[[str, Storage, Settings], object]) -> None:
        from dbos import DBOS

        def workflow(item_id: str) -> None:
            self._work(f"{name} {item_id}", lambda: do(item_id, self._storage, self._settings))

        # our own count of attempts says when to give up
        DBOS.workflow(name=name, max_recovery_attempts=None)(workflow)

    def _work(self, what: str, do: Callable[[], object]) -> None:
        log.info("begins %s", what)
        self._doing.add(what)
        try:
            do()
        except SpeedrailError as error:
            # recorded with the run or intake already; the queue has nothing to add
            log.warning("%s: %s", what, error)
        except Stopping:
            threading.Event().wait()
        finally:
            self._doing.discard(what)
        log.info("ended %s", what)

    def _reconcile(self, unfinished: Sequence[str]) -> None:
        """Enqueue what was committed by somebody who died before he enqueued it."""
        intakes = self._storage.intakes.unfinished()
        active = self._queue.active() if unfinished or intakes else frozenset()
        for experiment_id in unfinished:
            if experiment_id not in active and not is_locked(execute.experiment_lock(self._settings, experiment_id)):
                log.info("enqueues experiment %s, which nobody had", experiment_id)
                host = str(self._storage.experiments.get(experiment_id).extra.get(HOST, ""))
                self._queue.enqueue_experiment(experiment_id, host)
        for intake_id in intakes:
            if intake_id not in active and Path(self._storage.intakes.get(intake_id).path).exists():
                log.info("enqueues intake %s, which nobody had", intake_id)
                self._queue.enqueue_intake(intake_id)

    def _recover_stale_hosts(self) -> None:
        from dbos import DBOS

        now = datetime.now(UTC)
        for host in self._storage.hosts.list():
            if now - host.at > ALIVE_FOR:
                log.warning("%s is silent; what it had begun is delivered anew", host.worker_id)
                for workflow in DBOS.list_workflows(executor_id=host.worker_id, status="PENDING"):
                    DBOS.resume_workflow(workflow.workflow_id, queue_name=workflow.queue_name)
                self._storage.hosts.leave(host.host, host.worker_id)


def worker_id(settings: Settings) -> str:
    """The same after a restart, so that DBOS recovers what this worker had begun."""
    home = hashlib.sha256(str(settings.home).encode()).hexdigest()[:8]
    return f"{this_host().name}-{home}"


def _start_detached(settings: Settings) -> subprocess.Popen[bytes]:
    path = log_file(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > LOG_BYTES:
        path.replace(path.with_suffix(".log.1"))
    with path.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "engine", "worker"],
            cwd=Path(__file__).resolve().parent.parent,
            env={**os.environ, **settings.as_environment()},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
