"""Datasets for quality and calibration: one file each in the file store."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import select

from engine.domain.errors import NotFound
from engine.domain.workload import DatasetRef
from storage.database import Database
from storage.files import FileStore
from storage.schema import DatasetRow
from storage.views import StoredDataset


class Datasets:
    def __init__(self, database: Database, files: FileStore) -> None:
        self._database = database
        self._files = files

    def add(self, path: Path, dataset: DatasetRef) -> None:
        """Copy the file into the store under `dataset.id`; an id that is known stays as it is.

        Raises StorageError.
        """
        with self._database.write() as session:
            if session.get(DatasetRow, dataset.id) is not None:
                return
            self._files.put_file(dataset.id, path)
            session.add(
                DatasetRow(
                    id=dataset.id,
                    name=dataset.name,
                    items=dataset.items,
                    labelled=dataset.labelled,
                    size_bytes=path.stat().st_size,
                    created_at=datetime.now(UTC),
                    file_name=path.name,
                )
            )

    def get(self, dataset_id: str) -> DatasetRef:
        """Raises NotFound."""
        row = self._row(dataset_id)
        return DatasetRef(row.id, row.name, row.items, row.labelled)

    def list(self) -> list[StoredDataset]:
        """Newest first."""
        with self._database.read() as session:
            rows = session.scalars(select(DatasetRow).order_by(DatasetRow.created_at.desc(), DatasetRow.id))
            return [StoredDataset(r.id, r.name, r.items, r.labelled, r.size_bytes, r.created_at) for r in rows]

    def path(self, dataset_id: str) -> Path:
        """The file on this machine, under its own name (its ending says its format). Raises NotFound."""
        return self._files.local_path(dataset_id) / self._row(dataset_id).file_name

    def _row(self, dataset_id: str) -> DatasetRow:
        with self._database.read() as session:
            row = session.get(DatasetRow, dataset_id)
        if row is None:
            raise NotFound(f"There is no dataset {dataset_id!r}.", mend="Upload it again.")
        return row
