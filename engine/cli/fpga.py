"""`python -m engine fpga verify`: the simulated core against the integer executor and the cycle recurrence."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from engine.domain.errors import InvalidInput
from engine.fpga.cycles import Core
from engine.fpga.fixed_point import WIDTHS
from engine.fpga.verification import Checked, Verification, verify
from engine.settings import Settings

_SIZES = range(2, 33)


def fpga_verify(settings: Settings, options: argparse.Namespace) -> int:
    """0 when every output bit and every cycle count agrees, 1 otherwise. Raises InvalidInput and ToolError."""
    sizes = _sizes(options.sizes)
    if options.shapes < 1:
        raise InvalidInput("At least one shape is needed.", where="--shapes")
    if options.seed < 0:
        raise InvalidInput("A seed is not negative.", where="--seed")
    if options.width not in WIDTHS:
        raise InvalidInput(f"{options.width} bits are not offered.", mend="2 to 16 are.", where="--width")
    # the first cores take what does not divide evenly
    shares = [options.shapes // len(sizes) + (i < options.shapes % len(sizes)) for i in range(len(sizes))]
    cores = [(Core(size=size, width=options.width), share) for size, share in zip(sizes, shares, strict=True) if share]
    found = verify(cores, options.seed, settings.home, tell=lambda words: print(words, file=sys.stderr))
    print(json.dumps(_as_data(found, options.seed), indent=2) if options.json else _as_text(found, options.seed))
    return 0 if all(v.holds for v in found) else 1


def _sizes(text: str) -> list[int]:
    try:
        sizes = [int(word) for word in text.split(",")]
    except ValueError:
        sizes = []
    if not sizes or any(size not in _SIZES for size in sizes):
        raise InvalidInput(f"{text!r} are not sizes.", mend="Write for example 4,8; from 2 to 32.", where="--sizes")
    return sizes


def _as_data(found: list[Verification], seed: int) -> dict[str, Any]:
    return {
        "seed": seed,
        "shapes": sum(len(v.checked) for v in found),
        "value_mismatches": sum(v.value_mismatches for v in found),
        "cycle_mismatches": sum(v.cycle_mismatches for v in found),
        "cores": [
            {
                "size": v.core.size,
                "width": v.core.width,
                "shapes": len(v.checked),
                "shapes_that_stalled": v.stalled_shapes,
                "cycles": sum(c.cycles for c in v.checked),
                "value_mismatches": v.value_mismatches,
                "cycle_mismatches": v.cycle_mismatches,
            }
            for v in found
        ],
        "mismatches": [_mismatch(v, c) for v in found for c in v.checked if c.wrong_values or c.wrong_cycles],
    }


def _mismatch(verification: Verification, checked: Checked) -> dict[str, Any]:
    """All that is needed to repeat it."""
    case = checked.case
    return {
        "size": verification.core.size,
        "width": verification.core.width,
        "rows": case.shape.rows,
        "depth": case.shape.depth,
        "columns": case.shape.columns,
        "chunk_length": case.chunk_length,
        "bytes_per_cycle": str(case.memory.bytes_per_cycle),
        "latency": case.memory.latency,
        "seed": case.seed,
        "wrong_values": checked.wrong_values,
        "cycles_simulated": checked.cycles,
        "cycles_expected": checked.expected_cycles,
        "cycles_closed_form": checked.closed_form,
    }


def _as_text(found: list[Verification], seed: int) -> str:
    lines = [
        f"{v.core.size} x {v.core.size}, {v.core.width} bits: {len(v.checked)} shapes ({v.stalled_shapes} waited for memory), "
        f"{sum(c.cycles for c in v.checked):,} cycles, {v.value_mismatches} value mismatches, "
        f"{v.cycle_mismatches} cycle mismatches"
        for v in found
    ]
    verdict = "Every output bit and every cycle agree." if all(v.holds for v in found) else "The core disagrees."
    return "\n".join([*lines, f"{verdict} (seed {seed})"])
