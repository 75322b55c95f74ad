"""Experiments on a cluster of two hosts, a Ray node in each one's network; and what is said where there is none."""

from __future__ import annotations

import importlib
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine.domain.errors import StageError
from engine.domain.layout import Workers
from engine.execution.leash import Leash
from engine.executors.spread.clustered import connected
from engine.grammar import parse_recipe
from engine.host import in_cluster
from engine.sandbox import Limits
from engine.settings import Settings
from storage import open_storage
from tests.engine.conftest import inputs_file
from tests.engine.two_hosts import Host, two_hosts
from tests.models import tiny_bert, tiny_onnx

ROOT = Path(__file__).parents[3]
PORT = 6399
TIMEOUT = 5.0
WITHIN = 15.0
TENSOR = "model_parallelism(kind=tensor, degree=2, hosts=2, timeout=5)"
PIPELINE = "model_parallelism(kind=pipeline, degree=2, hosts=2, timeout=5)"
REPLICAS = "distributed(replicas=2, hosts=2, timeout=5)"
MORE = "distributed(replicas=3, hosts=3)"
QUICK = "batch_size=2,sequence_length=16,threads=1,rounds=3,processes=1,round_seconds=0.05,warmup_calls=2"
LONG = "batch_size=2,sequence_length=16,threads=1,rounds=12,processes=1,round_seconds=0.5,warmup_calls=2"


class Cluster:
    """A Ray node of one core in each host's network, and a home that both see."""

    def __init__(self, hosts: tuple[Host, Host], folder: Path, home: Path, model: Path) -> None:
        self.hosts, self.model, self._ray = hosts, model, str(Path(sys.executable).with_name("ray"))
        address = f"{hosts[0].address}:{PORT}"
        self.words = {
            "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_ADDRESS": address, "PYTHONWARNINGS": "ignore",
            "SPEEDRAIL_HOME": str(home),
        }  # fmt: skip
        self.nodes = [
            self._node(hosts[0], "--head", f"--port={PORT}", "--include-dashboard=false", f"--temp-dir={folder}"),
            self._node(hosts[1], f"--address={address}"),
        ]

    def launched(self, *recipes: str, workload: str = QUICK, model: Sequence[str] = ()) -> subprocess.Popen[str]:
        # kept, so that a recipe is lowered once for all of the story
        command = [sys.executable, "-W", "ignore", "-m", "engine", "run", *(model or [str(self.model)]), "--save", "--workload", workload, "--json", "-"]
        command += [word for recipe in recipes for word in ("--recipe", recipe)]
        return self.hosts[0].start(command, self.words, cwd=ROOT)

    def run(self, *recipes: str) -> dict[str, dict[str, Any]]:
        """Its runs, by recipe."""
        return runs_of(*self.launched(*recipes).communicate(timeout=300))

    def ranks(self) -> list[psutil.Process]:
        """The workers themselves: the innermost of each sandbox."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                parents = process.parents()[:2]
                if all("engine.executors.spread.rank" in each.cmdline() for each in (process, *parents)):
                    found.append(process)
        return found

    def nodes_in_it(self) -> int:
        said, _ = self.hosts[0].start([self._ray, "status"], self.words).communicate(timeout=60)
        return said.count("1 node_")

    def end(self) -> None:
        for node in self.nodes:
            with suppress(ProcessLookupError):
                os.killpg(node.pid, signal.SIGKILL)
            node.communicate()

    def _node(self, host: Host, *words: str) -> subprocess.Popen[str]:
        ray = [self._ray, "start", *words, f"--node-ip-address={host.address}", "--num-cpus=1"]
        return host.start([*ray, "--disable-usage-stats", "--block", "--object-store-memory=80000000"], self.words)


def runs_of(said: str, errors: str) -> dict[str, dict[str, Any]]:
    assert said.startswith("{"), errors
    return {run["recipe"]: run for run in json.loads(said)["runs"]}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One for all, because starting it takes longer than what is asked of it."""
    place = tmp_path_factory.mktemp("cluster")
    # a short name, because the paths of sockets are
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder, two_hosts("srr") as hosts:
        cluster = Cluster(hosts, Path(folder), place / "home", tiny_bert(place / "bert"))
        try:
            _until(lambda: cluster.nodes_in_it() == 2, 120.0)
            yield cluster
        finally:
            cluster.end()


@pytest.mark.timeout(900)
def test_models_on_two_hosts_run_and_fail_like_any_other(cluster: Cluster, tmp_path: Path) -> None:
    """One story, because starting a cluster takes longer than what is asked of it."""
    all_are_proven_measured_and_drawn(cluster)
    a_cancel_and_a_killed_launcher_leave_nobody_behind(cluster, [str(tiny_onnx(tmp_path / "small")), "--dataset", str(inputs_file(tmp_path))])
    whoever_is_killed_stopped_or_cut_off_is_named(cluster)


def all_are_proven_measured_and_drawn(cluster: Cluster) -> None:
    found = cluster.run(PIPELINE, TENSOR, REPLICAS, MORE)
    baseline, more = found.pop(""), found.pop(spelled(MORE))
    assert len(found) == 3 and baseline["environment"]["sandbox"] == "full"
    assert not cluster.ranks()
    (refused,) = more["reasons"]
    assert "The cluster has 2 of 3 hosts with 1 core each" in refused and "RAY_AUTH_MODE=token ray start --address=" in refused
    for run in found.values():
        assert run["status"] == "succeeded", run["problems"]
        proof = next(stage for stage in run["facts"] if stage["technique"] == "spreading")
        assert proof["facts"]["hosts"] == 2 and proof["facts"]["max_abs_difference"] < 1e-4
        numbers = {each["name"]: each for each in run["measurements"]}
        assert numbers["latency"]["samples"] >= 3 and numbers["quality"]["median"] > 0.999
        # two workers' torch, besides the driver
        assert numbers["peak_memory"]["median"] > 1.2 * baseline_memory(baseline)
        assert run["environment"]["sandbox"] == "partial"
    storage = open_storage(Settings.from_environment(cluster.words))
    for recipe in (PIPELINE, TENSOR):
        drawn = storage.runs.attachments(found[spelled(recipe)]["id"])["timeline"]["ranks"]
        assert {name.rpartition(" on ")[2] for name in drawn} == {host.address for host in cluster.hosts}
    assert found[spelled(REPLICAS)]["facts"][-1]["facts"]["scaling_efficiency"] > 0


def baseline_memory(baseline: dict[str, Any]) -> float:
    return float(next(each["median"] for each in baseline["measurements"] if each["name"] == "peak_memory"))


def spelled(recipe: str) -> str:
    return str(parse_recipe(recipe))


def a_cancel_and_a_killed_launcher_leave_nobody_behind(cluster: Cluster, model: Sequence[str]) -> None:
    # not SIGINT, which whatever a shell started in the background ignores, and so do its children
    for number in (signal.SIGTERM, signal.SIGKILL):
        launched = cluster.launched(REPLICAS, workload=LONG, model=model)
        _until_measuring(launched)
        assert len(cluster.ranks()) == 2
        os.killpg(launched.pid, number)
        _until(lambda: not cluster.ranks(), WITHIN)
        launched.communicate(timeout=WITHIN)
        assert launched.returncode != 0


def whoever_is_killed_stopped_or_cut_off_is_named(cluster: Cluster) -> None:
    """Of three models that are measured in turns, one after another."""
    launched = cluster.launched(TENSOR, REPLICAS, PIPELINE, workload=LONG)
    _until_measuring(launched)
    assert len(cluster.ranks()) == 6
    victims = sorted(cluster.ranks(), key=lambda process: process.create_time())
    victims[0].kill()
    _until(lambda: len(cluster.ranks()) == 4, WITHIN)
    victims[2].suspend()
    _until(lambda: len(cluster.ranks()) == 2, WITHIN)
    cluster.hosts[1].cut_off()
    _until(lambda: not cluster.ranks(), WITHIN + TIMEOUT)
    runs = runs_of(*launched.communicate(timeout=200))
    rank = r"rank [01] on \S+ at 10\.77\.0\.[12] \(pid \d+\)"
    for recipe, cause in (
        (TENSOR, rf"{rank} is gone: it ended \(SIGKILL"), (REPLICAS, rf"{rank} did not answer within 5 s: it is stopped \(SIGSTOP\)"),
        (PIPELINE, r"rank [01] on \S+ at 10\.77\.0\.2 \(pid \d+\) did not answer within 5 s: its host does not answer"),
    ):  # fmt: skip
        run = runs[spelled(recipe)]
        assert run["status"] == "failed" and re.search(cause, " ".join(run["reasons"])), run["reasons"]
    assert runs[""]["status"] == "succeeded"


def _until_measuring(launched: subprocess.Popen[str]) -> None:
    assert launched.stderr
    said = []
    for line in iter(launched.stderr.readline, ""):
        said.append(line)
        if line.endswith(": measuring\n"):
            return
    pytest.fail("".join(said))


def _until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.3)


def test_without_a_token_or_ray_the_commands_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    with pytest.raises(StageError) as refusal:
        connected()
    assert "Set RAY_AUTH_MODE=token" in str(refusal.value)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")

    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(StageError) as refusal:
        connected()
    assert "is not installed" in str(refusal.value) and "pip install -r requirements-cluster.txt" in refusal.value.mend


def test_a_host_is_in_a_cluster_that_is_named_or_runs_here_and_demands_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert not in_cluster()
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("10.0.0.1:6379")
    assert in_cluster()
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert in_cluster()
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert not in_cluster()


def test_more_isolation_than_workers_on_several_hosts_have_is_refused(tmp_path: Path) -> None:
    with Leash(lambda: False, "full") as leash, pytest.raises(StageError, match="their isolation is partial; full is demanded"):
        leash.start(
            "measure", readable=[], writable=[], limits=Limits.of_host(), log=tmp_path / "log", threads=1, workers=Workers(2, 2)
        )
