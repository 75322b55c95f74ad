"""What a placement hands out beside its numbers: a project with its own weights, a waveform. Torch-free."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from engine.fpga.array import buffer_port
from engine.fpga.cycles import Core
from engine.fpga.export import ExampleGemm, write_project, write_waveform
from engine.fpga.integer_network import IntegerProduct
from engine.fpga.pieces import piece_of
from engine.fpga.plan_file import read_plan
from engine.fpga.stored_integers import load

MOST_EXAMPLES = 8
MOST_COLUMNS = 64
MOST_STEPS = 1024
WAVEFORM_SIZE = 4


def project(directory: Path) -> bytes:
    """A zip: the core as it was chosen, testbench, and the integer weights of some products of this placement."""
    products = [p for p in load(directory) if p.weights.size]
    plan = read_plan(directory)
    core = Core(size=plan.size, width=products[0].width)
    step = max(len(products) // MOST_EXAMPLES, 1)
    examples = [_example(product, core) for product in products[::step][:MOST_EXAMPLES]]
    with tempfile.TemporaryDirectory() as folder:
        return write_project(Path(folder) / "project.zip", core, examples).read_bytes()


def waveform(home: Path) -> bytes:
    """A VCD of a core of 4 × 4 running a GEMM of a few tiles. Raises ToolError without g++ or Verilator."""
    with tempfile.TemporaryDirectory() as folder:
        return write_waveform(Path(folder) / "gemm.vcd", Core(size=WAVEFORM_SIZE), home).read_bytes()


def _example(product: IntegerProduct, core: Core) -> ExampleGemm:
    """A corner of the product's weights with two row tiles of drawn activations."""
    columns = slice(0, min(MOST_COLUMNS, product.shape[2]))
    piece = piece_of(product, columns, 2 * core.size, MOST_STEPS, core.width, np.random.default_rng(0))
    return ExampleGemm(product.name, piece.activations, piece.weights, piece.requantization, buffer_port(core))
