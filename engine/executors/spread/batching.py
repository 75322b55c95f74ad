"""Dynamic batching: single requests are gathered into calls of whichever replica is free.

    submit ─▶ bounded queue ─▶ a thread a replica: take one, wait a little for more, call, deal out
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from engine.domain.errors import SpeedrailError, StageError
from engine.domain.layout import Layout
from engine.domain.ports import Array, Batch, Outputs
from engine.executors.spread.executor import SpreadExecutor

_ENDED = None
Answer = Callable[[SpreadExecutor, Batch], Outputs]
"""How a replica answers a call: one row of each output for each row of the batch."""


class QueueFull(StageError):
    """So many requests wait already that one more is turned away."""


@dataclass(slots=True)
class _Request:
    item: Batch
    answer: Future[Outputs] = field(default_factory=Future)


class Batcher:
    """Requests of one row each. `sizes` are the rows of the calls that were made, in order.

    A replica's call has the shape that it was made for: missing rows are filled up, which costs
    their arithmetic, so a call with few requests is as slow as a full one.
    """

    def __init__(self, executor: SpreadExecutor, layout: Layout, share: int, answer: Answer = SpreadExecutor.infer) -> None:
        self.sizes: list[int] = []
        self._how = answer
        self._most = min(layout.max_batch or share, share)
        self._wait = layout.max_wait_ms / 1e3
        self._share = share
        self._waiting: queue.Queue[_Request | None] = queue.Queue(layout.queue)
        self._threads = [
            threading.Thread(target=self._serve, args=(SpreadExecutor([group], share, {}),), name=f"replica-{i}", daemon=True)
            for i, group in enumerate(executor.groups)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, item: Batch) -> Future[Outputs]:
        """The answer to come, of one row. Raises QueueFull."""
        request = _Request(item)
        try:
            self._waiting.put_nowait(request)
        except queue.Full:
            raise QueueFull(
                f"{self._waiting.maxsize} requests wait already.", mend="Ask for less at a time, or choose a longer queue."
            ) from None
        return request.answer

    def close(self) -> None:
        """What waits is still answered."""
        for _ in self._threads:
            self._waiting.put(_ENDED)
        for thread in self._threads:
            thread.join()

    def _serve(self, replica: SpreadExecutor) -> None:
        while (first := self._waiting.get()) is not _ENDED:
            requests, ended = self._gathered(first)
            try:
                self._answer(replica, requests)
            except SpeedrailError as error:
                for request in requests:
                    request.answer.set_exception(error)
            if ended:
                return

    def _gathered(self, first: _Request) -> tuple[list[_Request], bool]:
        """More that come within the wait, up to a call's size; and whether the end was among them."""
        requests, deadline = [first], time.monotonic() + self._wait
        while len(requests) < self._most:
            try:
                request = self._waiting.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            if request is _ENDED:
                return requests, True
            requests.append(request)
        return requests, False

    def _answer(self, replica: SpreadExecutor, requests: Sequence[_Request]) -> None:
        self.sizes.append(len(requests))
        batch: dict[str, Array] = {
            name: np.concatenate([request.item[name] for request in requests]) for name in requests[0].item
        }
        outputs = self._how(replica, batch)
        for row, request in enumerate(requests):
            request.answer.set_result({name: value[row : row + 1] for name, value in outputs.items()})
