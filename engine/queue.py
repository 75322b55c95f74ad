"""The queue: experiments and intakes wait here for a worker.

DBOS (durable workflows on SQLAlchemy; SQLite embedded or the team's PostgreSQL)
delivers each item at least once. Its own deduplication keeps at most one waiting
or running workflow an experiment, so enqueueing is safe to repeat. Imported lazily:
it costs half a second and 26 MB, which a page that launches nothing should not pay.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from engine.host import this_host
from engine.settings import Settings

if TYPE_CHECKING:
    from dbos import DBOSClient

EXPERIMENTS = "experiments"
INTAKES = "intakes"
RUN_EXPERIMENT = "run_experiment"
RUN_INTAKE = "run_intake"
APPLICATION = "speedrail"
APPLICATION_VERSION = "1"
"""Fixed: what a workflow does is read from our own rows, so any version may resume any."""


def queue_of(queue: str, host: str) -> str:
    """A queue's name; with a host, the one that only this host serves."""
    return f"{queue}@{host}" if host else queue


class Queue:
    """Hands experiments and intakes to the worker. Safe to share between threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: DBOSClient | None = None
        self._opening = threading.Lock()

    def enqueue_experiment(self, experiment_id: str, host: str = "") -> str:
        """Ask for `run_experiment(experiment_id)`; the id of the workflow that will do it.

        One that already waits or runs is kept. Commit the experiment first. host: who has
        what it needs; empty: whoever comes first.
        """
        return self._enqueue(queue_of(EXPERIMENTS, host), RUN_EXPERIMENT, experiment_id)

    def enqueue_intake(self, intake_id: str) -> str:
        """Ask for the intake of an `IntakeJob` that was committed before; its file is on this host."""
        return self._enqueue(queue_of(INTAKES, this_host().name), RUN_INTAKE, intake_id)

    def active(self) -> frozenset[str]:
        """Ids of all experiments and intakes for which a workflow waits or runs."""
        found = self._open().list_workflows(status=["ENQUEUED", "PENDING"], load_input=False, load_output=False)
        return frozenset(workflow.workflow_id.rpartition("-")[0] for workflow in found)

    def close(self) -> None:
        with self._opening:
            if self._client is not None:
                self._client.destroy()
                self._client = None

    def _enqueue(self, queue: str, workflow: str, item_id: str) -> str:
        client = self._open()
        earlier = client.list_workflows(workflow_id_prefix=f"{item_id}-", load_input=False, load_output=False)
        handle = client.enqueue(
            {
                "queue_name": queue,
                "workflow_name": workflow,
                "workflow_id": f"{item_id}-{len(earlier) + 1}",
                "deduplication_id": item_id,
                "duplication_policy": "return-existing",
                "app_version": APPLICATION_VERSION,
            },
            item_id,
        )
        return str(handle.get_workflow_id())

    def _open(self) -> DBOSClient:
        with self._opening:
            if self._client is None:
                self._client = _client(self._settings)
            return self._client


def _client(settings: Settings) -> DBOSClient:
    from dbos import DBOS, DBOSClient, DBOSPortableJSONSerializer

    settings.home.mkdir(parents=True, exist_ok=True)
    # a client never migrates, and the dashboard may launch before any worker has lived
    DBOS.migrate(settings.queue_url)
    return DBOSClient(
        system_database_url=settings.queue_url,
        serializer=DBOSPortableJSONSerializer(),
        application_name=APPLICATION,
        retry_connection_errors=False,
    )
