"""Read-only links. The token is shown once; only its SHA-256 is stored."""

from __future__ import annotations

import hashlib
import secrets
import uuid
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.orm import joinedload

from engine.domain.errors import InvalidInput, NotFound
from storage.database import Database
from storage.schema import ExperimentRow, ShareRow
from storage.views import Share

_TOKEN_BYTES = 32


class Shares:
    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, experiment_id: str, expires_at: datetime) -> tuple[Share, str]:
        """The share and its token, which cannot be had again.

        Raises NotFound, and InvalidInput when `expires_at` is past.
        """
        now = datetime.now(UTC)
        if expires_at <= now:
            raise InvalidInput("A share must expire in the future.", where="expires_at")
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        with self._database.write() as session:
            key = session.scalar(select(ExperimentRow.key).where(ExperimentRow.id == experiment_id))
            if key is None:
                raise NotFound(f"There is no experiment {experiment_id!r}.", mend="It may have been deleted.")
            share = Share(uuid.uuid4().hex, experiment_id, now, expires_at)
            session.add(
                ShareRow(
                    id=share.id, experiment_key=key, token_sha256=_digest(token), created_at=now, expires_at=expires_at
                )
            )
        return share, token

    def by_token(self, token: str) -> Share | None:
        """None for a token that is unknown, expired or revoked: a guest learns no more."""
        with self._database.read() as session:
            row = session.scalar(
                select(ShareRow)
                .where(
                    ShareRow.token_sha256 == _digest(token),
                    ShareRow.revoked_at.is_(None),
                    ShareRow.expires_at > datetime.now(UTC),
                )
                .options(joinedload(ShareRow.experiment))
            )
            return _share_of(row) if row else None

    def list(self, experiment_id: str) -> list[Share]:
        """All of an experiment, newest first, expired and revoked ones too."""
        with self._database.read() as session:
            rows = session.scalars(
                select(ShareRow)
                .join(ShareRow.experiment)
                .where(ExperimentRow.id == experiment_id)
                .options(joinedload(ShareRow.experiment))
                .order_by(ShareRow.created_at.desc())
            )
            return [_share_of(row) for row in rows]

    def revoke(self, share_id: str) -> None:
        """At once and for good; twice is once. Raises NotFound."""
        with self._database.write() as session:
            row = session.get(ShareRow, share_id)
            if row is None:
                raise NotFound("There is no such share.", where=share_id)
            row.revoked_at = row.revoked_at or datetime.now(UTC)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def _share_of(row: ShareRow) -> Share:
    return Share(row.id, row.experiment.id, row.created_at, row.expires_at, row.revoked_at)
