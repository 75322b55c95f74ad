"""A sample of a network's own products on the RTL: some rows and columns of each, edge tiles among them.

The same parametrised Verilog is built with a small array, because one as large as the
design takes g++ minutes; weights, biases, multipliers and shifts are the network's,
activations are drawn. Every bit is held against the integer executor, every cycle against
the recurrence.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from engine.domain.errors import StageError, ToolError
from engine.fpga.array import buffer_port
from engine.fpga.build import Effort
from engine.fpga.cycles import Core, cycles_of
from engine.fpga.gemm import gemm
from engine.fpga.integer_network import IntegerProduct
from engine.fpga.pieces import Piece, piece_of
from engine.fpga.plan_file import Sampled
from engine.fpga.simulation import Simulator

SIZE = 4
ROWS = COLUMNS = 2 * SIZE - 1
"""One whole tile and one at the edge, in both directions."""
MOST_STEPS = 4096
"""Of K: as many chunks are walked, the rest is alike."""


def run_sample(products: Sequence[IntegerProduct], scratch: Path) -> Sampled:
    """Raises StageError when the RTL answers otherwise than the executor or takes other cycles than the recurrence."""
    weighted = [p for p in products if p.weights.size]
    core = Core(size=SIZE, width=products[0].width)
    generator = np.random.default_rng(0)
    macs = cycles = 0
    try:
        with _folder(scratch) as folder, Simulator(core, folder, effort=Effort.QUICK) as simulator:
            for product in weighted:
                piece = _piece(product, core, generator)
                simulated = simulator.run(piece.activations, piece.weights, piece.requantization, buffer_port(core))
                cycles_expected = cycles_of(piece.shape, core, buffer_port(core)).total
                expected = gemm(piece.activations, piece.weights, piece.requantization)
                if simulated.cycles != cycles_expected or not np.array_equal(simulated.outputs, expected):
                    raise StageError(
                        "The RTL does not do what the model says.", mend="Please report this.", where=product.name,
                        detail=f"{piece.shape}: {simulated.cycles} cycles simulated, {cycles_expected} expected",
                    )  # fmt: skip
                macs, cycles = macs + piece.shape.macs, cycles + simulated.cycles
    except ToolError as error:
        return Sampled(of=len(weighted), note=f"No tile was run on the RTL. {error.what}")
    return Sampled(len(weighted), len(weighted), macs, cycles)


def _piece(product: IntegerProduct, core: Core, generator: np.random.Generator) -> Piece:
    """The last columns of the first group, so that a ragged edge is among them."""
    last = product.shape[2]
    columns = slice(last - min(COLUMNS, last), last)
    return piece_of(product, columns, min(ROWS, product.shape[0]), MOST_STEPS, core.width, generator)


@contextmanager
def _folder(scratch: Path) -> Iterator[Path]:
    """A folder that goes away again; the compiler's own temporary files are put there as well."""
    before = os.environ.get("TMPDIR")
    with tempfile.TemporaryDirectory(dir=scratch, prefix="rtl-") as folder:
        os.environ["TMPDIR"] = folder
        try:
            yield Path(folder)
        finally:
            os.environ.pop("TMPDIR")
            if before is not None:
                os.environ["TMPDIR"] = before
