"""Taking a dataset in: read once by a sandboxed child, then kept as the file it is."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from engine.domain.codec import from_data
from engine.domain.errors import SpeedrailError
from engine.domain.experiment import Progress
from engine.domain.workload import DatasetRef
from engine.intake.hostile import disk_problem
from engine.intake.reader import read_in_child
from engine.intake.scratch import scratch_folder
from engine.requests import DatasetRequest, DatasetResult
from engine.settings import Settings
from engine.uploads import UploadStore

if TYPE_CHECKING:
    from storage import Storage


def take_in_dataset(source: Path, storage: Storage, settings: Settings) -> DatasetRef:
    """Keep the dataset file `source`; equal bytes are one dataset. An upload is given up in the end.

    Raises InvalidInput naming the bad line; then nothing is kept.
    """
    try:
        with scratch_folder(settings) as scratch:
            data = read_in_child("dataset", DatasetRequest(str(source)), [source], scratch, settings, _unheard)
        found = from_data(DatasetResult, data)
        with source.open("rb") as opened:
            id = hashlib.file_digest(opened, "sha256").hexdigest()
        dataset = DatasetRef(id, source.name, found.items, found.labelled)
        storage.datasets.add(source, dataset)
    except OSError as error:
        UploadStore(settings).consumed(source)
        raise disk_problem(error) from error
    except SpeedrailError:
        UploadStore(settings).consumed(source)
        raise
    UploadStore(settings).consumed(source)
    return dataset


def _unheard(_: Progress) -> None:
    return None
