"""Database and artifact store. `open_storage(settings)` is the way in."""

from __future__ import annotations

from storage.files import FileStore
from storage.store import Storage, open_storage
from storage.views import (
    ArtifactSummary,
    ExperimentSummary,
    HostBeat,
    IntakeJob,
    Page,
    RunFilter,
    RunSummary,
    Share,
    Space,
    StoredDataset,
)

__all__ = [
    "ArtifactSummary",
    "ExperimentSummary",
    "FileStore",
    "HostBeat",
    "IntakeJob",
    "Page",
    "RunFilter",
    "RunSummary",
    "Share",
    "Space",
    "Storage",
    "StoredDataset",
    "open_storage",
]
