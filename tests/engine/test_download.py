"""Downloads run without this project and answer as the executor did."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from engine.domain.deployment import Formats, NumberFormat
from engine.domain.errors import StorageError
from engine.domain.ports import Runtime
from engine.domain.recipe import RuntimeId
from engine.download import package
from engine.runtimes.registry import runtime_of
from engine.tasks.companions import copy_companions
from tests.engine.runtimes.graphs import BERT, LLAMA, Case

INT8 = Formats(weights=NumberFormat.INT8)


def _unpacked(case: Case, runtime: Runtime, directory: Path) -> tuple[Path, object]:
    lowered = case.lower(runtime, directory / "lowered", INT8)
    copy_companions(case.directory, directory / "lowered")
    zipped = package(lowered, case.card, directory, artifact_name="Tiny", recipe="quantization(format=int8)")
    with zipfile.ZipFile(zipped) as archive:
        archive.extractall(directory / "unpacked")
    return directory / "unpacked" / "model", lowered


ONLY_WHAT_IS_REQUIRED = """
import importlib.util, runpy, sys
from importlib.metadata import distribution, packages_distributions
from pathlib import Path
from packaging.requirements import Requirement

def closure(lines):
    names, waiting = set(), [Requirement(line) for line in lines if line.strip()]
    while waiting:
        requirement = waiting.pop()
        name = requirement.name.lower().replace("_", "-")
        if name in names or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        try:
            waiting += [Requirement(text) for text in distribution(name).requires or ()]
        except ModuleNotFoundError:
            continue
        names.add(name)
    return names

class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in foreign:
            raise ModuleNotFoundError(f"{name} is not required", name=name)

script = Path(sys.argv[1])
required = closure((script.parent / "requirements.txt").read_text().splitlines())
foreign = {module for module, owners in packages_distributions().items() if not {o.lower().replace("_", "-") for o in owners} & required}
for module in [m for m in sys.modules if m.partition(".")[0] in foreign]:
    del sys.modules[module]
sys.meta_path.insert(0, Refusing())
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name.partition(".")[0] in foreign else find_spec(name, package)
sys.argv = sys.argv[1:]
runpy.run_path(str(script), run_name="__main__")
"""
"""Runs a script as if only what its requirements.txt names, and what that needs, were installed."""


def _run(folder: Path, *arguments: str) -> str:
    """The script in a process that can see neither this project nor a package that is not required."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "OMP_NUM_THREADS": "1"}
    script = str(folder / "run_model.py")
    command = [sys.executable, "-I", "-W", "ignore", "-c", ONLY_WHAT_IS_REQUIRED, script, "--threads", "1", *arguments]
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
    (tmp_path / "requirements.txt").write_text("numpy==0\n")
    (tmp_path / "run_model.py").write_text("import numpy\nimport torch\n")
    with pytest.raises(AssertionError, match="torch is not required"):
        _run(tmp_path)


@pytest.mark.parametrize("runtime_id", [RuntimeId.EAGER, RuntimeId.ONNXRUNTIME, RuntimeId.OPENVINO])
def test_a_causal_lm_generates_without_the_project(runtime_id: RuntimeId, tmp_path: Path) -> None:
    case, runtime = Case.of(LLAMA, tmp_path), runtime_of(runtime_id)
    folder, lowered = _unpacked(case, runtime, tmp_path)
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
