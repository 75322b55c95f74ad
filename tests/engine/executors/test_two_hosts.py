"""The rank program under torchrun on two hosts, a shaped link between them: pipeline, tensor, replicas, a cut link."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.engine.two_hosts import Host, two_hosts
from tests.models import tiny_bert, tiny_llama

ROOT = Path(__file__).parent.parent.parent.parent
PORT = 29500
WORKLOAD = "batch_size=2,sequence_length=16,new_tokens=4"
PIPELINE = "model_parallelism(kind=pipeline, degree=2)"
TENSOR = "model_parallelism(kind=tensor, degree=2)"
REPLICAS = "distributed(replicas=2)"


def launched(hosts: tuple[Host, Host], model: Path, recipes: list[str], *more: str, by_torchrun: bool = False) -> list[subprocess.Popen[str]]:
    """The rank program on each host, by torchrun as docs/spreading.md says, or with torchrun's environment by hand."""
    program = ["-m", "engine.executors.spread.launched", str(model), "--workload", WORKLOAD, *more]
    program += [word for recipe in recipes for word in ("--recipe", recipe)]
    meeting = [f"--master-addr={hosts[0].address}", f"--master-port={PORT}"]
    started = []
    for rank, host in enumerate(hosts):
        torchrun = ["-m", "torch.distributed.run", "--nnodes=2", f"--node-rank={rank}", "--nproc-per-node=1", *meeting]
        words = {"MASTER_ADDR": hosts[0].address, "MASTER_PORT": str(PORT), "RANK": str(rank), "WORLD_SIZE": "2"}
        command = [sys.executable, "-W", "ignore", *(torchrun if by_torchrun else ()), *program]
        started.append(host.start(command, {} if by_torchrun else words, cwd=ROOT))
    return started


def finished(processes: list[subprocess.Popen[str]], seconds: float) -> tuple[list[int], str, str]:
    deadline = time.monotonic() + seconds
    outputs = [p.communicate(timeout=max(1.0, deadline - time.monotonic())) for p in processes]
    return [p.returncode for p in processes], "".join(o for o, _ in outputs), "".join(e for _, e in outputs)


def measured(processes: list[subprocess.Popen[str]]) -> dict[str, dict[str, Any]]:
    """What the rank program printed, by recipe."""
    try:
        codes, said, errors = finished(processes, 200.0)
        assert codes == [0, 0], errors
        found = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
        return {each["recipe"]: each for each in found}
    finally:
        ended(processes)


def ended(processes: list[subprocess.Popen[str]]) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_pipeline_tensor_and_replicas_across_a_gigabit_link(tmp_path: Path) -> None:
    model = tiny_bert(tmp_path / "bert")
    with two_hosts("sr1", mbit=1000) as hosts:
        found = measured(launched(hosts, model, [PIPELINE, TENSOR, REPLICAS], "--calls", "5", by_torchrun=True))
    assert set(found) == {PIPELINE, TENSOR, REPLICAS}
    for each in found.values():
        assert each["ranks"] == 2 and each["max_abs_difference"] < 1e-4
        assert len(each["samples_ms"]) == 5 and each["latency_ms"] > 0


def test_latency_of_the_link_shows_and_tokens_stay(tmp_path: Path) -> None:
    model = tiny_llama(tmp_path / "llama")
    with two_hosts("sr2", mbit=1000, latency=0.0005) as hosts:
        found = measured(launched(hosts, model, [PIPELINE], "--calls", "5"))[PIPELINE]
    assert found["greedy_tokens_identical"] is True and found["max_abs_difference"] < 1e-4
    # one crossing at least, which takes half a millisecond whatever the machine does
    assert found["latency_ms"] > 0.5


def test_a_cut_link_ends_every_rank_within_the_timeout(tmp_path: Path) -> None:
    model, timeout = tiny_bert(tmp_path / "bert"), 5.0
    with two_hosts("sr3") as hosts:
        processes = launched(hosts, model, [TENSOR], "--calls", "1000000", "--timeout", str(timeout))
        try:
            _until_calling(hosts[1])
            hosts[1].cut_off()
            began = time.monotonic()
            codes, _, errors = finished(processes, timeout + 30.0)
            assert all(codes), errors
            assert time.monotonic() - began < timeout + 5.0
            for rank in (0, 1):
                assert re.search(rf"rank {rank} on \S+: another rank was silent for 5 s: it is stopped, or the link to it is cut", errors)
        finally:
            ended(processes)


def _until_calling(host: Host) -> None:
    """Until bytes keep flowing between the ranks."""
    deadline, before = time.monotonic() + 90.0, -1
    while time.monotonic() < deadline:
        shown = subprocess.run(["ip", "-n", host.namespace, "-s", "-j", "link", "show", host.device], capture_output=True, text=True, check=True)
        now = json.loads(shown.stdout)[0]["stats64"]["rx"]["packets"]
        if before >= 0 and now - before > 200:
            return
        before = now
        time.sleep(0.5)
    pytest.fail("The ranks never talked.")
