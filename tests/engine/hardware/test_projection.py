"""The roofline: monotone where it must be, memory adds up, and published figures bound its errors."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.projection import FITTED, log_errors, rows
from engine.domain.artifact import TaskId
from engine.domain.deployment import Formats, NumberFormat, QuantizationMode
from engine.domain.errors import NotFound
from engine.hardware.efficiency import efficiency_of
from engine.hardware.gpus import gpu_of, gpus
from engine.hardware.networks import network
from engine.hardware.operators import total_bytes, total_flops
from engine.hardware.precisions import PRECISIONS, precision_named, precision_of
from engine.hardware.projection import memory_of, project
from engine.hardware.roofline import Bound, Execution, seconds_of, timed

LM = TaskId.CAUSAL_LM
BF16 = precision_named("bf16")
H100 = gpu_of("h100")
factors = st.floats(1.01, 100)
networks = st.sampled_from(["bert-base", "resnet-18", "llama-3-8b"])


@settings(max_examples=25, deadline=None)
@given(networks, factors, st.sampled_from(sorted(PRECISIONS)))
def test_a_better_device_is_never_slower(name: str, factor: float, precision: str) -> None:
    net, chosen = network(name, new_tokens=4), precision_named(precision)
    today = project(net, H100, chosen).latency
    assert project(net, replace(H100, bandwidth=H100.bandwidth * factor), chosen).latency <= today
    assert project(net, replace(H100, peaks={f: p * factor for f, p in H100.peaks.items()}), chosen).latency <= today


@settings(max_examples=25, deadline=None)
@given(networks, st.integers(1, 64))
def test_more_work_is_never_faster_and_never_smaller(name: str, batch: int) -> None:
    one, more = network(name, batch=batch, new_tokens=4), network(name, batch=batch + 1, new_tokens=4)
    assert project(one, H100, BF16).latency < project(more, H100, BF16).latency
    assert memory_of(one, BF16).total <= memory_of(more, BF16).total


@settings(max_examples=25, deadline=None)
@given(networks, st.sampled_from(gpus()), st.booleans(), st.booleans())
def test_no_pass_beats_the_device(name: str, device: object, fused: bool, graphs: bool) -> None:
    net = network(name, new_tokens=4)
    reached = efficiency_of(device.generation)  # type: ignore[attr-defined]
    taken = seconds_of(timed(net.forward, device, reached, BF16, Execution(fused=fused, graphs=graphs)))  # type: ignore[arg-type]
    products = [o for o in net.forward if o.kind.on_array]
    assert taken > total_flops(products) / device.peak("bf16")  # type: ignore[attr-defined]
    if not fused:
        assert taken > total_bytes(net.forward, 16, 16) / device.bandwidth  # type: ignore[attr-defined]


def test_memory_is_weights_cache_activations_and_what_the_driver_takes() -> None:
    memory = memory_of(network("llama-7b", batch=2, sequence=100, new_tokens=29), BF16)
    assert memory.weights == pytest.approx(2 * 6.738e9, rel=0.001)
    assert memory.cache == 2 * 128 * 262144 * 2
    assert memory.total == memory.weights + memory.cache + memory.activations + memory.reserved


@pytest.mark.parametrize(
    ("name", "device", "precision", "fits"),
    # gpt-fast's README: LLaMA-2-70B is out of memory in bf16 on an A100-80GB, int8 and int4 run
    [("llama-70b", "a100-80", "bf16", False), ("llama-70b", "a100-80", "int8-weights", True),
     ("llama-70b", "a100-80", "int4-weights-g32", True), ("llama-7b", "t4", "fp16", True), ("llama-13b", "t4", "fp16", False)],
)  # fmt: skip
def test_out_of_memory_is_predicted(name: str, device: str, precision: str, fits: bool) -> None:
    assert project(network(name, new_tokens=200), gpu_of(device), precision_named(precision)).fits is fits


def test_decoding_is_bound_by_memory_and_large_batches_by_arithmetic() -> None:
    decode = project(network("llama-7b", new_tokens=200), H100, BF16)
    assert decode.bound is Bound.MEMORY
    assert decode.per_token is not None and decode.first_token is not None
    assert decode.latency == pytest.approx(decode.first_token + 199 * decode.per_token)
    assert project(network("bert-large", batch=256), H100, BF16).bound is Bound.COMPUTE


def test_launching_one_by_one_costs_what_graphs_save() -> None:
    small = network("minilm-l6", sequence=32)
    graph, eager = (project(small, H100, BF16, Execution(fused=f, graphs=f)) for f in (True, False))
    assert eager.latency > 2 * graph.latency
    assert eager.bound is Bound.LAUNCH


def test_formats_of_a_recipe_become_precisions() -> None:
    int4 = Formats(weights=NumberFormat.INT4, mode=QuantizationMode.WEIGHT_ONLY, group_size=32)
    assert precision_of(int4, LM) == precision_named("int4-weights-g32")
    assert precision_of(Formats(), LM).compute == "tf32"
    assert precision_of(Formats(weights=NumberFormat.FP8), LM).weight_bits == 8
    assert precision_of(Formats(weights=NumberFormat.FP16), LM).compute == "fp16"
    assert precision_of(Formats(), LM, tf32=False).compute == "fp32"
    assert precision_of(Formats(weights=NumberFormat.INT8, mode=QuantizationMode.STATIC), LM).activation_bits == 8
    with pytest.raises(NotFound, match="bf16"):
        precision_named("int3")


def test_published_figures_bound_the_error() -> None:
    """The claim of docs/gpu.md, and that it rests on held-out rows with a source each."""
    everything = rows()
    assert all(r.source and r.use in ("fit", "held_out") for r in everything)
    held_out = [r for r in everything if r.use == "held_out"]
    errors = [e for g in FITTED for e in log_errors((r for r in held_out if r.generation == g), efficiency_of(g))]
    within = sum(-0.2877 <= e <= 0.2232 for e in errors)  # -25 % to +25 %
    assert len(errors) >= 25
    assert within >= 0.8 * len(errors)


def test_a_generation_has_at_most_four_fitted_numbers() -> None:
    assert all(len(efficiency_of(gpu.generation).fitted) <= 4 for gpu in gpus())
    assert efficiency_of("apple").fitted == ()
