"""Tier 3: the core itself, cycle by cycle, with a memory of set bandwidth and latency behind its port.

`rtl/` is built by `build`, loaded into this process and driven by `testbench.cpp`, which runs a whole GEMM a call.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from engine.domain.errors import InvalidInput, ToolError
from engine.fpga.build import Effort, build
from engine.fpga.cycles import Core, GemmShape, MemoryPort, tiling_of
from engine.fpga.fixed_point import Integers, Requantization, limits
from engine.fpga.packing import pack_activations, pack_parameters, pack_weights, unpack_results, word_bytes

_MOST_CYCLES = 10_000_000_000


class _Job(ctypes.Structure):
    """Mirrors `struct Job` of testbench.cpp."""

    _fields_ = (
        *((name, ctypes.c_uint32) for name in (
            "row_tiles", "column_blocks", "chunks", "chunk_length", "last_chunk_length", "last_chunk_slot",
            "weights_stay", "zero_point", "relu", "latency",
            "beat_cycles", "beat_cycles_of", "beat_with_weights_cycles", "beat_with_weights_cycles_of",
            "word_bytes", "lanes",
        )),
        *((name, ctypes.c_void_p) for name in ("activations", "weights", "parameters", "results")),
        ("result_words", ctypes.c_uint64),
        ("most_cycles", ctypes.c_uint64),
    )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Simulated:
    """What the core answered and how long it took."""

    outputs: Integers
    """(M, O)."""
    cycles: int


class Simulator:
    """One core, ready for GEMMs; a context manager. Not for several threads at once.

    Raises ToolError when it cannot be built here (no g++, no Verilator).
    """

    def __init__(self, core: Core, home: Path, *, effort: Effort = Effort.FAST, trace_into: Path | None = None) -> None:
        self.core = core
        self._library = ctypes.CDLL(str(build(core, home, effort=effort, trace=trace_into is not None)))
        self._library.bench_new.restype = ctypes.c_void_p
        self._library.bench_delete.argtypes = [ctypes.c_void_p]
        self._library.bench_trace.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        self._library.bench_run.argtypes = [ctypes.c_void_p, ctypes.POINTER(_Job), ctypes.POINTER(ctypes.c_uint64)]
        self._bench: int | None = self._library.bench_new()
        if trace_into is not None:
            self._library.bench_trace(self._bench, str(trace_into).encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bench is not None:
            self._library.bench_delete(self._bench)
            self._bench = None

    def run(
        self,
        activations: Integers,
        weights: Integers,
        requantization: Requantization,
        memory: MemoryPort,
        chunk_length: int | None = None,
    ) -> Simulated:
        """One GEMM (M, K) x (K, O). Raises InvalidInput for what the core cannot take, ToolError if it never ends."""
        core = self.core
        (rows, depth), columns = activations.shape, weights.shape[1]
        _check(activations, weights, requantization, core)
        tiling = tiling_of(GemmShape(rows, depth, columns), core, chunk_length)
        if tiling.column_blocks > core.blocks:
            raise InvalidInput(f"More than {core.blocks * core.size} output channels do not fit the core at once.")
        packed = pack_activations(activations, core.size, core.width), pack_weights(weights, core.size, core.width)
        parameters = pack_parameters(requantization, core.size)
        results = np.zeros((tiling.tiles * core.size, word_bytes(core.size, core.width)), np.uint8)
        beat, beat_with_weights = memory.beat(core, False), memory.beat(core, True)
        job = _Job(
            tiling.row_tiles, tiling.column_blocks, tiling.chunks, tiling.chunk_length, tiling.last_chunk_length,
            tiling.last_chunk_slot, tiling.weights_stay, requantization.zero_point & ((1 << core.width) - 1),
            requantization.relu, memory.latency, beat.numerator, beat.denominator, beat_with_weights.numerator,
            beat_with_weights.denominator, word_bytes(core.size, core.width), core.size,
            packed[0].ctypes.data, packed[1].ctypes.data, parameters.ctypes.data, results.ctypes.data,
            len(results), _MOST_CYCLES,
        )  # fmt: skip
        cycles = ctypes.c_uint64()
        outcome = self._library.bench_run(self._bench, ctypes.byref(job), ctypes.byref(cycles))
        if outcome:
            words = {1: "never ended", 2: "gave the wrong number of results"}[outcome]
            raise ToolError(f"The simulated core {words}.", where=f"{rows} x {depth} x {columns}")
        return Simulated(unpack_results(results, rows, columns, core.size, core.width), cycles.value)


def _check(activations: Integers, weights: Integers, requantization: Requantization, core: Core) -> None:
    low, high = limits(core.width)
    for name, operand in (("activations", activations), ("weights", weights)):
        if operand.size and (operand.min() < low or operand.max() > high):
            raise InvalidInput(f"The {name} do not fit {core.width} bits.", where=name)
    if activations.shape[1] != weights.shape[0] or requantization.bias.shape != (weights.shape[1],):
        raise InvalidInput("Activations, weights and channel parameters do not fit each other.", where="gemm")
    if requantization.width != core.width:
        raise InvalidInput(f"The core answers in {core.width} bits, not {requantization.width}.", where="width")
