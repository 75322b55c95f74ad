"""A measure child whose every call does a fixed amount of work more: a slowdown of known size.

Run by `start_child(…, module="benchmarks.slowed_child")`; everything of this module is imported
before the sandbox closes. The work is small products that stay in the first cache, so
that they take time and disturb nothing else. How many make up the wanted share is found in
this process after it has opened, by timing calls and products in turn.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from engine import child

SHARE = 0.05
_PAIRS = 60
_PRODUCTS = 100


class Slowed(child.Measure):
    """Opens like any other, then slows the call that turns are made of."""

    def __call__(self, message: dict[str, Any]) -> Any:
        answer = super().__call__(message)
        if "request" in message:
            session = self._session
            assert session is not None
            session._call = slowed(session._call)
        return answer


def slowed(call: Callable[[], Sequence[float] | None]) -> Callable[[], Sequence[float] | None]:
    """`call` and work of 5 % of its typical time."""
    matrix, result = np.full((24, 24), 0.5, np.float32), np.empty((24, 24), np.float32)

    def work(products: int) -> None:
        for _ in range(products):
            np.dot(matrix, matrix, out=result)

    times = [(_seconds(call), _seconds(lambda: work(_PRODUCTS))) for _ in range(_PAIRS)]
    ratio = float(np.median([model / products for model, products in times]))
    products = round(SHARE * ratio * _PRODUCTS)

    def both() -> Sequence[float] | None:
        answer = call()
        work(products)
        return answer

    return both


def _seconds(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


if __name__ == "__main__":
    child.Measure = Slowed  # type: ignore[misc]
    sys.exit(child.main(sys.argv[1], int(sys.argv[2])))
