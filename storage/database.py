"""The connection pool and its two kinds of transactions.

SQLite runs in WAL with foreign keys on: readers never wait, and a writer takes the one
write lock at its beginning (BEGIN IMMEDIATE), so that what it reads first cannot change
under it. PostgreSQL writers lock the rows they are about to judge.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, FromClause, create_engine, event
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.orm import Session

from engine.domain.errors import StorageError

BUSY_MILLISECONDS = 20_000
_PRAGMAS = (
    f"PRAGMA busy_timeout={BUSY_MILLISECONDS}",
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=NORMAL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA cache_size=-16384",
    "PRAGMA temp_store=MEMORY",
)


class Database:
    """Safe to share between threads, not across a fork."""

    def __init__(self, url: str) -> None:
        """Raises StorageError for a URL that SQLAlchemy cannot read."""
        try:
            self.url = make_url(url)
            self.engine = create_engine(self.url, pool_pre_ping=not url.startswith("sqlite"))
        except (ArgumentError, ImportError) as error:
            raise StorageError(
                "The database URL cannot be used.",
                mend="Set SPEEDRAIL_DATABASE_URL to sqlite:///… or postgresql+psycopg://….",
                detail=str(error),
            ) from error
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        if self.is_sqlite:
            self.engine.dialect.statement_compiler = _HintingCompiler
            self.path = Path(self.url.database or "speedrail.db").resolve()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        self._writing = self.engine.execution_options(writes=True)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A consistent view. Raises StorageError when the database refuses."""
        with _translated(), Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """All or nothing: committed at the end, rolled back when the block raises."""
        with _translated(), Session(self._writing, expire_on_commit=False) as session, session.begin():
            yield session

    def close(self) -> None:
        self.engine.dispose()


class _HintingCompiler(SQLiteCompiler):
    """SQLAlchemy drops `Select.with_hint` on SQLite; history needs `INDEXED BY`."""

    def get_from_hint_text(self, table: FromClause, text: str | None) -> str | None:
        return text


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions are begun below, not by the driver's guess
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        raise as_storage_error(error) from error


def as_storage_error(error: SQLAlchemyError) -> StorageError:
    """What the database's refusal means to a person."""
    text = str(getattr(error, "orig", None) or error)
    if "is full" in text or "No space left" in text:
        return StorageError(
            "The disk that holds the database is full; nothing was changed.",
            mend="Free some space, for example by deleting runs or artifacts, and try again.",
            detail=text,
        )
    if "is locked" in text:
        return StorageError("The database was busy for too long.", mend="Try again.", detail=text)
    return StorageError(
        "The database refused.", mend="Look at the detail; the database may be damaged or unreachable.", detail=text
    )
