"""Replicas under a load: queries go one item at a time to the batcher, which deals them out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from engine.domain.artifact import TaskId
from engine.domain.ports import Batch, Outputs
from engine.executors.spread.batching import Batcher, QueueFull
from engine.executors.spread.executor import SpreadExecutor, of_one_replica
from engine.measure.load import Query
from engine.measure.loading import Server
from engine.requests import OpenRequest

_LOOK_AGAIN_SECONDS = 2e-4


class Serving:
    """A server for the load generator. A full queue holds the next query back, which its latency shows."""

    def __init__(self, executor: SpreadExecutor, request: OpenRequest, batch: Batch) -> None:
        self._layout = request.lowered.layout
        self._share = of_one_replica(request).workload.batch_size
        rows = len(next(iter(batch.values())))
        self._items = [{name: value[i : i + 1] for name, value in batch.items()} for i in range(rows)]
        self._batcher = Batcher(executor, self._layout, self._share, _how(request))
        self._held_back = 0
        self._error: BaseException | None = None
        self.server = Server(self._submit, 1)

    def close(self) -> None:
        """Raises what a replica failed with."""
        self._batcher.close()
        if self._error:
            raise self._error

    def remark(self) -> str:
        """How requests were gathered."""
        sizes = self._batcher.sizes
        mean = sum(sizes) / max(1, len(sizes))
        held = f"; the queue of {self._layout.queue} was full for {self._held_back} of them" if self._held_back else ""
        return (
            f"{sum(sizes)} requests were gathered into {len(sizes)} calls of {mean:.1f} on average, {self._share} at most, by "
            f"{self._layout.replicas} replicas{held}."
        )

    def _submit(self, query: Query, done: Callable[[], None]) -> None:
        left, lock = query.items, threading.Lock()

        def answered(future: Future[Outputs]) -> None:
            nonlocal left
            self._error = self._error or future.exception()
            with lock:
                left -= 1
                last = left == 0
            if last:
                done()

        for offset in range(query.items):
            self._hand_over(self._items[(query.index + offset) % len(self._items)]).add_done_callback(answered)

    def _hand_over(self, item: Batch) -> Future[Outputs]:
        held = False
        while True:
            try:
                return self._batcher.submit(item)
            except QueueFull:
                self._held_back += not held
                held = True
                time.sleep(_LOOK_AGAIN_SECONDS)


def _how(request: OpenRequest) -> Callable[[SpreadExecutor, Batch], Outputs]:
    new_tokens = request.workload.new_tokens

    def generate(replica: SpreadExecutor, batch: Batch) -> Outputs:
        return {"tokens": replica.generate(batch["input_ids"], new_tokens).tokens}

    return generate if request.card.task is TaskId.CAUSAL_LM else SpreadExecutor.infer
