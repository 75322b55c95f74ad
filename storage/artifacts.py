"""Artifacts and what hangs on them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.orm import Session

from engine.domain.artifact import Artifact
from engine.domain.errors import InvalidInput, NotFound, StorageError
from storage.database import Database
from storage.files import FileStore
from storage.mapping import artifact_of
from storage.removal import remove_experiments, sweep_files
from storage.schema import ArtifactRow, ExperimentRow, RunRow, run_search
from storage.views import ArtifactSummary, Page
from storage.words import document

MIN_PREFIX = 4


class Artifacts:
    def __init__(self, database: Database, files: FileStore) -> None:
        self._database = database
        self._files = files

    def add(self, artifact: Artifact) -> Artifact:
        """Record an artifact whose files are in the store under its id.

        The same bytes are one artifact: an id that is known keeps its name and is
        returned as it is. Raises StorageError when the files are not in the store.
        """
        with self._database.write() as session:
            known = session.scalar(select(ArtifactRow).where(ArtifactRow.id == artifact.id))
            if known is not None:
                return artifact_of(known)
            if not self._files.exists(artifact.id):
                raise StorageError(
                    "The artifact's files are not in the store.", mend="Take it in again.", where=artifact.name
                )
            session.add(
                ArtifactRow(
                    id=artifact.id,
                    name=artifact.name,
                    size_bytes=artifact.size_bytes,
                    created_at=artifact.created_at,
                    card=artifact.card,
                    source=artifact.source,
                )
            )
        return artifact

    def get(self, id_or_prefix: str) -> Artifact:
        """By whole id or by a prefix of at least 4 digits. Raises NotFound, or InvalidInput for an ambiguous one."""
        with self._database.read() as session:
            return artifact_of(find_artifact(session, id_or_prefix))

    def list(self, text: str = "", offset: int = 0, limit: int = 100) -> Page[ArtifactSummary]:
        """Newest first; `text` is looked for in names, sources and at the start of ids."""
        matching = _matching(text)
        with self._database.read() as session:
            total = session.scalar(select(func.count()).select_from(ArtifactRow).where(*matching)) or 0
            rows = session.scalars(
                select(ArtifactRow)
                .where(*matching)
                .order_by(ArtifactRow.created_at.desc(), ArtifactRow.key.desc())
                .offset(offset)
                .limit(limit)
            ).all()
            runs, best = _figures(session, [r.key for r in rows])
        items = tuple(ArtifactSummary(artifact_of(r), runs.get(r.key, 0), best.get(r.key)) for r in rows)
        return Page(items, total, offset, limit)

    def rename(self, artifact_id: str, name: str) -> None:
        """Raises NotFound."""
        with self._database.write() as session:
            row = find_artifact(session, artifact_id)
            row.name = name
            its_runs = select(RunRow.key).where(RunRow.artifact_key == row.key)
            session.execute(update(run_search).where(run_search.c.rowid.in_(its_runs)).values(artifact=document(name)))

    def delete(self, artifact_id: str, *, with_runs: bool = False) -> int:
        """Bytes freed: the artifact's files, and with `with_runs` those of its runs.

        Refused with InvalidInput when it has experiments and `with_runs` is not said,
        or when one of its runs is being done. Raises NotFound.
        """
        with self._database.write() as session:
            row = find_artifact(session, artifact_id)
            keys = session.scalars(select(ExperimentRow.key).where(ExperimentRow.artifact_key == row.key)).all()
            if keys and not with_runs:
                raise InvalidInput(
                    f"{row.name} has {len(keys)} experiment{'s' if len(keys) > 1 else ''}.",
                    mend="Delete them first, or delete the artifact together with its runs.",
                    where=row.id,
                )
            orphans = remove_experiments(session, keys)
            session.delete(row)
            orphans.add(row.id)
        return sweep_files(self._database, self._files, orphans)


def find_artifact(session: Session, prefix: str) -> ArtifactRow:
    """See `Artifacts.get`."""
    exact = session.scalar(select(ArtifactRow).where(ArtifactRow.id == prefix))
    if exact is not None:
        return exact
    if len(prefix) < MIN_PREFIX:
        raise NotFound(f"There is no artifact {prefix!r}.", mend=f"Give at least {MIN_PREFIX} digits of its id.")
    found = session.scalars(
        select(ArtifactRow).where(ArtifactRow.id.startswith(prefix, autoescape=True)).limit(2)
    ).all()
    if not found:
        raise NotFound(f"There is no artifact {prefix!r}.", mend="It may have been deleted; see the list of models.")
    if len(found) > 1:
        raise InvalidInput(f"Several artifacts begin with {prefix!r}.", mend="Give more digits of the id.")
    return found[0]


def _matching(text: str) -> list[ColumnElement[bool]]:
    return [
        or_(
            ArtifactRow.name.icontains(part, autoescape=True),
            ArtifactRow.source.icontains(part, autoescape=True),
            ArtifactRow.id.startswith(part, autoescape=True),
        )
        for part in text.split()
    ]


def _figures(session: Session, keys: Sequence[int]) -> tuple[dict[int, int], dict[int, float]]:
    """Runs by artifact, and best acceptable speedup by artifact."""
    of_these = RunRow.artifact_key.in_(keys)
    counted = select(RunRow.artifact_key, func.count()).where(of_these).group_by(RunRow.artifact_key)
    best = (
        select(RunRow.artifact_key, func.max(RunRow.speedup))
        .where(of_these, RunRow.acceptable, RunRow.speedup.is_not(None))
        .group_by(RunRow.artifact_key)
    )
    return dict(session.execute(counted).all()), dict(session.execute(best).all())  # type: ignore[arg-type]
