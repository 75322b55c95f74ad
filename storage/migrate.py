"""Migrations at start-up, by whoever comes first, under a lock."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from filelock import FileLock, Timeout
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import SQLAlchemyError

from engine.domain.errors import StorageError
from storage.database import Database, as_storage_error

HEAD = "0003"
"""Newest revision in migrations/versions; a test holds it to that."""
_LOCK_SECONDS = 600
_ADVISORY_KEY = 0x5EED_4A11


def migrate(database: Database) -> None:
    """Bring the schema to HEAD; cheap when it is there already.

    Raises StorageError, with the schema as it was, when the database refuses or is
    newer than this code.
    """
    try:
        with _alone(database), database.engine.begin() as connection:
            if _revision(connection) == HEAD:
                return
            if not database.is_sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_KEY})
            if _revision(connection) != HEAD:
                _upgrade(connection)
    except SQLAlchemyError as error:
        raise as_storage_error(error) from error
    except Timeout as error:
        raise StorageError(
            "Another process has been migrating the database for too long.", mend="Try again."
        ) from error


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return found


def _alone(database: Database) -> AbstractContextManager[object]:
    """On SQLite even the first look is exclusive: whoever connects first turns write-ahead logging on, and a second
    connection at that moment is refused as locked without the busy timeout being waited for."""
    if database.is_sqlite:
        return FileLock(f"{database.path}.lock", timeout=_LOCK_SECONDS)
    return nullcontext()


def _upgrade(connection: Connection) -> None:
    # Alembic is slow to import and needed only once per release
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise StorageError(
            "The database was made by a newer Speedrail.",
            mend="Update Speedrail, or set SPEEDRAIL_HOME to another folder.",
            detail=str(error),
        ) from error
