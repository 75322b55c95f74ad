"""Workers and their heartbeats."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import delete, select

from engine.domain.host import HostFacts
from storage.database import Database
from storage.schema import HostRow
from storage.views import HostBeat


class Hosts:
    def __init__(self, database: Database) -> None:
        self._database = database

    def beat(self, host: str, worker_id: str, facts: HostFacts, doing: str = "") -> None:
        """This worker is alive now, and does this."""
        with self._database.write() as session:
            session.merge(HostRow(host=host, worker_id=worker_id, facts=facts, doing=doing, beat_at=datetime.now(UTC)))

    def list(self) -> list[HostBeat]:
        """Every known worker, the most recently alive first; `at` says how stale it is."""
        with self._database.read() as session:
            rows = session.scalars(select(HostRow).order_by(HostRow.beat_at.desc()))
            return [HostBeat(r.host, r.worker_id, r.facts, r.doing, r.beat_at) for r in rows]

    def leave(self, host: str, worker_id: str) -> None:
        """This worker ends in good order."""
        with self._database.write() as session:
            session.execute(delete(HostRow).where(HostRow.host == host, HostRow.worker_id == worker_id))
