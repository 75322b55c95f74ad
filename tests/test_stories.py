"""One story for each model family, on a real model, through the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.models import resnet18_digits
from tests.models import tiny_vit

ROOT = Path(__file__).parents[1]
PRINTED = "printed.txt"
QUICK = "rounds=3,processes=1,round_seconds=0.05,warmup_calls=1"
TEXTS = """The river rose two feet in the night and took the lower fence with it.
A capacitor stores energy in the field between two plates.
She had learned to bake from her grandmother, who never measured anything.
The committee will publish its findings before the end of the year.
Light bends when it passes from air into water, and so the spoon looks broken.
Nobody on the platform knew why the last train had been cancelled.
The recipe asks for two eggs, a pinch of salt and a great deal of patience.
Migrating birds find their way by the stars, the sun and the field of the earth.
His first novel was refused by eleven publishers before it found a home.
The new bridge carries forty thousand cars a day across the bay.
Rust is slow fire: iron meeting oxygen in the presence of water.
They painted the kitchen yellow, and the whole house seemed warmer for it.
""".splitlines()


def run(model: Path, home: Path, *recipes: str, workload: str = "", options: tuple[str, ...] = ()) -> dict[str, Any]:
    """The runs by recipe, as OUT.json has them; all must have succeeded or been refused."""
    out = home / "out.json"
    command = [sys.executable, "-m", "engine", "run", str(model), "--workload", ",".join(filter(None, (QUICK, workload)))]
    for recipe in recipes:
        command += ["--recipe", recipe]
    done = subprocess.run(
        [*command, *options, "--json", str(out)], cwd=ROOT, env={**os.environ, "SPEEDRAIL_HOME": str(home / "home")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    (home / PRINTED).write_text(done.stdout)
    found: dict[str, Any] = {r["recipe"]: r for r in json.loads(out.read_text())["runs"]}
    assert {r["status"] for r in found.values()} <= {"succeeded", "refused"}
    return found


def value(run: dict[str, Any], metric: str) -> float:
    return float(next(m["median"] for m in run["measurements"] if m["name"] == metric))


def facts(run: dict[str, Any]) -> dict[str, Any]:
    return {name: fact for stage in run["facts"] for name, fact in stage["facts"].items()}


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(TEXTS) + "\n")
    return path


@pytest.mark.timeout(900)
def test_an_encoder_gets_smaller_keeps_its_embeddings_and_says_what_pruning_costs(
    minilm: Path, texts: Path, tmp_path: Path
) -> None:
    pruned, quantized, masked = "pruning(sparsity=0.5)@onnxruntime", "quantization(format=int8)@openvino", "pruning(kind=unstructured, sparsity=0.5)"
    runs = run(
        minilm, tmp_path, pruned, quantized, masked, "quantization(format=bf16)@onnxruntime",
        workload="sequence_length=32", options=("--dataset", str(texts)),
    )  # fmt: skip
    assert value(runs[quantized], "cosine") > 0.98
    assert value(runs[quantized], "size") < 0.5 * value(runs[""], "size")
    assert value(runs[pruned], "cosine") < 0.95
    assert facts(runs[pruned])["parameters_after"] < facts(runs[pruned])["parameters_before"]
    assert "dense" in " ".join(runs[masked]["remarks"] + [r for s in runs[masked]["facts"] for r in s["remarks"]])
    assert runs["quantization(format=bf16)@onnxruntime"]["status"] == "refused"
    assert value(runs[""], "quality") == 1.0


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["BERT", "ViT"])
def test_a_transformer_pruned_without_recovery_trips_the_guard_rail(kind: str, minilm: Path, texts: Path, tmp_path: Path) -> None:
    model = minilm if kind == "BERT" else tiny_vit(tmp_path / "vit")
    pruned = "pruning(sparsity=0.5)@openvino"
    options = ("--dataset", str(texts)) if kind == "BERT" else ()
    runs = run(model, tmp_path, "@openvino", pruned, workload="sequence_length=32" if kind == "BERT" else "", options=options)
    assert value(runs[pruned], "quality") < 0.99 < value(runs["@openvino"], "quality")
    first, *lines = (tmp_path / PRINTED).read_text().splitlines()
    assert not first.startswith("pruning")
    rails = {cells[0]: "fail" in cells for cells in map(str.split, lines) if cells and cells[0] in ("@openvino", pruned)}
    assert rails == {"@openvino": False, pruned: True}


@pytest.mark.timeout(900)
def test_an_image_classifier_trained_on_real_digits_keeps_its_accuracy_in_int8(tmp_path: Path) -> None:
    trained = resnet18_digits(tmp_path, channels=(8, 16, 32, 64), blocks=1, image_size=32, epochs=4)
    recipe = "quantization(format=int8)@openvino"
    runs = run(
        trained.model, tmp_path, recipe, options=("--dataset", str(trained.test), "--calibration", str(trained.calibration))
    )
    assert 0.5 < value(runs[""], "accuracy") < 1.0
    assert abs(value(runs[recipe], "accuracy") - value(runs[""], "accuracy")) < 0.03


@pytest.mark.timeout(1200)
def test_a_causal_lm_from_gguf_decodes_from_int8_weights_with_little_loss(smollm2: Path, texts: Path, tmp_path: Path) -> None:
    recipe = "quantization(format=int8, mode=weight_only)@openvino"
    runs = run(
        smollm2, tmp_path, recipe, workload="sequence_length=16,new_tokens=4", options=("--dataset", str(texts))
    )
    assert value(runs[""], "perplexity") > 1.0
    assert value(runs[recipe], "quality") > 0.95
    assert value(runs[recipe], "time_per_output_token") > 0.0
