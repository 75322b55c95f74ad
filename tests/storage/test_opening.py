"""Opening an installation: created, migrated once, refused when it cannot be."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import event, text

from engine.domain.errors import StorageError
from engine.settings import Settings
from storage import IntakeJob, Storage, open_storage
from storage.migrate import HEAD
from storage.schema import Base
from tests.storage.conftest import NOON

ROOT = Path(__file__).parents[2]
_OPEN = """
import sys
from engine.settings import Settings
from storage import open_storage
settings = Settings.from_environment({"SPEEDRAIL_HOME": sys.argv[1], "SPEEDRAIL_DATABASE_URL": sys.argv[2]})
print("ready", flush=True)
sys.stdin.readline()
print(open_storage(settings).artifacts.list().total)
"""


def test_the_migrations_make_the_schema(storage: Storage) -> None:
    def ours(item: object, name: str | None, kind: str, *_: object) -> bool:
        return not (kind == "table" and (name or "").startswith(("run_search", "alembic")))

    with storage._database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_object": ours})
        assert compare_metadata(context, Base.metadata) == []


def test_head_is_the_newest_revision() -> None:
    config = Config()
    config.set_main_option("script_location", str(ROOT / "storage" / "migrations"))
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


def test_processes_may_open_a_new_installation_at_once(any_settings: Settings) -> None:
    command = [sys.executable, "-c", _OPEN, str(any_settings.home), any_settings.database_url]
    pipe = subprocess.PIPE
    both = [subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(2)]
    for process in both:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in both:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in both:
        output, errors = process.communicate(timeout=120)
        assert (process.returncode, output) == (0, "0\n"), errors


def test_opening_again_changes_nothing(any_settings: Settings) -> None:
    open_storage(any_settings).close()
    again = open_storage(any_settings)
    with again._database.read() as session:
        assert session.scalars(text("SELECT version_num FROM alembic_version")).all() == [HEAD]
    again.close()


def test_sqlite_is_set_up_for_many_readers(settings: Settings) -> None:
    storage = open_storage(settings)
    with storage._database.read() as session:
        found = {p: session.scalar(text(f"PRAGMA {p}")) for p in ("journal_mode", "foreign_keys", "busy_timeout")}
    assert found == {"journal_mode": "wal", "foreign_keys": 1, "busy_timeout": 20_000}
    storage.close()


def test_a_newer_database_is_refused_and_left_alone(settings: Settings) -> None:
    open_storage(settings).close()
    with sqlite3.connect(settings.home / "speedrail.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(StorageError, match="newer Speedrail"):
        open_storage(settings)


def test_what_cannot_be_opened_is_named(settings: Settings) -> None:
    with pytest.raises(StorageError, match="database URL"):
        open_storage(replace(settings, database_url="nonsense"))
    settings.home.mkdir(parents=True, exist_ok=True)
    (settings.home / "speedrail.db").write_text("this is not a database " * 100)
    with pytest.raises(StorageError, match="The database refused"):
        open_storage(settings)
    (settings.home / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be used"):
        open_storage(Settings.from_environment({"SPEEDRAIL_HOME": str(settings.home / "file" / "home")}))


def test_a_full_disk_under_the_database_changes_nothing(settings: Settings) -> None:
    storage = open_storage(settings)
    storage.intakes.create(IntakeJob("before", "m.zip", "p", "upload", NOON))
    storage.close()

    @event.listens_for(storage._database.engine, "connect")
    def no_growth(connection: sqlite3.Connection, _record: object) -> None:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count={pages}")

    with pytest.raises(StorageError, match="full") as refusal:
        storage.intakes.create(IntakeJob("after", "x" * 100_000, "p", "upload", NOON))
    assert "Free some space" in refusal.value.mend
    assert [job.id for job in storage.intakes.recent()] == ["before"]
    storage.close()
