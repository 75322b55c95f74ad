"""Workers and their heartbeats; what their hosts were measured to give."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import delete, select

from engine.domain.calibration import Calibration
from engine.domain.host import HostFacts
from storage.database import Database
from storage.schema import CalibrationRow, HostRow
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

    def calibrate(self, calibration: Calibration) -> None:
        """Keep what a host was measured to give, instead of what it gave before."""
        with self._database.write() as session:
            session.merge(
                CalibrationRow(
                    host=calibration.host, measured_at=calibration.measured_at, calibration=calibration
                )
            )

    def calibration(self, host: str) -> Calibration | None:
        """The newest calibration of the host of this name (`HostFacts.name`); None: it never was."""
        with self._database.read() as session:
            row = session.get(CalibrationRow, host)
            return row.calibration if row else None
