"""The placement on an FPGA: what it refuses, what it writes, and that its answers are the integers'."""

from __future__ import annotations

import zipfile
from contextlib import nullcontext
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from engine.domain.deployment import Deployment, Formats, NumberFormat, QuantizationMode, Variant
from engine.domain.errors import StageError, ToolError
from engine.domain.host import HostFacts
from engine.domain.metrics import Provenance
from engine.domain.ports import Context
from engine.domain.recipe import RuntimeId
from engine.domain.workload import Workload
from engine.fpga import build, integer_network, sampling
from engine.fpga.handing_out import project
from engine.fpga.plan_file import read_plan
from engine.grammar import parse_recipe
from engine.plan import make_plan
from engine.techniques.fpga.apply import FpgaPlacement, precision_of
from engine.techniques.fpga.spec import LARGEST_EXECUTED, FpgaConfig, Widths
from tests.models import VOCABULARY, tiny_bert, tiny_card, tiny_llama, tiny_onnx

HOST = HostFacts("here", "cpu", 2, 2**34)
WORKLOAD = Workload(batch_size=2, sequence_length=12, new_tokens=4)


def refusals(recipe: str, directory: Path, **changes: object) -> str:
    card = replace(tiny_card(directory), **changes)  # type: ignore[arg-type]
    return " ".join(map(str, make_plan(parse_recipe(recipe), card, HOST).refusals))


def test_what_is_refused_before_launch(tmp_path: Path) -> None:
    model, graph = tiny_bert(tmp_path / "bert"), tiny_onnx(tmp_path / "onnx")
    assert refusals("fpga(device=zcu104)", model) == ""
    assert refusals("quantization(format=int8)+fpga(device=ecp5-85f)", model) == ""
    assert "takes no runtime" in refusals("fpga(device=zcu104)@openvino", model)
    assert "ONNX" in refusals("fpga(device=zcu104)", graph)
    assert "not bf16" in refusals("quantization(format=bf16)+fpga(device=zcu104)", model)
    assert "no weight_only" in refusals("quantization(format=int8, mode=weight_only)+fpga(device=zcu104)", model)
    assert "2 GB" in refusals("fpga(device=zcu104)", model, parameters=7_000_000_000)


def test_large_models_are_projected_and_say_so(tmp_path: Path) -> None:
    card = tiny_card(tiny_bert(tmp_path / "bert"))
    plan = make_plan(parse_recipe("fpga(device=alveo-u250)"), card, HOST)
    assert plan.provenance is Provenance.SIMULATED
    large = replace(card, parameters=LARGEST_EXECUTED + 1)
    assert make_plan(parse_recipe("fpga(device=alveo-u250)"), large, HOST).provenance is Provenance.PROJECTED


def test_the_recipes_quantization_sets_the_bits() -> None:
    int4 = Formats(weights=NumberFormat.INT4)
    assert str(precision_of(FpgaConfig(), Formats())) == "int8"
    assert str(precision_of(FpgaConfig(), int4)) == "int4 weights, int8 activations"
    assert str(precision_of(FpgaConfig(precision=Widths.INT4), Formats())) == "int4"
    with pytest.raises(StageError, match="bf16"):
        precision_of(FpgaConfig(), Formats(weights=NumberFormat.BF16))
    with pytest.raises(StageError, match="weight_only"):
        precision_of(FpgaConfig(), Formats(weights=NumberFormat.INT8, mode=QuantizationMode.WEIGHT_ONLY))


def placed(directory: Path, scratch: Path) -> tuple[Deployment, Context]:
    card = tiny_card(directory)
    rng = np.random.default_rng(0)
    batches = [
        {"input_ids": rng.integers(4, VOCABULARY, (2, 12)), "attention_mask": np.ones((2, 12), np.int64)} for _ in range(2)
    ]
    scratch.mkdir()
    context = Context(scratch, batches, lambda _: None, threads=1)
    return Deployment(card, Variant(str(directory)), RuntimeId.EAGER, WORKLOAD), context


def test_a_placement_runs_a_sample_on_the_rtl_and_answers_in_integers(
    tmp_path: Path, fpga_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "_folder", lambda scratch: nullcontext(fpga_home))
    directory = tiny_llama(tmp_path / "llama")
    deployment, context = placed(directory, tmp_path / "placed")
    applied = FpgaPlacement().apply(deployment, FpgaConfig(), context)
    assert applied.facts.facts["products_on_the_rtl"] == "15 of 15"
    lowered = FpgaPlacement().lower(applied.deployment, context)
    stored = (directory / "model.safetensors").stat().st_size
    assert lowered.size_bytes < stored * 1.5, "weights of products are stored as integers only"
    computed = FpgaPlacement().compute(lowered, FpgaConfig(), deployment.card, WORKLOAD, threads=1)
    assert computed.executor is not None
    found = computed.executor.infer(context.calibration[0])["logits"]
    assert found.shape == (2, 12, VOCABULARY)
    assert {m.provenance for m in computed.measurements} == {Provenance.SIMULATED}
    by_name = {m.name: m.median for m in computed.measurements}
    assert by_name["latency"] == pytest.approx(by_name["time_to_first_token"] + 3 * by_name["time_per_output_token"])
    assert [a.kind for a in computed.attachments] == ["fpga_layers", "fpga_roofline", "fpga_resources"]
    names = zipfile.ZipFile(BytesIO(project(Path(lowered.directory)))).namelist()
    assert any(name.endswith("gemm_core.v") for name in names) and any(name.endswith("weights.hex") for name in names)


def test_scaling_rows_is_counted_for_every_layer_that_calibration_chose(
    tmp_path: Path, fpga_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "_folder", lambda scratch: nullcontext(fpga_home))
    monkeypatch.setattr(integer_network, "A_BIT", 0.0)
    deployment, context = placed(tiny_bert(tmp_path / "bert"), tmp_path / "placed")
    applied = FpgaPlacement().apply(deployment, FpgaConfig(), context)
    plan = read_plan(context.scratch)
    scaled = {layer.name for layer in plan.first.layers if layer.name.endswith(".scales")}
    assert len(scaled) == plan.scaled_by_row > 0, "named alike by the trace and by the watcher"
    assert applied.facts.facts["products_scaled_by_row"] == f"{plan.scaled_by_row} of {plan.sampled.of}"
    assert plan.sampled.products == plan.sampled.of, "the array computes as ever"


def test_without_a_compiler_the_placement_stands_and_says_that_nothing_ran_on_the_rtl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> Path:
        raise ToolError("The core cannot be simulated: there is no C++ compiler.", where="g++")

    monkeypatch.setattr(build, "compiler", none)
    deployment, context = placed(tiny_bert(tmp_path / "bert"), tmp_path / "placed")
    applied = FpgaPlacement().apply(deployment, FpgaConfig(), context)
    assert any("no C++ compiler" in remark for remark in applied.facts.remarks)
    assert read_plan(Path(applied.deployment.variant.directory)).executed
