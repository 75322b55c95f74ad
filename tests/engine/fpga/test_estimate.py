"""Tier 1: what must hold of any network on any machine, and what is known of some."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.domain.errors import InvalidInput
from engine.fpga.array import ArrayDesign, Precision, core_cycles, shares_of
from engine.fpga.cycles import GemmShape
from engine.fpga.dpu import DpuConstants, dpu
from engine.fpga.estimate import Bound, estimate, traffic
from engine.fpga.machine import Machine, RowScaling
from engine.fpga.placing import on_array
from engine.fpga.plan_file import PlanFile, energy_words, read_plan, write_plan
from engine.fpga.resources import committed, resources_of
from engine.fpga.search import Objective, designs_for, find_design, machine_of
from engine.hardware.fpgas import fpga_of, fpgas
from engine.hardware.networks import cnn_network, network
from engine.hardware.operators import Gemm, Network, Operator, OperatorKind, attention, conv2d, linear, pointwise

ROWS = Path(__file__).parents[3] / "benchmarks" / "dpu_rows.toml"
RESULTS = Path(__file__).parents[3] / "benchmarks" / "results" / "fpga_dpu.json"


def drawn_network(seed: int) -> Network:
    """A few operators of any kind and size."""
    rng = np.random.default_rng(seed)
    operators: list[Operator] = []
    for index in range(8):
        m, k, n = (int(v) for v in rng.integers(1, 600, 3))
        side = int(rng.integers(1, 40))
        operators += [
            linear(f"linear{index}", m, k, n, count=int(rng.integers(1, 4))),
            conv2d(f"conv{index}", 1, 8, n, (3, 3), (side, side), (side, side)),
            conv2d(f"depthwise{index}", 1, 16, 16, (3, 3), (side, side), (side, side), groups=16),
            attention(f"attention{index}", 1, 4, 4, 16, m, n),
            pointwise(f"norm{index}", m * n, kind=OperatorKind.NORM),
        ]
    return cnn_network(f"drawn{seed}", tuple(operators[i] for i in rng.permutation(len(operators))), 1)


def some_machine(seed: int) -> Machine:
    rng = np.random.default_rng(seed)
    design = ArrayDesign(
        size=int(rng.choice([4, 8, 16])), cores=int(rng.integers(1, 9)), buffer_bytes=int(rng.integers(4096, 2**20)), clock_hz=2e8
    )
    return machine_of(fpga_of("zcu104"), design)


@pytest.mark.parametrize("seed", range(12))
def test_more_of_anything_is_never_slower(seed: int) -> None:
    shapes, machine = drawn_network(seed), some_machine(seed)
    before = estimate(shapes, machine).seconds
    assert machine.host is not None
    better = [
        replace(machine, memory_bytes_per_second=machine.memory_bytes_per_second * 1.7),
        replace(machine, buffer_bytes=machine.buffer_bytes * 2.3),
        replace(machine, clock_hz=machine.clock_hz * 1.3),
        replace(machine, host=replace(machine.host, bytes_per_second=machine.host.bytes_per_second * 2)),
        replace(machine, host=replace(machine.host, operations_per_second=machine.host.operations_per_second * 2)),
    ]
    assert all(estimate(shapes, each).seconds <= before * (1 + 1e-12) for each in better)


@pytest.mark.parametrize("seed", range(12))
def test_layers_add_up_and_nothing_does_more_than_it_can(seed: int) -> None:
    shapes, machine = drawn_network(seed), some_machine(seed)
    forward = estimate(shapes, machine).forward
    assert sum(forward.seconds_bound_by(bound) for bound in Bound) == pytest.approx(forward.seconds)
    assert forward.macs == sum(gemm.macs * o.count for o in shapes.forward for gemm in o.gemms)
    assert all(0 < layer.utilisation <= 1 for layer in forward.layers if layer.macs)
    assert 0 < forward.utilisation <= 1


@pytest.mark.parametrize("seed", range(20))
def test_cores_share_a_product_without_leaving_anything_out(seed: int) -> None:
    rng = np.random.default_rng(seed)
    m, k, n, groups = (int(v) for v in rng.integers(1, 200, 4))
    size, cores = int(rng.choice([4, 8])), int(rng.integers(1, 20))
    for share in shares_of(Gemm(m, k, n, groups), size, cores):
        tiles = -(-share.shape.rows // size) * -(-share.shape.columns // size)
        assert cores * share.times * tiles >= groups * -(-m // size) * -(-n // size)
    one = ArrayDesign(size=size, cores=1, buffer_bytes=2**16, clock_hz=2e8)
    assert replace(one, cores=cores).cycles(Gemm(m, k, n, groups)) <= one.cycles(Gemm(m, k, n, groups))
    assert one.cycles(Gemm(m, k, n)) == core_cycles(GemmShape(m, k, n), one.core).total + n


def test_an_operand_that_does_not_fit_the_buffer_is_read_again() -> None:
    assert traffic(100, 1000, 10, buffer=200) == 100 + 1000 + 10
    assert traffic(300, 1000, 10, buffer=200) == min(300 * 10 + 1000, 1000 * 3 + 300) + 10


def test_decoding_a_7b_model_waits_for_the_memory() -> None:
    shapes = network("llama-7b", sequence=128, new_tokens=32)
    found = find_design(shapes, fpga_of("alveo-u250"))
    assert found.estimate.decode is not None
    assert found.estimate.decode.bound is Bound.MEMORY
    # a token reads every weight once
    least = shapes.parameters / (fpga_of("alveo-u250").memory_gb_per_s.value * 1e9)
    assert found.estimate.decode.seconds > least * 0.95


def test_rows_with_their_own_scales_cost_the_host_what_it_looks_at() -> None:
    first, activation, second = linear("up", 8, 16, 64), pointwise("gelu", 512), linear("down", 8, 64, 16)
    shapes = cnn_network("net", (first, activation, second), 1)
    board = fpga_of("zcu104")
    design = ArrayDesign(size=8, cores=1, buffer_bytes=2**16, clock_hz=2e8)
    host = machine_of(board, design).host
    assert host is not None

    def seconds(scaled: dict[str, RowScaling] | None) -> float:
        layers = estimate(shapes, machine_of(board, design, scaled)).forward.layers
        return sum(layer.seconds for layer in layers if layer.name.endswith(".scales"))

    looks = {"up": 8 * 16 + 8 * 64, "down": 8 * 64 + 8 * 16}
    assert seconds({}) == 0.0
    assert seconds(None) == pytest.approx(sum(looks.values()) / host.operations_per_second), "assumed of both"
    assert seconds({"down": RowScaling(first=True, fetches=False, returns=False)}) == pytest.approx(looks["down"] / host.operations_per_second)
    assert seconds({"down": RowScaling(first=False, fetches=True, returns=False)}) == pytest.approx(8 * 16 / host.operations_per_second)
    away = seconds({"down": RowScaling(first=True, fetches=True, returns=False)})
    way = 2 * (8 * 64 / host.bytes_per_second + host.latency_seconds)
    assert away == pytest.approx(looks["down"] / host.operations_per_second + way)


def test_a_model_larger_than_the_memory_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"6\.\d* GB"):
        find_design(network("llama-7b", new_tokens=2), fpga_of("zcu104"))


def test_every_board_carries_a_design_and_what_is_found_fits() -> None:
    shapes = network("minilm-l6")
    for board in fpgas():
        found = find_design(shapes, board, objective=Objective.SMALLEST, within_seconds=60)
        assert found.resources.fits, board.id
        assert found.joules[0] < found.joules[1]


def test_the_smallest_array_that_is_fast_enough() -> None:
    shapes, board = network("resnet-18"), fpga_of("zcu104")
    fastest = find_design(shapes, board)
    within = fastest.estimate.seconds * 3
    small = find_design(shapes, board, objective=Objective.SMALLEST, within_seconds=within)
    assert small.estimate.seconds <= within
    assert small.resources.lut < fastest.resources.lut
    with pytest.raises(InvalidInput, match="the fastest takes"):
        find_design(shapes, board, objective=Objective.SMALLEST, within_seconds=fastest.estimate.seconds / 2)


def test_fewer_bits_change_array_and_resources() -> None:
    board = fpga_of("zcu104")
    eight = ArrayDesign(size=16, cores=1, buffer_bytes=2**16, clock_hz=2e8)
    four = replace(eight, precision=Precision(weights=4, activations=4))
    assert resources_of(four, board, committed()).dsp < resources_of(eight, board, committed()).dsp
    assert resources_of(four, board, committed()).ram_kbit < resources_of(eight, board, committed()).ram_kbit
    most = {p.width: max(d.macs_per_cycle for d in designs_for(board, p, committed())) for p in (eight.precision, four.precision)}
    assert most[4] > most[8]
    shapes = network("bert-base")
    mixed = machine_of(board, replace(eight, precision=Precision(weights=4)))
    assert estimate(shapes, mixed).forward.memory_bytes < estimate(shapes, machine_of(board, eight)).forward.memory_bytes


def test_what_follows_a_product_may_be_part_of_it() -> None:
    product = conv2d("conv", 1, 3, 8, (3, 3), (8, 8), (8, 8))
    norm = replace(pointwise("norm", 512, kind=OperatorKind.NORM, weights=32), function="native_batch_norm")
    relu, gelu = (replace(pointwise(name, 512), function=name) for name in ("relu", "gelu"))
    shapes = cnn_network("net", (product, norm, relu, product, gelu, product, relu, relu), 1)
    assert [o.name for o in on_array(shapes).forward] == ["conv", "conv", "gelu", "conv"]


def test_the_model_of_the_dpu_keeps_its_error_on_the_rows_it_was_not_fitted_to() -> None:
    constants = fitted_constants()
    rows = tomllib.loads(ROWS.read_text())
    published = {"resnet-18", "inception-v1", "resnet-50-v1", "mobilenet-v1"}
    for row in (r for r in rows["held_out"] if r["network"] in published):
        seconds = estimate(network(row["network"]), dpu(row["board"], constants)).seconds
        assert seconds * 1e3 == pytest.approx(row["milliseconds"], rel=0.25), row


def fitted_constants() -> DpuConstants:
    found = json.loads(RESULTS.read_text())["constants"]
    return DpuConstants(
        call_seconds=found["call_ms"] / 1e3, memory_bytes_per_second=found["memory_gb_per_s"] * 1e9, exposed=found["exposed"]
    )


def test_a_plan_survives_its_file(tmp_path: Path) -> None:
    plan = PlanFile.of(find_design(network("llama-7b", new_tokens=4), fpga_of("alveo-u250")))
    write_plan(plan, tmp_path)
    assert read_plan(tmp_path) == plan
    assert plan.band[0] < plan.seconds < plan.band[1]
    assert [one.title for one in plan.passes] == ["Prompt", "One token"]


def test_energy_never_has_three_digits() -> None:
    assert energy_words((0.14321, 0.4291)) == "140 to 430 mJ"
    assert energy_words((0.000234, 0.00178)) == "0.2 to 2 mJ"
