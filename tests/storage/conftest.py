"""An empty storage for each test, and short ways to fill it.

Set SPEEDRAIL_TEST_POSTGRES_URL (a server on which databases may be created) to run the
same tests on PostgreSQL too.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from engine.domain.artifact import Artifact, ArtifactFormat, ModelCard, TaskId, TensorSpec
from engine.domain.experiment import Experiment, Run, RunStatus
from engine.domain.workload import Workload
from engine.settings import Settings
from storage import Storage, open_storage

POSTGRES = os.environ.get("SPEEDRAIL_TEST_POSTGRES_URL", "")
BACKENDS = ["sqlite", "postgresql"] if POSTGRES else ["sqlite"]
NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
CARD = ModelCard(ArtifactFormat.ONNX, TaskId.TENSORS, "net", 3, "float32", (TensorSpec("x", "float32", ("batch", 4)),))


@contextmanager
def installation(backend: str, settings: Settings) -> Iterator[Settings]:
    """These settings with an empty database of this kind."""
    if backend == "sqlite":
        yield settings
        return
    name = f"speedrail_{uuid.uuid4().hex}"
    server = create_engine(POSTGRES, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
        url = make_url(POSTGRES).set(database=name).render_as_string(hide_password=False)
        yield replace(settings, database_url=url)
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    server.dispose()


@pytest.fixture(params=BACKENDS)
def any_settings(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Settings]:
    """An installation on each database there is."""
    with installation(request.param, settings) as found:
        yield found


@pytest.fixture
def storage(any_settings: Settings) -> Iterator[Storage]:
    opened = open_storage(any_settings)
    yield opened
    opened.close()


def folder(path: Path, **files: str) -> Path:
    """A directory with these files: `folder(tmp_path / "m", weights="…")`."""
    path.mkdir(parents=True)
    for name, content in files.items():
        (path / name).write_text(content)
    return path


@pytest.fixture
def add_artifact(storage: Storage, tmp_path: Path) -> Callable[..., Artifact]:
    def add(name: str = "net", content: str = "weights") -> Artifact:
        identity = uuid.uuid4().hex * 2
        storage.files.put_directory(identity, folder(tmp_path / identity, model=content))
        return storage.artifacts.add(Artifact(identity, name, len(content), NOON, CARD, f"{name}.onnx"))

    return add


@pytest.fixture
def add_experiment(storage: Storage, add_artifact: Callable[..., Artifact]) -> Callable[..., list[Run]]:
    """An experiment with a queued run for each recipe; returns its runs."""

    def add(*recipes: str, artifact: Artifact | None = None, name: str = "study", **changes: object) -> list[Run]:
        artifact = artifact or add_artifact()
        experiment = Experiment(uuid.uuid4().hex, name, artifact.id, Workload(), NOON)
        runs = [replace(new_run(recipe, experiment, index), **changes) for index, recipe in enumerate(recipes)]
        storage.experiments.create(experiment, runs)
        return runs

    return add


def new_run(recipe: str, experiment: Experiment, index: int = 0) -> Run:
    runtime = recipe.partition("@")[2] or "eager"
    created = experiment.created_at + timedelta(seconds=index)
    return Run(uuid.uuid4().hex, experiment.id, experiment.artifact_id, recipe, runtime, RunStatus.QUEUED, created)
