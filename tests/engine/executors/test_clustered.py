"""Workers placed by Ray on two hosts, a Ray node in each one's network; and what is said where they cannot be."""

from __future__ import annotations

import importlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from engine.domain.errors import InvalidInput, StageError
from engine.executors.spread import clustered
from engine.executors.spread.clustered import Ended, Wanted, _answers, _demand_success, main, wanted_of
from tests.engine.two_hosts import Host, two_hosts
from tests.models import tiny_bert

ROOT = Path(__file__).parents[3]
PORT = 6399
TENSOR = "model_parallelism(kind=tensor, degree=2, hosts=2)"
PIPELINE = "model_parallelism(kind=pipeline, degree=2, hosts=2)"
REPLICAS = "distributed(replicas=2, hosts=2)"
WITHIN = 15.0


class Cluster:
    """A Ray node of one core in each host's network."""

    def __init__(self, hosts: tuple[Host, Host], folder: Path, model: Path) -> None:
        self.hosts, self.model = hosts, model
        address = f"{hosts[0].address}:{PORT}"
        self.words = {
            "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_ADDRESS": address, "PYTHONWARNINGS": "ignore",
        }  # fmt: skip
        self.nodes = [
            self._node(hosts[0], "--head", f"--port={PORT}", "--include-dashboard=false", f"--temp-dir={folder}"),
            self._node(hosts[1], f"--address={address}"),
        ]

    def launched(self, *words: str, model: Path | None = None) -> subprocess.Popen[str]:
        command = ["-W", "ignore", "-m", "engine.executors.spread.clustered", str(model or self.model), *words]
        return self.hosts[0].start([sys.executable, *command, "--workload", "batch_size=2,sequence_length=16"], self.words, cwd=ROOT)

    def run(self, *words: str, model: Path | None = None) -> tuple[int, str, str]:
        process = self.launched(*words, model=model)
        said, errors = process.communicate(timeout=120)
        return process.returncode, said, errors

    def ranks(self) -> list[psutil.Process]:
        """Processes of the rank program, by rank."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                command = process.cmdline()
                if "engine.executors.spread.launched" in command and str(self.model) in command:
                    found.append(process)
        return sorted(found, key=lambda process: process.environ()["RANK"])

    def end(self) -> None:
        for node in self.nodes:
            with suppress(ProcessLookupError):
                os.killpg(node.pid, signal.SIGKILL)
            node.communicate()

    def _node(self, host: Host, *words: str) -> subprocess.Popen[str]:
        ray = [str(Path(sys.executable).with_name("ray")), "start", *words, f"--node-ip-address={host.address}", "--num-cpus=1"]
        return host.start([*ray, "--disable-usage-stats", "--block", "--object-store-memory=80000000"], self.words)


@pytest.mark.timeout(600)
def test_a_cluster_of_two_hosts(tmp_path: Path) -> None:
    """One story, because starting a cluster takes longer than what is asked of it."""
    # a short name, because the paths of sockets are
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder, two_hosts("srr") as hosts:
        cluster = Cluster(hosts, Path(folder), tiny_bert(tmp_path / "bert"))
        try:
            _until(lambda: "has 2 of 3 hosts" in cluster.run("--recipe", "distributed(replicas=3, hosts=3)")[2], 120.0)
            a_cluster_that_is_too_small_says_how_it_grows(cluster)
            pipeline_tensor_and_replicas_are_placed_on_both_hosts(cluster)
            a_host_without_the_model_is_named(cluster, tmp_path / "nowhere")
            a_rank_that_is_killed_is_named_and_takes_the_others_along(cluster)
            a_killed_launcher_takes_its_ranks_along(cluster)
        finally:
            cluster.end()


def a_cluster_that_is_too_small_says_how_it_grows(cluster: Cluster) -> None:
    code, _, errors = cluster.run("--recipe", "distributed(replicas=3, hosts=3)")
    assert code == 1 and "The cluster has 2 of 3 hosts with 1 core each" in errors
    assert "On each further host: RAY_AUTH_MODE=token ray start --address=" in errors


def pipeline_tensor_and_replicas_are_placed_on_both_hosts(cluster: Cluster) -> None:
    words = [word for recipe in (TENSOR, PIPELINE, REPLICAS) for word in ("--recipe", recipe)]
    code, said, errors = cluster.run(*words, "--calls", "3")
    assert code == 0, errors
    found = {each["recipe"]: each for each in map(json.loads, said.splitlines())}
    assert set(found) == {TENSOR, PIPELINE, REPLICAS}
    for each in found.values():
        assert each["ranks"] == 2 and each["max_abs_difference"] < 1e-4 and len(each["samples_ms"]) == 3
    assert not cluster.ranks()


def a_host_without_the_model_is_named(cluster: Cluster, model: Path) -> None:
    code, _, errors = cluster.run("--recipe", REPLICAS, model=model)
    assert code == 1 and "has no model in" in errors


def a_rank_that_is_killed_is_named_and_takes_the_others_along(cluster: Cluster) -> None:
    launched = cluster.launched("--recipe", TENSOR, "--calls", "1000000")
    _until(lambda: len(cluster.ranks()) == 2, 60.0)
    victim = cluster.ranks()[1]
    # the first rank is on either host, the second on the other
    (host,) = {host.address for host in cluster.hosts} - {victim.environ()["MASTER_ADDR"]}
    victim.kill()
    _, errors = launched.communicate(timeout=WITHIN)
    assert launched.returncode == 1 and errors == f"speedrail: rank 1 on {host} ended: killed by SIGKILL\n"
    assert not cluster.ranks()


def a_killed_launcher_takes_its_ranks_along(cluster: Cluster) -> None:
    launched = cluster.launched("--recipe", TENSOR, "--calls", "1000000")
    _until(lambda: len(cluster.ranks()) == 2, 60.0)
    os.killpg(launched.pid, signal.SIGKILL)
    launched.communicate()
    _until(lambda: not cluster.ranks(), WITHIN)


def _until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.parametrize(
    ("recipe", "wanted", "ranks"),
    [("distributed(replicas=3, hosts=2)", Wanted(3, 2), [[0, 1], [2]]), (TENSOR, Wanted(2, 2), [[0], [1]])],
)
def test_workers_are_shared_out_over_hosts(recipe: str, wanted: Wanted, ranks: list[list[int]]) -> None:
    assert wanted_of([recipe]) == wanted and [wanted.ranks(host) for host in range(wanted.hosts)] == ranks


def test_a_host_without_a_worker_and_recipes_that_differ_are_refused() -> None:
    with pytest.raises(InvalidInput, match="2 workers, 1 on a host, leave one of 3 hosts without any"):
        wanted_of(["distributed(replicas=2, hosts=3)"])
    with pytest.raises(InvalidInput, match="ask for different workers or hosts"):
        wanted_of([TENSOR, "distributed(replicas=3, hosts=3)"])


def test_without_a_token_or_ray_the_launch_is_refused_with_the_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(tmp_path), "--recipe", REPLICAS]
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    assert main(words) == 1 and "Set RAY_AUTH_MODE=token" in capsys.readouterr().err
    monkeypatch.setenv("RAY_AUTH_MODE", "token")

    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    assert main(words) == 1
    said = capsys.readouterr().err
    assert "is not installed" in said and "pip install -r requirements-cluster.txt" in said and "ray start --address=" in said


class Answering:
    """As much of Ray as waits: hosts that answer, and others that never do."""

    exceptions = SimpleNamespace(RayError=RuntimeError)

    def __init__(self, answers: dict[str, list[Ended]]) -> None:
        self.answers = answers

    def wait(self, asked: list[str], timeout: float) -> tuple[list[str], list[str]]:
        done = [each for each in asked if each in self.answers][:1]
        if not done:
            time.sleep(timeout)
        return done, [each for each in asked if each not in done]

    def get(self, asked: str, timeout: float) -> list[Ended]:
        return self.answers[asked]


def test_a_host_that_does_not_answer_is_named_when_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = {"one": "10.0.0.1", "other": "10.0.0.2"}
    with pytest.raises(StageError, match=r"The ranks on 10\.0\.0\.2 did not end within 0\.2 s"):
        _answers(Answering({"one": [(0, 0, "{}", "")]}), hosts, 0.2)
    monkeypatch.setattr(clustered, "GRACE_SECONDS", 0.1)
    with pytest.raises(StageError, match=r"rank 1 on 10\.0\.0\.2 ended: killed by SIGKILL"):
        _answers(Answering({"other": [(1, -9, "", "")]}), hosts, 60.0)
    both = Answering({"one": [(0, 0, "{}", "")], "other": [(1, 0, "", "")]})
    assert [host for host, _ in _answers(both, hosts, 60.0)] == ["10.0.0.1", "10.0.0.2"]


def test_of_ranks_that_failed_the_one_that_was_killed_is_named() -> None:
    ended = [("10.0.0.1", [(0, 1, "", "speedrail: rank 0 on a: RuntimeError: closed\n")]), ("10.0.0.2", [(1, -9, "", "")])]
    with pytest.raises(StageError, match=r"rank 1 on 10\.0\.0\.2 ended: killed by SIGKILL"):
        _demand_success(ended)
    with pytest.raises(StageError, match=r"rank 0 on 10\.0\.0\.1 ended: rank 0 on a: RuntimeError: closed"):
        _demand_success(ended[:1])
    _demand_success([("10.0.0.1", [(0, 0, "{}", "")])])
