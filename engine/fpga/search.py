"""Finds the array for a network on a board: size, number of cores, buffer. Torch-free.

All designs that fit are few (some ten sizes, some ten numbers of cores), so all are
tried; the buffer takes what RAM is left, because more of it is never slower.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from engine.domain.errors import InvalidInput
from engine.fpga.array import ArrayDesign, Precision
from engine.fpga.estimate import Estimate, estimate
from engine.fpga.machine import Host, Machine, RowScaling
from engine.fpga.resources import RAM_SHARE, Clock, Resources, Syntheses, banks_kbit, clock_of, committed, resources_of
from engine.hardware.fpgas import Fpga
from engine.hardware.operators import Network

SIZES = (4, 8, 12, 16, 20, 24, 32, 40, 48, 64)
MOST_CORES = 256
LEAST_BUFFER = 4096
"""Bytes: a design without any cannot feed its cores."""


class Objective(StrEnum):
    FASTEST = "fastest"
    SMALLEST = "smallest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A design, what it takes and how long the network takes on it."""

    board: Fpga
    design: ArrayDesign
    resources: Resources
    clock: Clock
    estimate: Estimate
    tried: int
    """Designs that fitted."""
    known: Syntheses
    scaled: Mapping[str, RowScaling] | None

    @property
    def joules(self) -> tuple[float, float]:
        """Energy of one call: the board's power range times the latency."""
        seconds = self.estimate.seconds
        return self.board.power_w.low * seconds, self.board.power_w.high * seconds


def machine_of(board: Fpga, design: ArrayDesign, scaled: Mapping[str, RowScaling] | None = None) -> Machine:
    """This project's array on a board; what it lacks is done by the board's host."""
    return Machine(
        engine=design, clock_hz=design.clock_hz, memory_bytes_per_second=board.memory_gb_per_s.value * 1e9,
        buffer_bytes=design.buffer_bytes, weight_bits=design.precision.weights, activation_bits=design.precision.activations,
        host=Host(
            bytes_per_second=board.host_gb_per_s.value * 1e9, latency_seconds=board.host_latency_us.value * 1e-6,
            operations_per_second=board.host_gops.value * 1e9,
        ),
        scaled=scaled,
    )  # fmt: skip


def designs_for(board: Fpga, precision: Precision, known: Syntheses) -> Iterator[ArrayDesign]:
    """All designs that fit the board, each with the largest buffer."""
    for size in SIZES:
        clock_hz = clock_of(board, size, known, precision.width).hertz
        one = ArrayDesign(size=size, cores=1, buffer_bytes=LEAST_BUFFER, clock_hz=clock_hz, precision=precision)
        for cores in _numbers(one, board, known):
            design = _with_buffer(replace(one, cores=cores), board)
            if design is not None and resources_of(design, board, known).fits:
                yield design


def find_design(
    network: Network, board: Fpga, precision: Precision = Precision(), objective: Objective = Objective.FASTEST,
    *, within_seconds: float = 0.0, known: Syntheses | None = None, scaled: Mapping[str, RowScaling] | None = None,
) -> Found:  # fmt: skip
    """The fastest design, or the smallest that takes at most `within_seconds`.

    known: what tools found of cores; None: what comes with Speedrail. scaled: layers whose rows have
    their own scales; None: assumed (engine.fpga.machine).

    Raises InvalidInput when the network does not fit the board's memory, when no design
    fits the board, or when none is fast enough (the fastest is named).
    """
    check_memory(network, board, precision)
    known = known or committed()
    fitting = list(designs_for(board, precision, known))
    if not fitting:
        raise InvalidInput(f"No array fits {board.title}.", mend="Choose a larger board.", where=board.id)
    candidates = [_found(network, board, design, len(fitting), known, scaled) for design in fitting]
    fastest = min(candidates, key=lambda f: (f.estimate.seconds, f.resources.dsp, f.resources.lut))
    if objective is Objective.FASTEST:
        return _lean(fastest)
    enough = [f for f in candidates if f.estimate.seconds <= within_seconds]
    if not enough:
        raise InvalidInput(
            f"No array on {board.title} does it in {within_seconds * 1e3:.3g} ms; the fastest takes "
            f"{fastest.estimate.seconds * 1e3:.3g} ms.",
            mend="Allow more, or choose a larger board.", where=board.id,
        )  # fmt: skip
    return _lean(min(enough, key=lambda f: (f.resources.lut, f.resources.dsp)))


def check_memory(network: Network, board: Fpga, precision: Precision) -> None:
    """Raises InvalidInput when weights and KV cache exceed the board's memory."""
    cache = network.cache_elements * network.batch * network.longest_context * precision.activations / 8
    needed, there = network.parameters * precision.weights / 8 + cache, board.memory_gb.value * 1e9
    if needed > there:
        raise InvalidInput(
            f"{network.name} needs {needed / 1e9:.3g} GB and {board.title} has {there / 1e9:.3g} GB of memory.",
            mend="Choose a board with more memory, or fewer bits.", where=board.id,
        )  # fmt: skip


def _found(
    network: Network, board: Fpga, design: ArrayDesign, tried: int, known: Syntheses, scaled: Mapping[str, RowScaling] | None
) -> Found:
    return Found(
        board=board, design=design, resources=resources_of(design, board, known), clock=clock_of(board, design.size, known, design.precision.width),
        tried=tried, known=known, scaled=scaled, estimate=estimate(network, machine_of(board, design, scaled)),
    )  # fmt: skip


def _lean(found: Found) -> Found:
    """The same with the smallest buffer that is not slower: RAM that serves nothing is not taken."""
    best = found
    while (smaller := best.design.buffer_bytes // 2) >= LEAST_BUFFER:
        design = replace(best.design, buffer_bytes=smaller)
        halved = _found(found.estimate.network, found.board, design, found.tried, found.known, found.scaled)
        if halved.estimate.seconds > found.estimate.seconds * 1.0001:
            break
        best = halved
    return best


def _numbers(one: ArrayDesign, board: Fpga, known: Syntheses) -> list[int]:
    """1, 2, 3, 4, 6, 8, 12 …, and the most that fits."""
    if not resources_of(one, board, known).fits:
        return []
    most = 1
    while most < MOST_CORES and resources_of(replace(one, cores=most + 1), board, known).fits:
        most += 1
    steps = {1, *(2**i for i in range(9)), *(3 * 2**i for i in range(8)), most}
    return sorted(n for n in steps if n <= most)


def _with_buffer(design: ArrayDesign, board: Fpga) -> ArrayDesign | None:
    taken = design.cores * banks_kbit(design, board)
    left = int(board.on_chip_bytes * RAM_SHARE - taken * 128) // LEAST_BUFFER * LEAST_BUFFER
    return replace(design, buffer_bytes=left) if left >= LEAST_BUFFER else None
