"""Downloads run without this project and answer as the executor did."""

from __future__ import annotations

import os
import shutil
import subprocess
import venv
import zipfile
from collections.abc import Iterable
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement

from engine.domain.deployment import Formats, NumberFormat
from engine.domain.errors import StorageError
from engine.domain.ports import Runtime
from engine.domain.recipe import RuntimeId
from engine.download import package
from engine.runtimes.registry import runtime_of
from engine.tasks.companions import copy_companions
from tests.engine.runtimes.graphs import BERT, LLAMA, Case

INT8 = Formats(weights=NumberFormat.INT8)


def _unpacked(case: Case, runtime: Runtime, directory: Path, formats: Formats = INT8) -> tuple[Path, object]:
    lowered = case.lower(runtime, directory / "lowered", formats)
    copy_companions(case.directory, directory / "lowered")
    zipped = package(lowered, case.card, directory, artifact_name="Tiny", recipe="quantization(format=int8)")
    with zipfile.ZipFile(zipped) as archive:
        archive.extractall(directory / "unpacked")
    return directory / "unpacked" / "model", lowered


def _environment(requirements: Path) -> Path:
    """The Python of a new environment that has what `requirements` names, what that needs, and nothing else."""
    place = requirements.parent.parent / "environment"
    venv.create(place, symlinks=True)
    site = next(place.glob("lib/python*/site-packages"))
    for name in _with_dependencies(requirements.read_text().splitlines()):
        for file in distribution(name).files or ():
            if ".." not in file.parts:
                (site / file).parent.mkdir(parents=True, exist_ok=True)
                _link(Path(str(file.locate())), site / file)
    return place / "bin" / "python"


def _with_dependencies(lines: Iterable[str]) -> set[str]:
    names: set[str] = set()
    waiting = [Requirement(line) for line in lines]
    while waiting:
        requirement = waiting.pop()
        name = requirement.name.lower().replace("_", "-")
        if name not in names and (not requirement.marker or requirement.marker.evaluate({"extra": ""})):
            names.add(name)
            waiting += [Requirement(text) for text in distribution(name).requires or ()]
    return names


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)  # another file system


def _run(folder: Path, *arguments: str) -> str:
    """The script in an environment of its own."""
    python = _environment(folder / "requirements.txt")
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "OMP_NUM_THREADS": "1"}
    command = [str(python), "-I", "-W", "ignore", str(folder / "run_model.py"), "--threads", "1", *arguments]
    done = subprocess.run(command, cwd=folder.parent, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("runtime_id", [RuntimeId.EAGER, RuntimeId.ONNXRUNTIME, RuntimeId.OPENVINO])
def test_an_encoder_runs_without_the_project(runtime_id: RuntimeId, tmp_path: Path) -> None:
    case, runtime = Case.of(BERT, tmp_path), runtime_of(runtime_id)
    folder, lowered = _unpacked(case, runtime, tmp_path)
    batch = case.batch()
    np.savez(tmp_path / "in.npz", **batch)
    printed = _run(folder, "--input", str(tmp_path / "in.npz"), "--output", str(tmp_path / "out.npz"), "--bench")
    expected = case.open(runtime, lowered).infer(batch)["last_hidden_state"]
    np.testing.assert_allclose(np.load(tmp_path / "out.npz")["last_hidden_state"], expected, atol=1e-4)
    assert "latency:" in printed
    requirements = (folder / "requirements.txt").read_text()
    assert all("==" in line for line in requirements.splitlines())
    assert "quantization(format=int8)" in (folder / "README.txt").read_text()


def test_a_package_that_is_not_required_is_out_of_reach(tmp_path: Path) -> None:
    (folder := tmp_path / "model").mkdir()
    (folder / "requirements.txt").write_text("numpy\n")
    (folder / "run_model.py").write_text("import numpy\nimport torch\n")
    with pytest.raises(AssertionError, match="No module named 'torch'"):
        _run(folder)


@pytest.mark.parametrize("runtime_id", [RuntimeId.EAGER, RuntimeId.ONNXRUNTIME, RuntimeId.OPENVINO])
def test_a_causal_lm_generates_without_the_project(runtime_id: RuntimeId, tmp_path: Path) -> None:
    case, runtime = Case.of(LLAMA, tmp_path), runtime_of(runtime_id)
    folder, lowered = _unpacked(case, runtime, tmp_path)
    batch = case.batch()
    np.savez(tmp_path / "in.npz", **batch)
    _run(folder, "--input", str(tmp_path / "in.npz"), "--new-tokens", "5", "--output", str(tmp_path / "out.npz"))
    expected = case.open(runtime, lowered).generate(batch["input_ids"], 5).tokens
    np.testing.assert_array_equal(np.load(tmp_path / "out.npz")["tokens"], expected)


def test_floats_of_eight_bits_run_without_the_project(tmp_path: Path) -> None:
    case, runtime = Case.of(LLAMA, tmp_path), runtime_of(RuntimeId.EAGER)
    folder, lowered = _unpacked(case, runtime, tmp_path, Formats(weights=NumberFormat.FP8))
    batch = case.batch()
    np.savez(tmp_path / "in.npz", **batch)
    _run(folder, "--input", str(tmp_path / "in.npz"), "--new-tokens", "5", "--output", str(tmp_path / "out.npz"))
    expected = case.open(runtime, lowered).generate(batch["input_ids"], 5).tokens
    np.testing.assert_array_equal(np.load(tmp_path / "out.npz")["tokens"], expected)


def test_a_text_goes_in(tmp_path: Path) -> None:
    folder, _ = _unpacked(Case.of(BERT, tmp_path), runtime_of(RuntimeId.ONNXRUNTIME), tmp_path)
    assert "last_hidden_state: float32 (2, 16, 32)" in _run(folder, "--text", "A sentence.")


def test_files_that_are_gone_are_named(tmp_path: Path) -> None:
    case = Case.of(BERT, tmp_path)
    lowered = case.lower(runtime_of(RuntimeId.ONNXRUNTIME), tmp_path / "lowered")
    (tmp_path / "lowered" / "model.onnx").unlink()
    with pytest.raises(StorageError, match=r"model\.onnx"):
        package(lowered, case.card, tmp_path)
