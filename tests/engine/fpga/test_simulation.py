"""The core itself: every bit and every cycle, on fresh shapes in every run of the tests."""

from __future__ import annotations

import json
import shutil
import subprocess
import zipfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.cli import main
from engine.domain.errors import InvalidInput, ToolError
from engine.fpga.build import RTL, Effort, build, verilator
from engine.fpga.cycles import Core, GemmShape, MemoryPort
from engine.fpga.export import random_example, write_project, write_waveform
from engine.fpga.fixed_point import Requantization
from engine.fpga.simulation import Simulator
from engine.fpga.verification import Case, check


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Any GEMM up to a few tiles, in one or several chunks, with starved to ample memory."""
    shape = GemmShape(draw(st.integers(1, 40)), draw(st.integers(1, 200)), draw(st.integers(1, 40)))
    bandwidth = draw(st.fractions(Fraction(1, 2), Fraction(20), max_denominator=9))
    memory = MemoryPort(bandwidth, draw(st.integers(0, 80)))
    return Case(shape, memory, draw(st.none() | st.integers(16, 80)), draw(st.integers(0, 2**32 - 1)))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
@given(case=cases())
def test_every_bit_and_every_cycle(simulator: Simulator, case: Case) -> None:
    found = check(simulator, case)
    assert found.wrong_values == 0
    assert found.cycles == found.expected_cycles
    assert found.closed_form in (None, found.cycles)


@pytest.mark.parametrize(
    ("source", "right", "wrong", "found"),
    [
        ("requantizer.v", "zero_point, 1'b1});", "zero_point, 1'b0});", "value_mismatches"),
        ("tile_controller.v", "chunk_is_ready <= |loaded_next;", "chunk_is_ready <= |loaded_chunks;", "cycle_mismatches"),
    ],
    ids=["rounds half down", "feeds a cycle late"],
)
def test_a_planted_fault_is_found(
    source: str, right: str, wrong: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    faulty = Path(shutil.copytree(RTL, tmp_path / "rtl"))
    text = (faulty / source).read_text()
    assert text.count(right) == 1
    (faulty / source).write_text(text.replace(right, wrong))
    monkeypatch.setattr("engine.fpga.build.RTL", faulty)
    monkeypatch.setenv("SPEEDRAIL_HOME", str(tmp_path))
    assert main(["fpga", "verify", "--shapes", "12", "--sizes", "2", "--seed", "5", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    other = {"value_mismatches", "cycle_mismatches"} - {found}
    assert told[found] > 0 and told[other.pop()] == 0
    assert all(case["seed"] >= 0 and case["rows"] >= 1 for case in told["mismatches"]), "each can be repeated"


def test_what_the_core_cannot_take_is_refused(simulator: Simulator) -> None:
    zeros, plain, memory = np.zeros((4, 4), int), Requantization.of_scales(np.ones(4)), MemoryPort(Fraction(8))
    with pytest.raises(InvalidInput, match="do not fit 8 bits"):
        simulator.run(zeros + 128, zeros, plain, memory)
    with pytest.raises(InvalidInput, match="do not fit each other"):
        simulator.run(zeros, zeros[:3], plain, memory)
    with pytest.raises(InvalidInput, match="8 bits, not 4"):
        simulator.run(zeros, zeros, Requantization.of_scales(np.ones(4), width=4), memory)


def test_without_a_compiler_there_are_clear_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ToolError, match="no C\\+\\+ compiler"):
        build(Core(size=4), tmp_path)
    monkeypatch.setenv("SPEEDRAIL_HOME", str(tmp_path))
    assert main(["fpga", "verify", "--shapes", "1"]) == 1
    assert "Install g++" in capsys.readouterr().err


def test_a_failing_compiler_says_so_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = tmp_path / "g++"
    compiler.write_text('#!/bin/sh\n[ "$1" = -dumpfullversion ] && exit 0\necho out of memory >&2\nexit 1\n')
    compiler.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(compiler))
    with pytest.raises(ToolError, match=r"g\+\+ failed") as caught:
        build(Core(size=2), tmp_path, effort=Effort.QUICK)
    assert "out of memory" in caught.value.detail
    assert not list((tmp_path / "fpga" / "simulators").glob("*.so"))


def test_the_waveform_shows_every_block(tmp_path: Path, fpga_home: Path) -> None:
    waveform = write_waveform(tmp_path / "core.vcd", Core(size=2), fpga_home).read_text()
    assert waveform.startswith("$version") or "$timescale" in waveform[:400]
    for block in ("loader", "controller", "activation_skew", "array", "multiplied", "output_stage", "requantize"):
        assert block in waveform
    assert waveform.count("\n#") > 100


def test_the_project_passes_its_own_testbench_in_its_own_folder(tmp_path: Path) -> None:
    core = Core(size=3, width=5)
    written = write_project(tmp_path / "core.zip", core, [random_example(core), random_example(core, seed=1)])
    folder = tmp_path / "unpacked"
    with zipfile.ZipFile(written) as archive:
        archive.extractall(folder)
        names = set(archive.namelist())
    assert {"README.md", "rtl/gemm_core.v", "tb/gemm_core_tb.v", "data/01-random/job.vh", "synthesis/ecp5.sh"} <= names
    weights = (folder / "data/00-random/weights.hex").read_text().split()
    assert len(weights) == 2 * 10 and all(len(word) == 4 for word in weights)
    sources = sorted(str(path.relative_to(folder)) for path in folder.glob("rtl/*.v"))
    lint = run(verilator("--lint-only", "-Wall", "--top-module", "synthesis_harness", *sources, "synthesis/synthesis_harness.v"), folder)
    assert lint.returncode == 0 and "Warning" not in lint.stderr, lint.stderr
    assert "PASS" in run(simulation_of(folder, "00-random", sources), folder).stdout.splitlines()
    expected = folder / "data/00-random/expected.hex"
    first, *rest = expected.read_text().splitlines()
    expected.write_text("\n".join([f"{int(first, 16) ^ 1:04x}", *rest]) + "\n")
    assert "FAIL" in run(["./simulate"], folder).stdout.splitlines(), "one wrong bit is found"


def run(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def simulation_of(folder: Path, gemm: str, sources: Sequence[str]) -> list[str]:
    """As `verilator --binary` of the project's README does it, without make; the command that runs it."""
    translate = verilator(
        "--cc", "--main", "--timing", "-Wno-fatal", f"-Idata/{gemm}", "--top-module", "gemm_core_tb", "--Mdir", "made",
        "tb/gemm_core_tb.v", *sources,
    )  # fmt: skip
    assert run(translate, folder).returncode == 0
    include = Path(translate[1].removeprefix("VERILATOR_ROOT=")) / "include"
    runtime = [include / f"verilated{part}.cpp" for part in ("", "_threads", "_timing")]
    unit = folder / "made" / "unit.cc"
    unit.write_text("".join(f'#include "{part}"\n' for part in [*sorted((folder / "made").glob("*.cpp")), *runtime]))
    flags = ("-O0", "-std=gnu++20", "-fcoroutines", "-DVL_IGNORE_UNKNOWN_ARCH")
    places = ("-Imade", f"-I{include}", f"-I{include / 'vltstd'}")
    built = run(["g++", *flags, *places, str(unit), "-lpthread", "-latomic", "-o", "simulate"], folder)
    assert built.returncode == 0, built.stderr
    return ["./simulate"]


@pytest.mark.parametrize("size", [2, 3, 8])
@pytest.mark.parametrize("width", [4, 8, 16])
def test_the_verilog_has_no_warnings(size: int, width: int) -> None:
    parameters = (f"-GN={size}", f"-GWIDTH={width}")
    command = verilator(
        "--lint-only", "-Wall", "--top-module", "synthesis_harness", *parameters, *map(str, sorted(RTL.glob("*.v")))
    )
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "Warning" not in done.stderr + done.stdout, done.stderr
