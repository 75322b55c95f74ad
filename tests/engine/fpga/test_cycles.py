"""The recurrence, by itself: against a plain walk over all chunks, and against the closed form."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.domain.errors import InvalidInput
from engine.fpga.cycles import Core, GemmShape, MemoryPort, cycles_of, cycles_without_stalls, scalesim_cycles, tiling_of

shapes = st.builds(GemmShape, st.integers(1, 90), st.integers(1, 300), st.integers(1, 90))
memories = st.builds(MemoryPort, st.fractions(Fraction(1, 2), Fraction(40), max_denominator=12), st.integers(0, 100))


def walked(shape: GemmShape, core: Core, memory: MemoryPort) -> int:
    """Every chunk, one after the other."""
    tiling = tiling_of(shape, core)
    loaded, free, go, reads = 0, 0, 0, [0, 0]
    for _ in range(tiling.column_blocks):
        for tile in range(tiling.row_tiles):
            for chunk in range(tiling.chunks):
                last = chunk == tiling.chunks - 1
                length = tiling.last_chunk_length if last else tiling.chunk_length
                request = max(loaded + 2, reads[-2] + 2)
                loaded = request + memory.burst(core, length, with_weights=tile == 0 or tiling.chunks > 1)
                go = max(loaded + 2, free)
                free = go + (tiling.last_chunk_slot if last else length)
                reads.append(go + length)
    return reads[-1] + 3 * core.size + 21


@settings(deadline=None, max_examples=60)
@given(shapes, st.sampled_from([2, 4, 8]), st.sampled_from([32, 100, 1024]), memories)
def test_skipping_what_repeats_changes_nothing(shape: GemmShape, size: int, bank: int, memory: MemoryPort) -> None:
    core = Core(size=size, bank=bank)
    found = cycles_of(shape, core, memory)
    assert found.total == walked(shape, core, memory)
    assert found.total == found.fill + found.fed + found.drain_bound + found.stalled + found.drained
    assert found.stalled >= 0
    assert found.total >= cycles_without_stalls(shape, core, memory)


@settings(deadline=None, max_examples=60)
@given(shapes)
def test_with_ample_memory_the_closed_form_holds(shape: GemmShape) -> None:
    core, memory = Core(size=8), MemoryPort(Fraction(16), 0)
    # a tile's load takes K cycles and 6 more, its slot at least 2N = 16
    if shape.depth <= 10:
        found = cycles_of(shape, core, memory)
        tiles = -(-shape.rows // 8) * -(-shape.columns // 8)
        assert found.stalled == 0
        assert found.total == shape.depth + (tiles - 1) * 16 + shape.depth + 3 * 8 + 25


def test_a_starved_core_runs_at_the_pace_of_its_memory() -> None:
    shape, core, memory = GemmShape(512, 512, 512), Core(size=8), MemoryPort(Fraction(1), 0)
    found = cycles_of(shape, core, memory)
    assert found.bytes_read == 512 * 512 * (64 + 1)
    assert found.total == pytest.approx(float(found.bytes_read), rel=0.02)


def test_more_channels_than_the_core_holds_are_several_gemms() -> None:
    core, memory = Core(size=4, blocks=2), MemoryPort(Fraction(8))
    parts = [cycles_of(GemmShape(9, 33, columns), core, memory).total for columns in (8, 8, 3)]
    assert cycles_of(GemmShape(9, 33, 19), core, memory).total == sum(parts)


def test_large_layers_take_no_time() -> None:
    """A GEMM of a large language model: 100 million cycles, not walked chunk by chunk."""
    found = cycles_of(GemmShape(4096, 4096, 11008), Core(size=16, blocks=4096), MemoryPort(Fraction(7), 33))
    assert found.total > 700_000_000


def test_what_the_core_cannot_take_is_refused() -> None:
    with pytest.raises(InvalidInput, match="empty"):
        tiling_of(GemmShape(0, 1, 1), Core())
    with pytest.raises(InvalidInput, match="Chunks of 10"):
        tiling_of(GemmShape(1, 100, 1), Core(size=8), chunk_length=10)


def test_the_wavefront_is_scalesims() -> None:
    """SCALE-Sim's figure for one tile is the time from the first operand to the last product, less one."""
    assert scalesim_cycles(GemmShape(8, 64, 8), 8) == 64 + 2 * 8 - 2 - 1
