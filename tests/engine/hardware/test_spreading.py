"""The projection over several devices: in its limits, and against published latencies it was not fitted to."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.spreading_projection import Row, log_errors, rows
from engine.cli import parser
from engine.cli.project import degrees_of, divided, run, spread_as_data
from engine.domain.artifact import ArtifactFormat, ModelCard, TaskId
from engine.domain.errors import InvalidInput
from engine.hardware.gpus import gpu_of
from engine.hardware.links import Link, link_of
from engine.hardware.networks import network
from engine.hardware.precisions import precision_named
from engine.hardware.projection import project
from engine.hardware.spreading import Degrees, Spread, constants, spread
from engine.settings import Settings

A100, NVLINK = gpu_of("a100-80"), link_of("nvlink3")


def spread_of(name: str, degrees: Degrees, link: Link = NVLINK, measured: float = 0.0, **workload: int) -> Spread:
    net = network(name, **workload)
    return spread(net, project(net, A100, precision_named("fp16")), degrees, link, measured=measured)


def test_one_device_is_the_projection_itself() -> None:
    alone = spread_of("llama-7b", Degrees(), new_tokens=8)
    assert alone.latency == pytest.approx(alone.single.latency) and alone.throughput == pytest.approx(alone.single.throughput)
    assert (alone.speedup, alone.communication, alone.efficiency) == (pytest.approx(1.0), 0.0, pytest.approx(1.0))
    assert alone.memory == alone.single.memory and alone.high / alone.latency == pytest.approx(alone.single.efficiency.band)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["llama-7b", "bert-large"]), st.sampled_from([1, 2, 4, 8, 64]), st.sampled_from([1, 2, 8]), st.integers(1, 64))
def test_never_better_than_as_many_devices(name: str, tensor: int, pipeline: int, replicas: int) -> None:
    found = spread_of(name, Degrees(tensor=tensor, pipeline=pipeline, replicas=replicas), new_tokens=4)
    assert found.latency >= found.single.latency / tensor * (1 - 1e-9)
    assert found.efficiency <= 1 + 1e-9
    assert 0 <= found.communication < 1


def test_what_each_degree_brings() -> None:
    alone = spread_of("llama-7b", Degrees(), new_tokens=8)
    copies = spread_of("llama-7b", Degrees(replicas=4), new_tokens=8)
    assert copies.latency == pytest.approx(alone.latency) and copies.throughput == pytest.approx(4 * alone.throughput)
    stages = spread_of("llama-7b", Degrees(pipeline=4), new_tokens=8)
    assert stages.latency >= alone.latency and 3 * alone.throughput < stages.throughput < 4 * alone.throughput
    slices = spread_of("llama-7b", Degrees(tensor=4), sequence=2048)
    assert slices.speedup > 2 and slices.memory.weights == alone.memory.weights // 4
    slow = spread_of("llama-7b", Degrees(tensor=4), link_of("ethernet-1g"), sequence=2048)
    assert slow.speedup < 1 and slow.communication > 0.9


def test_processors_on_an_ethernet_pay_for_tcp_and_for_nothing_else() -> None:
    net, link = network("minilm-l6", batch=8), replace(link_of("ethernet-1g"), latency=0.001)
    single = project(net, replace(A100, launch_seconds=0.0), precision_named("fp32"))
    found = spread(net, single, Degrees(tensor=2), link)
    sums, size = 12, 8 * 128 * 384 * 4
    bytes_and_steps = constants("tcp").moving * size / link.bandwidth + constants("tcp").stepping * link.latency
    assert found.communication * (found.latency - single.transfer) == pytest.approx(sums * bytes_and_steps)
    on_devices = spread(net, project(net, A100, precision_named("fp32")), Degrees(tensor=2), link)
    assert on_devices.latency > found.latency


def test_what_does_not_fit_one_device_may_fit_four() -> None:
    assert not spread_of("llama-70b", Degrees()).fits and spread_of("llama-70b", Degrees(tensor=4)).fits


def test_a_measured_device_sets_the_pace() -> None:
    projected = spread_of("llama-7b", Degrees(pipeline=2))
    measured = spread_of("llama-7b", Degrees(pipeline=2), measured=2 * projected.single.latency)
    hop = projected.latency - projected.single.latency
    assert measured.latency == pytest.approx(2 * projected.single.latency + hop)


@pytest.mark.parametrize(
    ("name", "degrees", "says"),
    [
        ("resnet-50", {"tensor": 2}, "no attention"), ("llama-7b", {"pipeline": 64}, "32 layers, fewer than 64"),
        ("llama-7b", {"replicas": 65}, "Choose 1 to 64"), ("llama-7b", {"tensor": 0}, "Choose 1 to 64"),
    ],
)  # fmt: skip
def test_degrees_that_it_cannot_have(name: str, degrees: dict[str, int], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        spread_of(name, Degrees(**degrees))


def test_heads_that_do_not_divide_name_the_degrees_that_do() -> None:
    card = ModelCard(ArtifactFormat.GGUF, TaskId.CAUSAL_LM, "LlamaForCausalLM", 1, "Q4_1", (), num_heads=9, num_kv_heads=3, intermediate_size=1536)
    with pytest.raises(InvalidInput, match=r"9 heads and 3 key-value heads do not divide by 2\. Choose 3"):
        divided([Degrees(tensor=2)], card)
    left, refused = divided([Degrees(tensor=2), Degrees(tensor=3), Degrees(pipeline=2)], card)
    assert left == [Degrees(tensor=3), Degrees(pipeline=2)]
    assert refused == ["tensor=2 is left out: 9 heads and 3 key-value heads do not divide by it. Choose 3."]


def test_a_published_network_is_projected_by_name(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["project", "gpt-20b", "--device", "a100-80", "--tensor", "1,5,8", "--workload", "sequence_length=80,new_tokens=200"]
    options = parser().parse_args([*words, "--recipe", "quantization(format=int8)", "--recipe", "", "--json"])
    assert run(settings, options) == 0
    said = json.loads(capsys.readouterr().out)
    assert [(p["recipe"], p["tensor"]) for p in said["projections"]] == [("quantization(format=int8)", 1), ("quantization(format=int8)", 8), ("", 1), ("", 8)]
    assert said["refused"][0].startswith("tensor=5 is left out: 48 heads") and said["projections"][3]["new_tokens"] == 200
    with pytest.raises(InvalidInput, match="known by its shape alone"):
        run(settings, parser().parse_args([*words, "--recipe", "pruning(sparsity=0.3)"]))


def test_the_command_line_takes_lists() -> None:
    asked = degrees_of(argparse.Namespace(tensor="1,2", pipeline="1", replicas="4"))
    assert asked == [Degrees(replicas=4), Degrees(tensor=2, replicas=4)]
    with pytest.raises(InvalidInput, match="--tensor 1,2,4,8"):
        degrees_of(argparse.Namespace(tensor="two", pipeline="1", replicas="1"))
    data = spread_as_data("", spread_of("llama-7b", asked[1]), network("llama-7b"))
    assert data["provenance"] == "projected" and data["devices"] == 8 and data["link_source"]


def within(some: list[Row]) -> list[bool]:
    return [abs(math.expm1(error)) <= 0.15 for error in log_errors(some, constants())]


def test_prefill_and_batch_one_on_a100s_are_within_fifteen_percent() -> None:
    held_out = [row for row in rows() if row.use == "held_out" and row.device == "a100-80" and row.batch == 1]
    prefill = [row for row in held_out if row.new_tokens == 1]
    tensor = [row for row in held_out if row.network == "gpt-20b" and row.degrees.tensor > 1]
    assert len(prefill) == 5 and all(within(prefill))
    assert len(tensor) == 6 and all(within(tensor))


def test_the_band_is_what_held_out_rows_say() -> None:
    cut = [row for row in rows() if row.use == "held_out" and row.degrees.devices > 1]
    assert len(cut) >= 70 and all(row.source for row in cut)
    inside = [abs(error) <= math.log(constants().band) + 5e-3 for error in log_errors(cut, constants())]
    assert 0.88 <= sum(inside) / len(inside) <= 0.92
