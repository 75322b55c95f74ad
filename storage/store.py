"""The installation's memory: one object with a repository for each kind of thing."""

from __future__ import annotations

from sqlalchemy import func, select, text

from engine.domain.errors import StorageError
from engine.settings import Settings
from storage.artifacts import Artifacts
from storage.database import Database
from storage.datasets import Datasets
from storage.experiments import Experiments
from storage.files import FileStore, open_files
from storage.hosts import Hosts
from storage.intakes import Intakes
from storage.migrate import migrate
from storage.runs import Runs
from storage.schema import ArtifactRow, DatasetRow, RunRow
from storage.shares import Shares
from storage.views import Space


class Storage:
    """What every part of Speedrail remembers through.

    Threads and processes. One Storage may be used by all threads of a process; it
    holds a pool of connections and nothing else. Any number of processes may open the
    same installation. It must not be carried through a fork: open another.

    Ownership. The dashboard writes experiments, labels, shares and intakes; the worker
    writes results, and only on behalf of the attempt it has started: a write of an
    attempt that was superseded changes nothing and returns False, so each attempt has
    at most one result. Files belong to the rows that refer to their key and go when the
    last of them goes.

    Transactions. Every method is one transaction: it happens whole or not at all, and
    what it returns is frozen domain data or a frozen view, never a row. Files are
    stored before the row that refers to them and deleted after it, so that a crash
    leaves a file too many, never one too few.

    Errors. An id that names nothing raises NotFound; a request that makes no sense
    (deleting a run that is being done, sorting by an unknown word) raises
    InvalidInput; a full disk, a busy or broken database, an unreachable object store
    raise StorageError, with everything as it was before.
    """

    def __init__(self, database: Database, files: FileStore) -> None:
        self._database = database
        self.files = files
        self.artifacts = Artifacts(database, files)
        self.experiments = Experiments(database, files)
        self.runs = Runs(database, files)
        self.shares = Shares(database)
        self.intakes = Intakes(database)
        self.datasets = Datasets(database, files)
        self.hosts = Hosts(database)

    def space(self) -> Space:
        """What is held and what is left. Files that several runs share count once."""
        lowered = select(func.max(RunRow.lowered_bytes).label("held")).where(RunRow.lowered_id != "")
        distinct = lowered.group_by(RunRow.lowered_id).subquery()
        with self._database.read() as session:
            return Space(
                artifacts=int(session.scalar(select(func.sum(ArtifactRow.size_bytes))) or 0),
                runs=int(session.scalar(select(func.sum(distinct.c.held))) or 0),
                datasets=int(session.scalar(select(func.sum(DatasetRow.size_bytes))) or 0),
                database=int(session.scalar(text(_DATABASE_SIZE[session.get_bind().dialect.name])) or 0),
                free=self.files.free_bytes(),
            )

    def close(self) -> None:
        """Give back all connections."""
        self._database.close()


_DATABASE_SIZE = {
    "sqlite": "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()",
    "postgresql": "SELECT pg_database_size(current_database())",
}


def open_storage(settings: Settings) -> Storage:
    """Open the installation at `settings.home`, creating or migrating it first.

    Several processes may do so at once: one migrates, the others wait. Raises
    StorageError when the database or the artifact store cannot be opened, or when the
    database was made by a newer Speedrail.
    """
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"The folder {settings.home} cannot be used.",
            mend="Set SPEEDRAIL_HOME to a folder that can be written to.",
            detail=str(error),
        ) from error
    database = Database(settings.database_url)
    migrate(database)
    return Storage(database, open_files(settings))
