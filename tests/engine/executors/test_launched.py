"""The rank program on hosts that differ: all ranks end and say which host has what otherwise."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.models import tiny_bert, tiny_onnx

ROOT = Path(__file__).parent.parent.parent.parent


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_onnx(tmp_path / "model")


def said_by_both(models: tuple[Path, Path], code: tuple[Path, Path]) -> list[str]:
    """What two ranks of this host say, each with its own model and code; both fail."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    started = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "engine.executors.spread.launched", str(model), "--recipe", "distributed(replicas=2)"],
            cwd=code[rank], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": "2"},
        )
        for rank, model in enumerate(models)
    ]  # fmt: skip
    said = [process.communicate(timeout=120)[1] for process in started]
    assert [process.returncode for process in started] == [1, 1]
    return said


def test_a_host_without_the_model(model: Path) -> None:
    for said in said_by_both((model, model.parent / "absent"), (ROOT, ROOT)):
        assert f"Rank 1 on {socket.gethostname()} has no model in {model.parent / 'absent'}" in said
        assert "same files in the same place on every host" in said


def test_a_host_with_another_model(model: Path) -> None:
    other = tiny_bert(model.parent / "other")
    for said in said_by_both((model, other), (ROOT, ROOT)):
        assert f"Rank 1 on {socket.gethostname()} has another model in {other}" in said


def test_a_host_with_another_version(model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    for package in ("engine", "storage"):
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    with (copy / "engine" / "host.py").open("a") as changed:
        changed.write("# newer\n")
    for said in said_by_both((model, model), (ROOT, copy)):
        assert f"Rank 1 on {socket.gethostname()} has another version of Speedrail in {copy / 'engine'}" in said
