"""GPU: projected on a device of the catalogue, refused without an accelerator, marked on every number."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engine.domain.codec import decode, from_data
from engine.domain.deployment import Deployment, Formats, Lowered, NumberFormat, Variant
from engine.domain.errors import StageError
from engine.domain.host import HostFacts
from engine.domain.layout import Cut, Layout
from engine.domain.metrics import LATENCY, Provenance
from engine.domain.ports import Computed, Context
from engine.domain.recipe import RuntimeId
from engine.domain.roofline import Roofline
from engine.domain.workload import Workload
from engine.grammar import parse_recipe
from engine.hardware.gpus import gpu_of
from engine.hardware.networks import network
from engine.hardware.operators import Network
from engine.hardware.precisions import precision_named
from engine.hardware.projection import project
from engine.plan import make_plan
from engine.techniques.gpu.apply import OPERATORS, GpuPlacement
from engine.techniques.gpu.results import demand_fit
from engine.techniques.gpu.spec import DeviceChoice, GpuConfig
from tests.models import tiny_bert, tiny_card, tiny_llama

HOST = HostFacts("host", "a CPU", 2, 2**34, frozenset({"avx2"}))
WITH_T4 = replace(HOST, accelerators=("cuda:NVIDIA T4",), device_runtimes=("eager",))
WORKLOAD = Workload(batch_size=2, sequence_length=16, new_tokens=5)
H100 = GpuConfig(device=DeviceChoice("h100"))


def _computed(tmp_path: Path, formats: Formats, config: GpuConfig, runtime: RuntimeId) -> tuple[Computed, Lowered]:
    model, scratch = tmp_path / "model", tmp_path / "lowered"
    scratch.mkdir()
    (tiny_llama if formats.weights is NumberFormat.INT8 else tiny_bert)(model)
    card = tiny_card(model)
    deployment = Deployment(card, Variant(str(model)), runtime, WORKLOAD, formats)
    context = Context(scratch, [], lambda progress: None, 1)
    technique = GpuPlacement()
    applied = technique.apply(deployment, config, context)
    assert applied.facts.facts["provenance"] == "projected"
    lowered = technique.lower(applied.deployment, context)
    return technique.compute(lowered, config, card, WORKLOAD, 1), lowered


def test_every_number_of_a_projection_says_so(tmp_path: Path) -> None:
    computed, lowered = _computed(tmp_path, Formats(), H100, RuntimeId.EAGER)
    assert {m.provenance for m in computed.measurements} == {Provenance.PROJECTED}
    names = {m.name for m in computed.measurements}
    assert {"latency", "throughput", "peak_memory", "energy"} <= names
    latency = next(m for m in computed.measurements if m.name == LATENCY.name)
    assert latency.ci95 and latency.ci95[0] < latency.median < latency.ci95[1]
    assert computed.executor is not None
    assert decode(Network, (Path(lowered.directory) / OPERATORS).read_text()).batch == 2
    (attached,) = computed.attachments
    roofline = from_data(Roofline, attached.data)
    assert roofline.provenance is Provenance.PROJECTED and roofline.source.startswith("published: NVIDIA")
    assert roofline.covered == pytest.approx(1.0, abs=0.01)
    assert all(roofline.reached(p) < 1 for p in roofline.points)


def test_a_causal_lm_is_projected_in_its_formats(tmp_path: Path) -> None:
    computed, lowered = _computed(tmp_path, Formats(weights=NumberFormat.INT8), H100, RuntimeId.INDUCTOR)
    assert lowered.settings["projected_precision"] == "int8-weights"
    by_name = {m.name: m.median for m in computed.measurements}
    rest = by_name["latency"] - by_name["time_to_first_token"]
    assert rest == pytest.approx(4 * by_name["time_per_output_token"])


@pytest.mark.parametrize("layout", [Layout(cut=Cut.TENSOR, degree=2), Layout(cut=Cut.PIPELINE, degree=2, replicas=4)])
def test_several_devices_are_projected_from_one(tmp_path: Path, layout: Layout) -> None:
    _, lowered = _computed(tmp_path, Formats(), H100, RuntimeId.EAGER)
    card = tiny_card(tmp_path / "model")
    one, several = (
        GpuPlacement().compute(replace(lowered, layout=each), H100, card, WORKLOAD, 1) for each in (Layout(), layout)
    )
    before, after = ({m.name: m.median for m in each.measurements} for each in (one, several))
    assert {m.provenance for m in several.measurements} == {Provenance.PROJECTED}
    # too small a model to gain by a cut; copies multiply
    assert after["latency"] > before["latency"] and after["energy"] > before["energy"]
    assert (after["throughput"] > 4 * before["throughput"]) == (layout.replicas == 4)
    assert any(f"{layout.workers} devices over NVLink 4" in remark for remark in several.remarks)


@pytest.mark.parametrize(
    "recipe",
    [
        "model_parallelism(kind=tensor, degree=4)+gpu(device=h100)", "distributed(replicas=8)+gpu(device=t4)",
        "quantization(format=int8)+model_parallelism(kind=tensor)+gpu(device=h100)@inductor",
    ],
)  # fmt: skip
def test_more_devices_than_this_host_has_cores_are_projected(tmp_path: Path, recipe: str) -> None:
    tiny_bert(tmp_path)
    plan = make_plan(parse_recipe(recipe), tiny_card(tmp_path), HOST)
    assert plan.runs and plan.provenance is Provenance.PROJECTED, plan.refusals
    here = make_plan(parse_recipe(recipe.replace("device=h100", "").replace("device=t4", "")), tiny_card(tmp_path), HOST)
    assert not here.runs


def test_workers_need_a_device_each(tmp_path: Path) -> None:
    tiny_bert(tmp_path)
    recipe, card = parse_recipe("model_parallelism(degree=2)+gpu()"), tiny_card(tmp_path)
    (refused,) = make_plan(recipe, card, WITH_T4).refusals
    assert refused.reason == "2 workers need a GPU each; host has 1."
    two = make_plan(recipe, card, replace(WITH_T4, accelerators=("cuda:NVIDIA T4",) * 2))
    assert two.runs and two.provenance is Provenance.MEASURED, two.refusals


@pytest.mark.parametrize("formats", [(), ("fp8",)])
def test_fp8_is_planned_where_the_device_multiplies_it(formats: tuple[str, ...], tmp_path: Path) -> None:
    tiny_bert(tmp_path)
    host = replace(WITH_T4, accelerators=("cuda:NVIDIA L4",), device_formats=formats)
    plan = make_plan(parse_recipe("quantization(format=fp8)+gpu()"), tiny_card(tmp_path), host)
    assert plan.runs == bool(formats)
    assert all("NVIDIA L4 has no units" in o.reason and "gpu(device=h100)" in o.mend for o in plan.refusals)


def test_without_an_accelerator_the_host_is_refused_with_its_mend(tmp_path: Path) -> None:
    tiny_bert(tmp_path)
    plan = make_plan(parse_recipe("gpu()"), tiny_card(tmp_path), HOST)
    assert [o.mend for o in plan.refusals if "h100" in o.mend]
    here = make_plan(parse_recipe("gpu()"), tiny_card(tmp_path), WITH_T4)
    assert here.runs and here.provenance is Provenance.MEASURED


@pytest.mark.parametrize(
    ("recipe", "mend"),
    [("gpu()@onnxruntime", "onnxruntime-gpu"), ("gpu()@openvino", "Intel"), ("gpu()@inductor", "triton")],
)
def test_a_runtime_that_cannot_reach_the_device_is_refused_with_its_mend(recipe: str, mend: str, tmp_path: Path) -> None:
    tiny_bert(tmp_path)
    plan = make_plan(parse_recipe(recipe), tiny_card(tmp_path), WITH_T4)
    assert [o.mend for o in plan.refusals if mend in o.mend and "@eager" in o.mend]


@pytest.mark.parametrize("recipe", ["gpu()@onnxruntime", "quantization(format=int8)+gpu()@onnxruntime"])
def test_what_onnxruntimes_provider_lacks_is_refused(recipe: str, tmp_path: Path) -> None:
    (tiny_bert if "int8" in recipe else tiny_llama)(tmp_path)
    able = replace(WITH_T4, device_runtimes=("eager", "onnxruntime"))
    plan = make_plan(parse_recipe(recipe), tiny_card(tmp_path), able)
    assert [o for o in plan.refusals if "Choose @eager or @inductor." in o.mend]


@pytest.mark.parametrize("recipe", ["gpu(device=h100)", "quantization(format=int8)+gpu(device=t4)@inductor"])
def test_a_device_of_the_catalogue_is_planned_as_projected(tmp_path: Path, recipe: str) -> None:
    tiny_bert(tmp_path)
    plan = make_plan(parse_recipe(recipe), tiny_card(tmp_path), HOST)
    assert plan.runs and plan.provenance is Provenance.PROJECTED


def test_what_does_not_fit_names_what_would() -> None:
    large = network("llama-70b", new_tokens=10)
    projected = project(large, gpu_of("a100-80"), precision_named("bf16"))
    with pytest.raises(StageError, match="out of memory") as refused:
        demand_fit(projected)
    assert "H200" in refused.value.mend
