"""The command line as a user calls it; experiments run through real children."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine import catalogue
from engine.cli import main
from engine.cli.words import parse_target
from engine.domain.errors import InvalidInput
from engine.domain.experiment import RunStatus
from engine.domain.metrics import METRICS
from engine.domain.workload import Target, TargetMetric
from engine.execution.lock import HostLock
from engine.settings import Settings
from storage import open_storage
from tests.engine.conftest import inputs_file
from tests.models import tiny_onnx
from tests.pages.seed import ENVIRONMENT, seed_artifact, seed_experiment

QUICK = "rounds=3,processes=1,round_seconds=0.05,warmup_calls=1"
ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def home(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SPEEDRAIL_HOME", str(settings.home))
    return settings.home


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(tiny_onnx(tmp_path / "tiny"))


@pytest.fixture
def dataset(tmp_path: Path) -> str:
    return str(inputs_file(tmp_path))


def test_techniques_match_the_catalogue(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["techniques", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [t["id"] for t in listed] == [spec.id for spec in catalogue.TECHNIQUES]
    for data, spec in zip(listed, catalogue.TECHNIQUES, strict=True):
        assert [k["name"] for k in data["knobs"]] == [k.name for k in spec.config.knobs()]
        assert [k["default"] for k in data["knobs"]] == [k.default for k in spec.config.knobs()]
        assert data["family"] == spec.family and data["summary"] == spec.summary
        assert len(data["rules"]) == len(spec.rules)


@pytest.mark.parametrize("form", [[], ["--markdown"]])
def test_techniques_name_every_knob_and_choice(form: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["techniques", *form]) == 0
    text = capsys.readouterr().out
    for spec in catalogue.TECHNIQUES:
        assert spec.summary in text
        for knob in spec.config.knobs():
            assert knob.name in text and knob.help in text
            assert all(choice in text for choice in knob.choices)


def test_a_technique_that_lands_is_listed_without_another_edit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    eighth = replace(catalogue.TECHNIQUES[0], id="folding", title="Folding", summary="Folds it.")  # type: ignore[arg-type]
    monkeypatch.setattr(catalogue, "TECHNIQUES", (*catalogue.TECHNIQUES, eighth))
    for form in ("--json", "--markdown"):
        assert main(["techniques", form]) == 0
        assert "Folds it." in capsys.readouterr().out


def test_intake_says_what_a_model_is(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["intake", model, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["format"], said["task"], said["parameters"]) == ("onnx", "tensors", 1608)
    assert said["id"] == said["sha256"] and len(said["id"]) == 64
    assert [i["name"] for i in said["inputs"]] == ["x"]
    assert main(["intake", model]) == 0
    assert said["id"] in capsys.readouterr().out


def test_run_writes_the_whole_result(
    model: str, dataset: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    code = main(
        [
            "run", model, "--recipe", "quantization(format=int8)", "--recipe", "", "--recipe", "pruning@onnxruntime",
            "--dataset", dataset, "--workload", QUICK, "--target", "latency<=1000", "--verify-aa",
            "--json", str(out),
        ]
    )  # fmt: skip
    result = json.loads(out.read_text())
    assert code == 0
    assert result["target"] == {"metric": "latency", "bound": 1000.0}
    assert [(r["recipe"], r["status"]) for r in result["runs"]] == [
        ("", "succeeded"), ("quantization(format=int8)", "succeeded"), ("pruning(sparsity=0.3)@onnxruntime", "refused"),
    ]  # fmt: skip
    baseline, quantized, refused = result["runs"]
    for run in (baseline, quantized):
        check_measurements(run["measurements"])
        assert run["facts"] and run["environment"]["versions"]["onnxruntime"]
        assert run["reasons"] == []
    assert baseline["speedup"] is None
    low, high = quantized["speedup"]["ci95"]
    assert low <= quantized["speedup"]["median"] <= high
    assert quantized["verdict"] in ("faster", "slower", "not distinguishable")
    assert refused["reasons"] and refused["measurements"] == [] and refused["noise"] is None
    for run in (baseline, quantized):
        assert [r["index"] for r in run["noise"]["rounds"]] == [0, 1, 2]
        assert run["noise"]["partner"] and run["noise"]["band"] >= 0.01
        assert run["noisy"] in (True, False)
    assert result["self_check"] == baseline["noise"]["check"]
    assert result["self_check"]["verdict"] in ("faster", "slower", "not distinguishable")
    assert result["first_sentence"] in (text := capsys.readouterr().out)
    assert "baseline" in text and "quantization(format=int8)" in text and "A/A check" in text
    # nothing of it stays without --save
    assert not (home / "speedrail.db").exists()
    assert list((home / "scratch").iterdir()) == []


def check_measurements(measurements: list[dict[str, Any]]) -> None:
    assert {"latency", "throughput", "peak_memory", "size", "quality", "first_call_latency"} <= {
        m["name"] for m in measurements
    }
    for m in measurements:
        assert set(m) == {"name", "unit", "median", "ci95", "samples", "provenance"}
        assert m["samples"] >= 1 and m["provenance"] == "measured"
        if m["name"] in METRICS:
            assert m["unit"] == METRICS[m["name"]].unit
        if m["ci95"]:
            assert m["ci95"][0] <= m["median"] <= m["ci95"][1]


def test_a_saved_run_of_a_stored_artifact_is_in_the_history(
    model: str, dataset: str, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["intake", model, "--json"]) == 0
    artifact = json.loads(capsys.readouterr().out)["id"]
    arguments = ["run", artifact[:12], "--dataset", dataset, "--workload", QUICK, "--save", "--name", "kept", "--json"]
    assert main(arguments) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["artifact"]["id"] == artifact and [r["recipe"] for r in result["runs"]] == [""]
    storage = open_storage(settings)
    assert [s.experiment.name for s in storage.experiments.list().items] == ["kept"]
    (run,) = storage.runs.of_experiment(result["id"])
    assert storage.files.exists(run.lowered_id)


def test_stored_runs_are_compared_or_refused(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    storage = open_storage(settings)
    experiment = seed_experiment(storage, seed_artifact(storage))
    alike = [r.id for r in storage.runs.of_experiment(experiment.id) if r.status is RunStatus.SUCCEEDED]
    assert main(["compare", *alike[:2], "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [r["id"] for r in data["runs"]] == alike[:2] and data["differences"]
    assert main(["compare", *alike[:3]]) == 0
    assert "latency, ms" in capsys.readouterr().out
    elsewhere = seed_experiment(storage, seed_artifact(storage), environment=replace(ENVIRONMENT, threads=1))
    other = next(r.id for r in storage.runs.of_experiment(elsewhere.id) if r.status is RunStatus.SUCCEEDED)
    assert main(["compare", alike[0], other]) == 2
    assert "unlike environments" in (said := capsys.readouterr().err) and "threads 1 / 2" in said
    assert main(["compare", alike[0]]) == 2


def test_a_failing_run_exits_with_1(tmp_path: Path, dataset: str, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny_onnx(tmp_path / "narrow")
    # more rows than the file's loader promises: the model refuses them while it runs
    import numpy as np

    wrong = tmp_path / "wrong.npz"
    np.savez(wrong, x=np.zeros((64, 5), np.float32))
    out = tmp_path / "out.json"
    arguments = ["run", str(model), "--dataset", str(wrong), "--workload", QUICK, "--json", str(out)]
    assert main(arguments) == 1
    (run,) = json.loads(out.read_text())["runs"]
    assert run["status"] == "failed" and run["reasons"][0]
    assert "Traceback" not in capsys.readouterr().err


BAD = {
    "no such path": (["run", "nowhere"], "nowhere"),
    "no such path to take in": (["intake", "nowhere"], "nowhere"),
    "recipe": (["run", "{model}", "--recipe", "warp(speed=9)"], "warp"),
    "knob": (["run", "{model}", "--recipe", "pruning(sparsity=9)"], "sparsity"),
    "runtime": (["run", "{model}", "--recipe", "@warp"], "warp"),
    "workload": (["run", "{model}", "--workload", "batch_size=0"], "batch_size"),
    "workload word": (["run", "{model}", "--workload", "batchsize"], "batchsize"),
    "target": (["run", "{model}", "--target", "beauty<=3"], "beauty"),
    "target direction": (["run", "{model}", "--target", "latency>=3"], "latency"),
    "guard-rail": (["run", "{model}", "--guard-rail", "99"], "99"),
    "dataset": (["run", "{model}", "--dataset", "nowhere.csv"], "nowhere.csv"),
    "calibration": (["run", "{model}", "--calibration", "nowhere.csv"], "nowhere.csv"),
    "option": (["run", "{model}", "--colour"], "--colour"),
    "command": (["fly"], "fly"),
    "nothing": ([], "COMMAND"),
    "out": (["run", "{model}", "--json", "/nowhere/out.json"], "/nowhere"),
    "not a model": (["intake", "{text}"], "text"),
}


@pytest.mark.parametrize("arguments, word", BAD.values(), ids=BAD)
def test_bad_input_is_one_clear_line_and_exit_2(
    arguments: list[str], word: str, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.txt").write_text("not a model")
    places = {"model": model, "text": str(tmp_path / "text.txt")}
    assert main([a.format(**places) for a in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    *_, last = captured.err.strip().splitlines()
    assert last.startswith("speedrail: ") and word in last
    assert "Traceback" not in captured.err


def test_the_host_is_waited_for_with_a_message(
    model: str, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = HostLock(settings.home)
    lock.acquire("experiment 7")
    monkeypatch.setattr("engine.execution.lock.time.sleep", lambda _: lock.release())
    assert main(["intake", model]) == 0
    assert "experiment 7" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text, target",
    [
        ("latency<=15", Target(TargetMetric.LATENCY, 15.0)),
        ("latency ≤ 1.5s", Target(TargetMetric.LATENCY, 1500.0)),
        ("throughput>=100", Target(TargetMetric.THROUGHPUT, 100.0)),
        ("size <= 50 MB", Target(TargetMetric.SIZE, 50e6)),
    ],
)
def test_targets_as_people_write_them(text: str, target: Target) -> None:
    assert parse_target(text) == target


@pytest.mark.parametrize("text", ["", "latency", "latency<=", "latency<=fast", "latency<=3MB", "size>=1", "x<=1"])
def test_what_is_no_target(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_target(text)


def test_the_program_itself_never_loads_torch(model: str) -> None:
    script = (
        "import sys; from engine.cli import main; code = main(['techniques', '--json']);"
        "import engine.cli.run, engine.cli.intake, engine.worker;"
        "sys.exit(code or any(m in sys.modules for m in ('torch', 'transformers', 'onnxruntime', 'openvino')))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr


def test_python_dash_m_engine(home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "engine", "run", "nowhere"], cwd=ROOT, capture_output=True, text=True, env=os.environ
    )
    assert done.returncode == 2
    assert done.stderr.startswith("speedrail: ") and len(done.stderr.splitlines()) == 1
