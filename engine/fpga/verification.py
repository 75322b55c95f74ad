"""The core against what is said of it: every output bit against the integer executor, every cycle count against the
recurrence, on random GEMMs with random memories."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from engine.fpga.build import Effort
from engine.fpga.cycles import Core, GemmShape, MemoryPort, cycles_of, cycles_without_stalls
from engine.fpga.fixed_point import ACCUMULATOR_BITS, MULTIPLIER_BITS, SHIFTS, Integers, Requantization, limits
from engine.fpga.gemm import gemm
from engine.fpga.simulation import Simulator

_DEEPEST = 300
"""Greatest K that is drawn."""
_TILES = 5
"""Greatest number of tiles that is drawn along M and O."""


@dataclass(frozen=True, slots=True)
class Case:
    """A GEMM to try: its shape, the memory behind the port, and a seed for operands and channel parameters."""

    shape: GemmShape
    memory: MemoryPort
    chunk_length: int | None
    """None: a whole bank."""
    seed: int


@dataclass(frozen=True, slots=True)
class Checked:
    """A case and where the core differed from the executor and the recurrence."""

    case: Case
    wrong_values: int
    cycles: int
    """As simulated."""
    expected_cycles: int
    """As computed by the recurrence."""
    stalled: int
    """Of these, bubbles for the memory's sake."""
    closed_form: int | None
    """As computed by the closed form, where it holds: without stalls."""

    @property
    def wrong_cycles(self) -> bool:
        return self.cycles != self.expected_cycles or (self.closed_form or self.cycles) != self.cycles


@dataclass(frozen=True, slots=True)
class Verification:
    """One core's share of a verification."""

    core: Core
    checked: tuple[Checked, ...]

    @property
    def value_mismatches(self) -> int:
        return sum(c.wrong_values > 0 for c in self.checked)

    @property
    def cycle_mismatches(self) -> int:
        return sum(c.wrong_cycles for c in self.checked)

    @property
    def stalled_shapes(self) -> int:
        """How many of the shapes waited for the memory."""
        return sum(c.stalled > 0 for c in self.checked)

    @property
    def holds(self) -> bool:
        return not self.value_mismatches and not self.cycle_mismatches


def verify(
    cores: Iterable[tuple[Core, int]],
    seed: int,
    home: Path,
    *,
    effort: Effort = Effort.QUICK,
    tell: Callable[[str], None] = lambda words: None,
) -> list[Verification]:
    """So many random cases (core, number) on each core. Raises ToolError when the core cannot be built here."""
    rng = np.random.default_rng(seed)
    found = []
    for core, number in cores:
        tell(f"building the core of {core.size} x {core.size}")
        with Simulator(core, home, effort=effort) as simulator:
            tell(f"checking {number} shapes on {core.size} x {core.size}")
            found.append(Verification(core, tuple(check(simulator, draw_case(rng, core)) for _ in range(number))))
    return found


def draw_case(rng: np.random.Generator, core: Core) -> Case:
    """A random case: any shape up to a few tiles, one or several chunks, starved to ample memory."""
    n = core.size
    shape = GemmShape(*(int(rng.integers(1, high)) for high in (_TILES * n + 1, _DEEPEST + 1, _TILES * n + 1)))
    chunk = None if rng.random() < 0.5 else int(rng.integers(2 * n, 2 * n + 64))
    ample = rng.random() < 0.4
    words = Fraction(2) if ample else Fraction(int(rng.integers(1, 40)), int(rng.integers(1, 20)))
    latency = int(rng.integers(0, 4 if ample else 120))
    return Case(shape, MemoryPort(core.word_bytes * words, latency), chunk, int(rng.integers(2**32)))


def check(simulator: Simulator, case: Case) -> Checked:
    """Runs one case on the core and compares."""
    core = simulator.core
    activations, weights, requantization = operands_of(case, core)
    expected = cycles_of(case.shape, core, case.memory, case.chunk_length)
    answer = simulator.run(activations, weights, requantization, case.memory, case.chunk_length)
    ideal = cycles_without_stalls(case.shape, core, case.memory, case.chunk_length)
    return Checked(
        case=case,
        wrong_values=int((answer.outputs != gemm(activations, weights, requantization)).sum()),
        cycles=answer.cycles,
        expected_cycles=expected.total,
        stalled=expected.stalled,
        closed_form=None if expected.stalled else ideal,
    )


def operands_of(case: Case, core: Core) -> tuple[Integers, Integers, Requantization]:
    """Activations, weights and channel parameters of a case.

    Half of the cases scale results into the output's range; the others take any register contents whatever, so that
    wrapping, saturation and extreme shifts are met.
    """
    rng = np.random.default_rng(case.seed)
    shape, (low, high) = case.shape, limits(core.width)
    extremes = rng.random() < 0.2
    activations = _operand(rng, (shape.rows, shape.depth), low, high, extremes)
    weights = _operand(rng, (shape.depth, shape.columns), low, high, extremes)
    zero_point, relu = int(rng.integers(low, high + 1)), bool(rng.integers(2))
    if rng.random() < 0.5:
        typical = high * high / 3 * np.sqrt(shape.depth)
        scales = rng.uniform(0.2, 3.0, shape.columns) * high / typical
        bias = rng.integers(-int(typical) - 1, int(typical) + 2, shape.columns)
        scaled = Requantization.of_scales(scales, bias, zero_point=zero_point, relu=relu, width=core.width)
        return activations, weights, scaled
    sums, multipliers = limits(ACCUMULATOR_BITS), 1 << MULTIPLIER_BITS
    anything = Requantization(
        bias=rng.integers(sums[0], sums[1] + 1, shape.columns).astype(np.int32),
        multiplier=rng.integers(0, multipliers, shape.columns).astype(np.int32),
        shift=rng.integers(SHIFTS.start, SHIFTS.stop, shape.columns).astype(np.int32),
        zero_point=zero_point,
        relu=relu,
        width=core.width,
    )
    return activations, weights, anything


def _operand(rng: np.random.Generator, shape: tuple[int, int], low: int, high: int, extremes: bool) -> Integers:
    drawn: Integers = rng.choice([low, high], shape) if extremes else rng.integers(low, high + 1, shape)
    return drawn
