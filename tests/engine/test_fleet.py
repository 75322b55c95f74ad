"""Two workers on one queue in PostgreSQL, one of them killed; and which host an experiment goes to."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from engine.domain.artifact import Artifact
from engine.domain.experiment import Run, RunStatus
from engine.domain.host import HostFacts
from engine.domain.metrics import LATENCY
from engine.domain.workload import Workload
from engine.execution.execute import run_experiment
from engine.fleet import choose_host, demand_same_code
from engine.grammar import parse_recipe
from engine.host import code
from engine.launch import launch
from engine.queue import Queue
from engine.settings import Settings
from storage import Storage, open_storage
from tests.engine.conftest import keep
from tests.engine.postgres import running
from tests.models import tiny_onnx

EXPERIMENTS, RECIPES = 40, ("@openvino", "quantization(format=int8)", "quantization(format=int8)@openvino", "distributed(replicas=2)")
PATIENCE = 120.0


@pytest.fixture
def team(settings: Settings) -> Iterator[Settings]:
    """This installation with the team's database."""
    with tempfile.TemporaryDirectory(prefix="speedrail-pg-") as folder:
        Path(folder).chmod(0o755)
        with running(Path(folder)) as url:
            yield Settings.from_environment({**settings.as_environment(), "SPEEDRAIL_DATABASE_URL": url})


def worker(name: str, team: Settings, folder: Path) -> subprocess.Popen[bytes]:
    """A host of its own: its own home, the team's database and files."""
    settings = replace(team, home=folder / name)
    settings.home.mkdir()
    with (folder / f"{name}.log").open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.engine.fleet_worker", name],
            cwd=Path(__file__).parent.parent.parent, env={**os.environ, **settings.as_environment()},
            stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip


def test_every_run_is_recorded_once_though_a_worker_is_killed(team: Settings, tmp_path: Path) -> None:
    storage, queue = open_storage(team), Queue(team)
    artifact = keep(tiny_onnx(tmp_path / "tiny"), storage)
    recipes = [parse_recipe(recipe) for recipe in RECIPES]
    experiments = [launch(storage, queue, artifact, Workload(), recipes, name=str(i)) for i in range(EXPERIMENTS)]
    queue.close()
    ids = [e.id for e in experiments]
    one, other = worker("one", team, tmp_path), worker("other", team, tmp_path)
    try:
        _until(lambda: len(_done(storage, ids)) >= 40, storage, ids, tmp_path)
        assert {h.host for h in storage.hosts.list()} == {"one", "other"}
        os.kill(one.pid, signal.SIGKILL)
        one.wait()
        _until(lambda: len(_done(storage, ids)) == 5 * EXPERIMENTS, storage, ids, tmp_path)
    finally:
        for process in (one, other):
            process.kill()
            process.wait()
    runs = _runs(storage, ids)
    assert len(runs) == 200 and {run.status for run in runs} == {RunStatus.SUCCEEDED}
    logs = [storage.runs.log(run.id) for run in runs]
    for run, log in zip(runs, logs, strict=True):
        # the result is the last attempt's, and nobody else wrote one
        assert run.value(LATENCY.name) == run.attempt
        assert log.count("recorded by") <= 1
    # the killed one may have died between starting its attempt and saying so
    unsaid = [run.attempt - log.count("begun by") for run, log in zip(runs, logs, strict=True)]
    assert min(unsaid) == 0 and sum(unsaid) <= 1
    by = re.findall(r"recorded by (\w+)", "".join(logs))
    assert by.count("one") >= 5 and by.count("other") >= 100 - by.count("one")
    assert sum(run.attempt for run in runs) <= 205  # the killed one had one experiment in hand
    storage.close()


def _runs(storage: Storage, ids: list[str]) -> list[Run]:
    return [run for id_ in ids for run in storage.runs.of_experiment(id_)]


def _done(storage: Storage, ids: list[str]) -> list[Run]:
    return [run for run in _runs(storage, ids) if run.status.is_final]


def _until(condition: object, storage: Storage, ids: list[str], folder: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, (
            f"{len(_done(storage, ids))} done; " + "".join(p.read_text()[-2000:] for p in folder.glob("*.log"))
        )
        time.sleep(0.3)


def test_a_host_without_the_model_says_where_it_looked(settings: Settings, tmp_path: Path) -> None:
    storage = open_storage(settings)
    artifact = keep(tiny_onnx(tmp_path / "tiny"), storage)
    experiment = launch(storage, None, artifact, Workload(), [])
    storage.close()
    # its worker has the team's database and a folder of its own
    apart = replace(settings, artifacts_url=f"file://{tmp_path / 'apart'}")
    storage = open_storage(apart)
    assert run_experiment(experiment.id, storage, apart)
    (run,) = storage.runs.of_experiment(experiment.id)
    assert run.status is RunStatus.FAILED
    assert f"does not have the files of {artifact.name}: they are not in {apart.artifacts_url}" in run.problems[0].what
    assert "--artifacts-url of the host that took the model in" in run.problems[0].mend
    storage.close()


def test_a_worker_of_another_version_does_not_join(settings: Settings) -> None:
    storage = open_storage(settings)
    others = HostFacts("other", "cpu", 2, 2**33, code=code())
    storage.hosts.beat("other", "other-1", others, "")
    demand_same_code(storage)
    storage.hosts.beat("other", "other-1", replace(others, code="newer"), "")
    storage.close()
    team = ["--database-url", settings.database_url, "--artifacts-url", settings.artifacts_url, "--home", str(settings.home)]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "engine", "worker", *team],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and "The worker on other is another version of Speedrail than this one" in done.stderr
    assert "Install the same version on both" in done.stderr


def test_an_experiment_goes_to_the_host_that_has_what_it_needs(tiny: Artifact) -> None:
    small = HostFacts("small", "cpu", 2, 2**33)
    large = HostFacts("large", "cpu", 16, 2**36)
    wide = [parse_recipe("distributed(replicas=8)")]
    assert choose_host(wide, tiny, [small, large]).queue_host == "large"
    assert choose_host([parse_recipe("@openvino")], tiny, [small, large]).queue_host == ""
    heavy = replace(tiny, size_bytes=2**33)
    assert choose_host([parse_recipe("@openvino")], heavy, [small, large]).queue_host == "large"
