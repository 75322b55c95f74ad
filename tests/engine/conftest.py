from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from engine.domain.artifact import Artifact
from engine.domain.workload import DatasetRef, Workload
from engine.intake.identity import artifact_id
from engine.settings import Settings
from storage import Storage, open_storage
from tests.models import tiny_card, tiny_onnx

QUICK = Workload(rounds=3, processes=1, round_seconds=0.05, warmup_calls=1, batch_size=1)
"""As little timing as an experiment can do."""


@pytest.fixture(scope="session")
def fpga_home(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A home that keeps the simulators of the FPGA core: each is built once, whichever process of the session needs it."""
    session = tmp_path_factory.getbasetemp() if worker_id == "master" else tmp_path_factory.getbasetemp().parent
    return session / "fpga-home"


@pytest.fixture
def storage(settings: Settings) -> Iterator[Storage]:
    opened = open_storage(settings)
    yield opened
    opened.close()


@pytest.fixture
def tiny(storage: Storage, tmp_path: Path) -> Artifact:
    """A tiny ONNX model in the store, taken in without a child."""
    directory = tiny_onnx(tmp_path / "tiny")
    return keep(directory, storage)


@pytest.fixture
def inputs(storage: Storage, tmp_path: Path) -> DatasetRef:
    """What the tiny model is asked: an NPZ of 64 rows."""
    path = inputs_file(tmp_path)
    dataset = DatasetRef(hashlib.sha256(path.read_bytes()).hexdigest(), path.name, 64, False)
    storage.datasets.add(path, dataset)
    return dataset


def inputs_file(directory: Path) -> Path:
    path = directory / "inputs.npz"
    np.savez(path, x=np.random.default_rng(0).normal(size=(64, 16)).astype(np.float32))
    return path


def keep(directory: Path, storage: Storage) -> Artifact:
    """An artifact from a directory of `tests.models`."""
    artifact = Artifact(artifact_id(directory), directory.name, 1, datetime.now(UTC), tiny_card(directory))
    storage.files.put_directory(artifact.id, directory)
    return storage.artifacts.add(artifact)
