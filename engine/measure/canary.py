"""A fixed piece of arithmetic whose latency tells whether the machine changed its pace."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

import numpy as np

_SIZE = 112
_REPEATS = 9


class Canary:
    """Times a matmul on as many threads as the workload uses, about 20 ms in all.

    einsum's own loops, not BLAS: one thread a call, no spinning threads left behind that
    would disturb what is timed next. A context: it holds a thread pool.
    """

    def __init__(self, threads: int) -> None:
        rng = np.random.default_rng(0)
        self._left, self._right = rng.random((2, _SIZE, _SIZE), dtype=np.float32)
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, "canary")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._pool.shutdown()

    def sing(self) -> float:
        """Seconds of the fastest of several repeats: a passing hiccup is no drift, a slower clock is."""
        return min(self._once() for _ in range(_REPEATS))

    def _once(self) -> float:
        begin = time.perf_counter()
        for done in [self._pool.submit(self._matmul) for _ in range(self._threads)]:
            done.result()
        return time.perf_counter() - begin

    def _matmul(self) -> None:
        np.einsum("ij,jk->ik", self._left, self._right)


def drift(songs: Iterable[float]) -> float:
    """Largest relative difference between canary latencies: 0.05 is 5 %."""
    heard = list(songs)
    return max(heard) / min(heard) - 1
