"""`python -m engine fpga …`: `verify` holds the simulated core against the integer executor and the cycle recurrence,
`synthesize` gets its resources and clock."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from engine.domain.codec import as_data
from engine.domain.errors import InvalidInput
from engine.fpga.cycles import Core
from engine.fpga.fixed_point import WIDTHS
from engine.fpga.synthesis import Synthesis
from engine.fpga.synthesizing import synthesize
from engine.fpga.verification import Checked, Verification, verify
from engine.settings import Settings

_SIZES = range(2, 33)


def run(settings: Settings, options: argparse.Namespace) -> int:
    """The exit code. Raises InvalidInput and ToolError."""
    match options.action:
        case "verify":
            return _verify(settings, options)
        case _:
            return _synthesize(settings, options)


def _synthesize(settings: Settings, options: argparse.Namespace) -> int:
    """0, or ToolError; what was found before it is kept."""
    core = Core(size=_size(options.size, "--size"), width=_width(options.width))
    seeds = list(dict.fromkeys(_numbers(options.seeds, "--seeds")))
    if min(seeds) < 0:
        raise InvalidInput("A seed is not negative.", where="--seeds")
    found = synthesize(core, settings.home, seeds=seeds, tell=_tell)
    print(json.dumps(as_data(found), indent=2) if options.json else _synthesis_as_text(found))
    return 0


def _synthesis_as_text(found: Synthesis) -> str:
    lines = [
        f"{family}: {r.luts:,} LUTs, {r.flip_flops:,} flip-flops, {r.dsps} DSPs, {r.block_memories} block memories (18 kbit)"
        for family, r in found.resources.items()
    ]
    lines += [f"{found.device}, seed {route.seed}: {route.fmax_mhz} MHz" for route in found.routes]
    if found.routes:
        path = found.routes[0].critical_path
        lines += ["critical path:", *(f"  {step.delay_ns:6.3f} ns  {step.kind:9} {step.cell}" for step in path)]
    return "\n".join(lines)


def _tell(words: str) -> None:
    print(words, file=sys.stderr)


def _verify(settings: Settings, options: argparse.Namespace) -> int:
    """0 when every output bit and every cycle count agrees, 1 otherwise. Raises InvalidInput and ToolError."""
    sizes = [_size(size, "--sizes") for size in _numbers(options.sizes, "--sizes")]
    if options.shapes < 1:
        raise InvalidInput("At least one shape is needed.", where="--shapes")
    if options.seed < 0:
        raise InvalidInput("A seed is not negative.", where="--seed")
    width = _width(options.width)
    # the first cores take what does not divide evenly
    shares = [options.shapes // len(sizes) + (i < options.shapes % len(sizes)) for i in range(len(sizes))]
    cores = [(Core(size=size, width=width), share) for size, share in zip(sizes, shares, strict=True) if share]
    found = verify(cores, options.seed, settings.home, tell=_tell)
    print(json.dumps(_as_data(found, options.seed), indent=2) if options.json else _as_text(found, options.seed))
    return 0 if all(v.holds for v in found) else 1


def _numbers(text: str, where: str) -> list[int]:
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise InvalidInput(f"{text!r} are not whole numbers.", mend="Write for example 4,8.", where=where) from None


def _size(size: int, where: str) -> int:
    if size not in _SIZES:
        raise InvalidInput(f"An array of {size} x {size} is not offered.", mend="2 to 32 are.", where=where)
    return size


def _width(width: int) -> int:
    if width not in WIDTHS:
        raise InvalidInput(f"{width} bits are not offered.", mend="2 to 16 are.", where="--width")
    return width


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
