"""A causal LM against the length of its context: memory and latency (child side)."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from engine.domain.artifact import ModelCard
from engine.domain.evidence import ContextPoint
from engine.domain.ports import Array, Executor
from engine.domain.workload import Workload
from engine.measure.memory import peak_while

_SHORTEST = 32
_LEAST_LONGEST = 1024
_TIMES = 4
"""The curve goes to so many times the workload's own context."""
_TOKENS = 4
_SECONDS = 5.0
"""A call that lasts longer is the last one."""


def context_curve(executor: Executor, card: ModelCard, workload: Workload, prompt: Array) -> tuple[ContextPoint, ...]:
    """Points at doubling contexts, each after one call of that length that is not counted.

    `prompt`: token ids (batch, any length), repeated to the length of each point.
    """
    points = []
    for context in contexts(card, workload):
        length = context - _TOKENS
        ids = np.resize(prompt, (len(prompt), length)).astype(prompt.dtype)
        executor.generate(ids, _TOKENS)
        times: tuple[float, ...] = ()

        def generate(ids: Array = ids) -> None:
            nonlocal times
            times = executor.generate(ids, _TOKENS).token_times

        begin = time.perf_counter()
        peak = peak_while(generate)
        points.append(
            ContextPoint(
                context=context, memory_bytes=peak, first_token_ms=times[0] * 1e3,
                token_ms=(times[-1] - times[0]) / (len(times) - 1) * 1e3,
            )
        )  # fmt: skip
        if time.perf_counter() - begin > _SECONDS:
            break
    return tuple(points)


def contexts(card: ModelCard, workload: Workload) -> Iterator[int]:
    """32, 64, 128 … to four times the workload's own context, at least 1,024, at most what the model takes."""
    own = workload.sequence_length + workload.new_tokens
    longest = max(_TIMES * own, _LEAST_LONGEST)
    if card.max_positions:
        longest = min(longest, card.max_positions)
    context = _SHORTEST
    while context <= longest:
        yield context
        context *= 2
