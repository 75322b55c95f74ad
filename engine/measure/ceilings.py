"""What a host's cores and memory give at most (child side; loads torch).

A ceiling is the best that was reached, not the median: nothing that disturbs can make
a matrix product faster than the machine is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch

from engine.domain.calibration import Bandwidth, Peak, Precision
from engine.measure.clock import take_turn
from engine.requests import CeilingsRequest, CeilingsResult, RoundResult

Clock = Callable[[], float]
_SIDE = 1024
"""Of the square matrices: 4 MiB each in fp32, blocked well by every library."""
_IMAGES, _CHANNELS, _PIXELS = 4, 256, 28
_CONVOLUTION = 2 * _IMAGES * _PIXELS**2 * 9 * _CHANNELS**2
"""Operations of a 3 × 3 convolution, computed directly (torch asks oneDNN for no other algorithm)."""
_FEWEST = 5
_DTYPES = {Precision.FP32: torch.float32, Precision.BF16: torch.bfloat16}
_READ_BYTES = 512 * 2**20
_ROW = 8192


def ceilings(request: CeilingsRequest, clock: Clock = time.perf_counter) -> CeilingsResult:
    """Peaks for each precision and number of threads, and the bandwidth of reading.

    clock: seconds; a thread's processor time measures one thread among neighbours.
    """
    peaks: list[Peak] = []
    bandwidths: list[Bandwidth] = []
    with torch.inference_mode():
        for threads in request.threads:
            with _threads(threads):
                for precision in request.precisions:
                    calls = [(2 * _SIDE**3, _product(precision))]
                    calls += [(_CONVOLUTION, _convolution(precision))] if precision is not Precision.INT8 else []
                    best = max(operations / fastest(call, request.seconds / len(calls), clock) for operations, call in calls)
                    peaks.append(Peak(precision, threads, best))
                bandwidths.append(Bandwidth(threads, _READ_BYTES / _fastest_read(request.seconds, clock)))
    return CeilingsResult(tuple(peaks), tuple(bandwidths))


class FixedNetwork:
    """A small network of fixed weights, timed as a model is: what an A/A of the host compares.

    Two layers of a transformer encoder, 32 tokens: some milliseconds a call.
    """

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        layer = torch.nn.TransformerEncoderLayer(256, 4, 1024, batch_first=True)
        self._network = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
        self._input = torch.randn(1, 32, 256)
        self._typical = float(np.median([self._seconds() for _ in range(20)])) * 1e3

    def round(self, seconds: float) -> RoundResult:
        """One turn: at least `seconds` of calls."""
        return RoundResult(take_turn(self._call, seconds, typical=self._typical))

    def _call(self) -> None:
        with torch.inference_mode():
            self._network(self._input)

    def _seconds(self) -> float:
        begin = time.perf_counter()
        self._call()
        return time.perf_counter() - begin


def _product(precision: Precision) -> Callable[[], object]:
    if precision is Precision.INT8:
        left, right = (torch.randint(-128, 127, (_SIDE, _SIDE), dtype=torch.int8) for _ in range(2))
        return lambda: torch._int_mm(left, right)
    first, second = (torch.randn(_SIDE, _SIDE).to(_DTYPES[precision]) for _ in range(2))
    return lambda: first @ second


def _convolution(precision: Precision) -> Callable[[], object]:
    """The same arithmetic by oneDNN: on AMD's cores with AVX-512 twice as fast as the fp32 product, which MKL computes."""
    images = torch.randn(_IMAGES, _CHANNELS, _PIXELS, _PIXELS).to(_DTYPES[precision], memory_format=torch.channels_last)
    weights = torch.randn(_CHANNELS, _CHANNELS, 3, 3).to(_DTYPES[precision], memory_format=torch.channels_last)
    return lambda: torch.conv2d(images, weights, padding=1)


def _fastest_read(seconds: float, clock: Clock) -> float:
    """A sum and a matrix-vector product both only read; the better of them is the ceiling."""
    memory = torch.ones(_READ_BYTES // 4 // _ROW, _ROW)
    vector = torch.ones(_ROW)
    return min(fastest(read, seconds / 2, clock) for read in (memory.sum, lambda: memory @ vector))


def fastest(call: Callable[[], object], seconds: float, clock: Clock) -> float:
    """Seconds of the fastest of the calls that fit into `seconds`; five at least."""
    call()
    taken: list[float] = []
    end = clock() + seconds
    while len(taken) < _FEWEST or clock() < end:
        begin = clock()
        call()
        taken.append(clock() - begin)
    return min(taken)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
