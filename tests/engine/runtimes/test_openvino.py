"""openvino: right answers in every format, formats proven from the files and the executed graph."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.domain.deployment import Formats, NumberFormat, QuantizationMode, WeightCalibration
from engine.domain.errors import NothingChanged, StageError
from engine.host import this_host
from engine.runtimes.openvino import OpenVino
from engine.runtimes.ov.facts import INTEGER_OPERATORS
from engine.runtimes.proof import Census, demand
from tests.engine.runtimes.graphs import BERT, LLAMA, MLP, RESNET, WORKLOAD, Case, relative_error

INT8 = Formats(weights=NumberFormat.INT8)
STATIC = Formats(weights=NumberFormat.INT8, mode=QuantizationMode.STATIC)
RUNTIME = OpenVino()


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case.of(LLAMA, tmp_path_factory.mktemp("llama"))


def test_fp32_is_really_fp32_and_answers_as_torch_does(tmp_path: Path) -> None:
    case = Case.of(BERT, tmp_path)
    lowered = case.lower(RUNTIME, tmp_path / "out")
    batch = case.batch()
    found = case.open(RUNTIME, lowered).infer(batch)["last_hidden_state"]
    real = batch["attention_mask"] == 1
    np.testing.assert_allclose(found[real], case.reference(batch)[real], atol=1e-5)
    facts = lowered.facts.facts
    assert facts["nodes_executed_fp32"] == 12
    assert "nodes_executed_bf16" not in facts
    assert facts["bits_per_weight"] == 32
    assert lowered.settings["batch_size"] == "2"
    assert lowered.size_bytes == sum((tmp_path / "out" / name).stat().st_size for name in lowered.files)


def test_calibrated_int8_executes_integers(tmp_path: Path) -> None:
    case = Case.of(RESNET, tmp_path)
    lowered = case.lower(RUNTIME, tmp_path / "out", INT8)
    batch, facts = case.batch(), lowered.facts.facts
    assert facts["mode"] == "static"
    assert facts["nodes_FakeQuantize"] >= 7
    assert facts["nodes_executed_int8"] == 7
    assert facts["bits_per_weight"] < 9
    assert relative_error(case.open(RUNTIME, lowered).infer(batch)["logits"], case.reference(batch)) < 0.1


def test_a_causal_lm_keeps_its_cache_and_generates_the_tokens_that_torch_does(llama: Case, tmp_path: Path) -> None:
    executor, batch = llama.open(RUNTIME, llama.lower(RUNTIME, tmp_path / "out")), llama.batch()
    np.testing.assert_allclose(executor.infer(batch)["logits"], llama.reference(batch), atol=1e-4)
    for ids in (batch["input_ids"], batch["input_ids"][:, :5]):
        made = executor.generate(ids, 6)
        np.testing.assert_array_equal(made.tokens, llama.tokens(ids, 6))
        assert list(made.token_times) == sorted(made.token_times)
    executor.close()


@pytest.mark.parametrize(("weights", "worst"), [(NumberFormat.INT8, 0.1), (NumberFormat.INT4, 0.9)])
def test_a_causal_lms_weights_become_integers(llama: Case, tmp_path: Path, weights: NumberFormat, worst: float) -> None:
    lowered = llama.lower(RUNTIME, tmp_path / "out", Formats(weights=weights, mode=QuantizationMode.WEIGHT_ONLY))
    assert lowered.facts.facts[f"{weights}_weights"] >= 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64)
    batch = llama.batch()
    assert relative_error(llama.open(RUNTIME, lowered).infer(batch)["logits"], llama.reference(batch)) < worst


def test_a_causal_lm_in_bf16_takes_one_row(llama: Case, tmp_path: Path) -> None:
    """Of several rows openvino answers the second wrongly."""
    formats, one = Formats(weights=NumberFormat.BF16), replace(WORKLOAD, batch_size=1)
    with pytest.raises(StageError, match="batch" if this_host().has_bf16 else "no bf16 arithmetic"):
        llama.lower(RUNTIME, tmp_path / "two", formats)
    if this_host().has_bf16:
        lowered = llama.lower(RUNTIME, tmp_path / "one", formats, one)
        batch = {name: rows[:1] for name, rows in llama.batch().items()}
        executor = RUNTIME.open(lowered, llama.card, one, 1)
        assert 0 < relative_error(executor.infer(batch)["logits"], llama.reference(batch)) < 0.1
        executor.close()


def test_four_bits_are_calibrated_mixed_and_listed_layer_by_layer(llama: Case, tmp_path: Path) -> None:
    formats = Formats(weights=NumberFormat.INT4, mode=QuantizationMode.WEIGHT_ONLY, group_size=64, ratio=0.6,
                      calibration=WeightCalibration.AWQ, kv_cache=NumberFormat.INT8)  # fmt: skip
    lowered = llama.lower(RUNTIME, tmp_path / "out", formats)
    facts = lowered.facts.facts
    assert facts["calibration"] == "awq"
    assert 0 < facts["kv_cache_error"] < 0.1
    (attached,) = lowered.facts.attachments
    layers = attached.data["layers"]
    assert attached.kind == "layers"
    assert len(layers) == facts["layers"] == 15
    stayed = [layer for layer in layers if layer["format"] == "int8"]
    assert len(stayed) == facts["layers_stayed"] > 1
    assert {layer["group"] for layer in layers if layer["format"] == "int4"} <= {32, 64}
    assert llama.open(RUNTIME, lowered).generate(llama.batch()["input_ids"], 4).tokens.shape == (2, 4)


def test_int4_falls_back_until_calibration_data_says_it_is_good_enough(llama: Case, tmp_path: Path) -> None:
    mode, none = QuantizationMode.WEIGHT_ONLY, WeightCalibration.NONE
    bold = Formats(weights=NumberFormat.INT4, mode=mode, calibration=none, fallback=0.5)
    assert llama.lower(RUNTIME, tmp_path / "bold", bold).facts.facts["ratio"] == 1.0
    with pytest.raises(StageError, match="Even int8 weights alone score below"):
        llama.lower(RUNTIME, tmp_path / "strict", replace(bold, fallback=1.0))


def test_calibrated_int8_takes_quantizers_out_until_it_is_good_enough(tmp_path: Path) -> None:
    case = Case.of(RESNET, tmp_path)
    facts = case.lower(RUNTIME, tmp_path / "out", replace(STATIC, fallback=0.5)).facts.facts
    assert facts["calibration_quality"] >= 0.5
    assert facts["nodes_executed_int8"] > 0


def test_an_onnx_artifact_is_taken_as_it_is(tmp_path: Path) -> None:
    import onnxruntime

    case = Case.of(MLP, tmp_path)
    batch = case.batch()
    source = onnxruntime.InferenceSession(str(case.directory / "model.onnx"), providers=["CPUExecutionProvider"])
    executor = case.open(RUNTIME, case.lower(RUNTIME, tmp_path / "out"))
    np.testing.assert_allclose(executor.infer(batch)["y"], source.run(None, dict(batch))[0], atol=1e-5)
    with pytest.raises(StageError, match="causal LM"):
        executor.generate(np.zeros((1, 4), np.int64), 2)


def test_what_the_processor_lacks_is_refused(tmp_path: Path) -> None:
    case = Case.of(MLP, tmp_path)
    if not this_host().has_bf16:
        with pytest.raises(StageError, match="no bf16 arithmetic"):
            case.lower(RUNTIME, tmp_path / "bf16", Formats(weights=NumberFormat.BF16))
    else:
        facts = case.lower(RUNTIME, tmp_path / "bf16", Formats(weights=NumberFormat.BF16)).facts.facts
        assert facts["nodes_executed_bf16"] == 2


def test_files_without_the_format_are_nothing_changed() -> None:
    with pytest.raises(NothingChanged):
        demand(STATIC, Census({32: 1000}), INTEGER_OPERATORS, "openvino")
    with pytest.raises(NothingChanged, match="no operator computes in integers"):
        demand(STATIC, Census({8: 1000}), INTEGER_OPERATORS, "openvino")


def test_no_telemetry_is_imported() -> None:
    code = (
        "import sys, engine.runtimes.openvino, nncf\n"
        "loaded = [n for n, m in sys.modules.items() if n.startswith('openvino_telemetry') and m is not None]\n"
        "assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=120)
