"""How many cycles the core takes: the closed form without stalls, the recurrence with them. Both equal the RTL.

A cycle is counted from the one in which `start` is high to the one in which the last result is on the output port,
both included. Where the constants come from (state machines and pipeline stages of rtl/): docs/fpga.md.

Without stalls, T = ceil(M/N) * ceil(O/N) tiles, every chunk loaded in time:

    cycles = first load + (T - 1) * max(K, 2N) + K + 3N + 25,   first load = latency + ceil(K * cycles of a beat)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from functools import cache
from math import ceil

from engine.domain.errors import InvalidInput

REQUEST = 2
"""From `start` to the first request (states IDLE and PREPARE)."""
NEXT_REQUEST = 2
"""From a burst's last beat to the next request (PREPARE)."""
BANK_FREE = 2
"""From a bank's last read to the request that fills it again (chunk_consumed, bank_is_free)."""
CHUNK_READY = 2
"""From a burst's last beat to `go` (chunk_loaded, chunk_is_ready)."""
DRAIN = 21
"""From a tile's last K step to its last result, beside 3N: 8 cycles to the top of the array, 15 in the requantizer,
1 to count the last cycle itself, less the 3 by which 3(N - 1) is short of 3N."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """The core's parameters."""

    size: int = 8
    """N: rows and columns of the array."""
    width: int = 8
    """Bits of an operand."""
    bank: int = 1024
    """Words of N operands in a bank; each of the two operands has two banks."""
    blocks: int = 512
    """Column blocks whose channel parameters fit; a wider GEMM is run in several."""

    @property
    def word_bytes(self) -> Fraction:
        """Bytes of one word: N operands."""
        return Fraction(self.size * self.width, 8)


@dataclass(frozen=True, slots=True)
class MemoryPort:
    """The memory behind the port: answers one burst at a time, after `latency`, at most one beat a cycle."""

    bytes_per_cycle: Fraction
    latency: int = 0
    """Cycles from the request to the cycle before the first beat at full rate."""

    def beat(self, core: Core, with_weights: bool) -> Fraction:
        """Cycles from beat to beat: a beat is one word of activations, and one of weights where they are needed."""
        return max(Fraction(1), core.word_bytes * (2 if with_weights else 1) / self.bytes_per_cycle)

    def burst(self, core: Core, length: int, with_weights: bool) -> int:
        """Cycles from the request to the last beat."""
        return self.latency + ceil(length * self.beat(core, with_weights))


@dataclass(frozen=True, slots=True)
class GemmShape:
    """out (M, O) = activations (M, K) x weights (K, O)."""

    rows: int
    """M."""
    depth: int
    """K."""
    columns: int
    """O."""

    @property
    def macs(self) -> int:
        return self.rows * self.depth * self.columns


@dataclass(frozen=True, slots=True)
class Tiling:
    """How a GEMM is cut for the core: the registers that the host sets."""

    row_tiles: int
    column_blocks: int
    chunks: int
    """Of K, in each tile."""
    chunk_length: int
    last_chunk_length: int
    last_chunk_slot: int
    """Cycles that the last chunk occupies the array: at least 2N, the time a tile drains."""

    @property
    def tiles(self) -> int:
        return self.row_tiles * self.column_blocks

    @property
    def weights_stay(self) -> bool:
        """A column block's weights are loaded once and serve all row tiles."""
        return self.chunks == 1


@dataclass(frozen=True, slots=True)
class Cycles:
    """What the core takes for one GEMM."""

    total: int
    fill: int
    """Until the first chunk is fed: start, latency, first load."""
    fed: int
    """K steps, all tiles."""
    drain_bound: int
    """Idle because the last chunk of a tile is shorter than the 2N cycles in which a tile drains."""
    stalled: int
    """Bubbles: a chunk was not loaded in time."""
    drained: int
    """From the last K step to the last result."""
    bytes_read: Fraction
    """Activations and weights over the memory port, edges filled up."""
    bytes_written: Fraction
    """Results, edges filled up."""
    macs: int
    """Useful multiplications."""

    def utilisation(self, core: Core) -> float:
        """Useful multiplications over what the array could have done meanwhile."""
        return self.macs / (self.total * core.size**2)

    def followed_by(self, other: Cycles) -> Cycles:
        """Both, one after the other."""
        return Cycles(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


def tiling_of(shape: GemmShape, core: Core, chunk_length: int | None = None) -> Tiling:
    """Cuts K in chunks of a bank (or of `chunk_length`). Raises InvalidInput for what the core cannot take."""
    if min(shape.rows, shape.depth, shape.columns) < 1:
        raise InvalidInput(f"A GEMM of {shape.rows} x {shape.depth} x {shape.columns} is empty.", where="shape")
    length = min(chunk_length or core.bank, shape.depth)
    chunks = -(-shape.depth // length)
    if length > core.bank or (chunks > 1 and length < 2 * core.size):
        raise InvalidInput(
            f"Chunks of {length} steps are not possible on an array of {core.size} with banks of {core.bank} words.",
            mend=f"A chunk has at most {core.bank} steps and, where K needs several, at least {2 * core.size}.",
            where="chunk_length",
        )
    last = shape.depth - (chunks - 1) * length
    slot = max(last, 2 * core.size)
    return Tiling(-(-shape.rows // core.size), -(-shape.columns // core.size), chunks, length, last, slot)


def cycles_without_stalls(shape: GemmShape, core: Core, memory: MemoryPort, chunk_length: int | None = None) -> int:
    """The closed form: what `cycles_of` gives whenever every chunk is loaded in time, and a lower bound else.

    With several chunks the first load is that of the first chunk. For what the core takes as one GEMM.
    """
    tiling = tiling_of(shape, core, chunk_length)
    first_load = memory.burst(core, tiling.chunk_length, with_weights=True)
    period = (tiling.chunks - 1) * tiling.chunk_length + tiling.last_chunk_slot
    return (
        first_load
        + REQUEST
        + CHUNK_READY
        + tiling.tiles * period
        - tiling.last_chunk_slot
        + tiling.last_chunk_length
        + 3 * core.size
        + DRAIN
    )


def cycles_of(shape: GemmShape, core: Core, memory: MemoryPort, chunk_length: int | None = None) -> Cycles:
    """The recurrence, over chunks c in the order (column block, row tile, chunk of K), in cycle numbers:

        request[c] = max(loaded[c-1] + 2, last read[c-2] + 2)       the port is free, and a bank is
        loaded[c]  = request[c] + latency + ceil(length[c] * cycles of a beat)
        go[c]      = max(loaded[c] + 2, go[c-1] + slot[c-1])        loaded, and the array is free
        last read[c] = go[c] + length[c]

    All tiles of a column block after its first are alike, and so are all blocks: the sequence repeats itself soon,
    and is not walked further than that. Exact for any size, in microseconds to milliseconds.

    More output columns than the core holds parameters for are several GEMMs, one after the other.
    """
    most = core.blocks * core.size
    if shape.columns > most:
        head = cycles_of(replace(shape, columns=most), core, memory, chunk_length)
        rest = cycles_of(replace(shape, columns=shape.columns - most), core, memory, chunk_length)
        return head.followed_by(rest)
    tiling = tiling_of(shape, core, chunk_length)
    walk = _Walk(tiling, core, memory)
    start = _State(loaded=REQUEST - NEXT_REQUEST, read_before=-BANK_FREE, read=-BANK_FREE, free=0)
    fill = walk.chunk(start, True, tiling.chunk_length, tiling.chunk_length)[0]
    elapsed, _ = _repeat(walk.block, start, tiling.column_blocks)
    # `elapsed` is go of the last chunk
    total = elapsed + tiling.last_chunk_length + 3 * core.size + DRAIN
    slots = (tiling.chunks - 1) * tiling.chunk_length + tiling.last_chunk_slot
    before_last = tiling.tiles * slots - tiling.last_chunk_slot
    fed = tiling.tiles * shape.depth
    loads = tiling.column_blocks * (1 if tiling.weights_stay else tiling.row_tiles)
    return Cycles(
        total=total,
        fill=fill,
        fed=fed,
        drain_bound=before_last + tiling.last_chunk_length - fed,
        stalled=elapsed - fill - before_last,
        drained=3 * core.size + DRAIN,
        bytes_read=(tiling.tiles + loads) * shape.depth * core.word_bytes,
        bytes_written=tiling.tiles * core.size * core.word_bytes,
        macs=shape.macs,
    )


def scalesim_cycles(shape: GemmShape, size: int) -> int:
    """Compute cycles as SCALE-Sim counts them for an output-stationary array, stall-free: T * (K + 2N - 2) - 1.

    A tile occupies our array for the same wavefront, K + 2N - 2 cycles from its first operand to its last product;
    the core starts the next tile's wavefront behind the one before instead of waiting for its end.
    Source: Samajdar et al., "SCALE-Sim: Systolic CNN Accelerator Simulator", arXiv:1811.02883.
    """
    tiles = -(-shape.rows // size) * -(-shape.columns // size)
    return tiles * (shape.depth + 2 * size - 2) - 1


@dataclass(frozen=True, slots=True)
class _State:
    """Where the recurrence stands after a chunk, in cycles relative to that chunk's `go`."""

    loaded: int
    read_before: int
    """Last read of the chunk before."""
    read: int
    """Last read of this chunk."""
    free: int
    """When the array is free again."""


class _Walk:
    """The recurrence of one GEMM. Each step answers (cycles from `go` to `go`, the new state)."""

    def __init__(self, tiling: Tiling, core: Core, memory: MemoryPort) -> None:
        self._tiling = tiling
        self._burst: Callable[[int, bool], int] = cache(lambda length, weights: memory.burst(core, length, weights))
        self.block: Callable[[_State], tuple[int, _State]] = cache(self._block)

    def chunk(self, state: _State, weights: bool, length: int, slot: int) -> tuple[int, _State]:
        request = max(state.loaded + NEXT_REQUEST, state.read_before + BANK_FREE)
        loaded = request + self._burst(length, weights)
        go = max(loaded + CHUNK_READY, state.free)
        return go, _State(loaded - go, state.read - go, length, slot)

    def _tile(self, state: _State, weights: bool) -> tuple[int, _State]:
        tiling, elapsed = self._tiling, 0
        for _ in range(tiling.chunks - 1):
            step, state = self.chunk(state, weights, tiling.chunk_length, tiling.chunk_length)
            elapsed += step
        step, state = self.chunk(state, weights, tiling.last_chunk_length, tiling.last_chunk_slot)
        return elapsed + step, state

    def _block(self, state: _State) -> tuple[int, _State]:
        elapsed, state = self._tile(state, True)
        again = not self._tiling.weights_stay
        rest, state = _repeat(lambda s: self._tile(s, again), state, self._tiling.row_tiles - 1)
        return elapsed + rest, state


def _repeat(step: Callable[[_State], tuple[int, _State]], state: _State, times: int) -> tuple[int, _State]:
    """`step` so many times; once a state comes back, whole periods are added instead of walked."""
    seen: dict[_State, tuple[int, int]] = {}
    elapsed = done = 0
    while done < times:
        if state in seen:
            when, then = seen[state]
            periods = (times - done) // (done - when)
            elapsed += periods * (elapsed - then)
            done += periods * (done - when)
            seen.clear()
            continue
        seen[state] = (done, elapsed)
        step_cycles, state = step(state)
        elapsed += step_cycles
        done += 1
    return elapsed, state
