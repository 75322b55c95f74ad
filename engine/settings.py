"""All settings in one place; each comes from the environment and has a default.

`docs/settings.md` is written for operators and a test holds it against this list.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True)
class Settings:
    """Where things are and how the service is reached."""

    home: Path
    """SPEEDRAIL_HOME: database, artifacts, caches, logs."""
    database_url: str
    """SPEEDRAIL_DATABASE_URL: SQLAlchemy URL; SQLite under home by default."""
    artifacts_url: str
    """SPEEDRAIL_ARTIFACTS_URL: fsspec URL of the content-addressed store."""
    bind: str
    """SPEEDRAIL_BIND: address the dashboard listens on; beyond loopback an owner's token is demanded."""
    port: int
    """SPEEDRAIL_PORT."""
    owner_token: str
    """SPEEDRAIL_OWNER_TOKEN: empty lets the dashboard make one and print it at start."""
    public_url: str
    """SPEEDRAIL_PUBLIC_URL: prefix of share links; empty takes bind and port."""
    model_roots: tuple[Path, ...]
    """SPEEDRAIL_MODEL_ROOTS: folders (colon-separated) from which a server path may be picked."""
    max_upload_bytes: int
    """SPEEDRAIL_MAX_UPLOAD_BYTES."""
    sandbox_level: str
    """SPEEDRAIL_SANDBOX_LEVEL: least isolation accepted: full, partial or none."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Self:
        home = Path(environ.get("SPEEDRAIL_HOME") or Path.cwd() / ".speedrail").expanduser().resolve()
        roots = environ.get("SPEEDRAIL_MODEL_ROOTS") or str(home / "models")
        return cls(
            home=home,
            database_url=_with_driver(environ.get("SPEEDRAIL_DATABASE_URL") or f"sqlite:///{home / 'speedrail.db'}"),
            artifacts_url=environ.get("SPEEDRAIL_ARTIFACTS_URL") or f"file://{home / 'store'}",
            bind=environ.get("SPEEDRAIL_BIND") or "127.0.0.1",
            port=int(environ.get("SPEEDRAIL_PORT") or 8501),
            owner_token=environ.get("SPEEDRAIL_OWNER_TOKEN", ""),
            public_url=environ.get("SPEEDRAIL_PUBLIC_URL", "").rstrip("/"),
            model_roots=tuple(Path(p).expanduser().resolve() for p in roots.split(":") if p),
            max_upload_bytes=int(environ.get("SPEEDRAIL_MAX_UPLOAD_BYTES") or 64 * 2**30),
            sandbox_level=environ.get("SPEEDRAIL_SANDBOX_LEVEL") or "partial",
        )

    def as_environment(self) -> dict[str, str]:
        """What another process needs in its environment to have these same settings."""
        return {
            "SPEEDRAIL_HOME": str(self.home),
            "SPEEDRAIL_DATABASE_URL": self.database_url,
            "SPEEDRAIL_ARTIFACTS_URL": self.artifacts_url,
            "SPEEDRAIL_BIND": self.bind,
            "SPEEDRAIL_PORT": str(self.port),
            "SPEEDRAIL_OWNER_TOKEN": self.owner_token,
            "SPEEDRAIL_PUBLIC_URL": self.public_url,
            "SPEEDRAIL_MODEL_ROOTS": ":".join(map(str, self.model_roots)),
            "SPEEDRAIL_MAX_UPLOAD_BYTES": str(self.max_upload_bytes),
            "SPEEDRAIL_SANDBOX_LEVEL": self.sandbox_level,
        }

    @property
    def is_loopback(self) -> bool:
        return self.bind in ("127.0.0.1", "localhost", "::1")

    @property
    def queue_url(self) -> str:
        """DBOS's own database: a SQLite file of its own, or the team's PostgreSQL."""
        if self.database_url.startswith("sqlite"):
            return f"sqlite:///{self.home / 'queue.db'}"
        return self.database_url


def _with_driver(url: str) -> str:
    """`postgresql://` as everybody writes it; the driver that comes with us is psycopg."""
    scheme, colon, rest = url.partition("://")
    return f"postgresql+psycopg{colon}{rest}" if scheme in ("postgresql", "postgres") else url
