"""The Executor of a spread deployment: replicas side by side, each a group of ranks. Never loads torch."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from engine.domain.codec import as_data
from engine.domain.layout import Layout
from engine.domain.ports import Array, Batch, Generation, Outputs
from engine.executors.spread.distant import handed_over
from engine.executors.spread.group import Group
from engine.executors.spread.part import Event, Place
from engine.executors.spread.peers import Peer, Starter
from engine.host import usable_cores
from engine.requests import OpenRequest

OPEN_SECONDS = 1200.0
"""Loading, tracing and compiling a model takes longer than any call."""


class SpreadExecutor:
    """A batch is shared out over the replicas in stretches of rows; the answers come back in order.

    Batches have the shape that the replicas were made for, times their number (the last share
    is filled up and the filling dropped).
    """

    def __init__(self, groups: Sequence[Group], share: int, facts: dict[str, Any]) -> None:
        self.groups = tuple(groups)
        self.facts = facts
        """What the first rank of the first replica says of itself, and what all agree on."""
        self._share = share

    def infer(self, batch: Batch) -> Outputs:
        shares = self._shares(batch)
        for group, share in shares:
            group.begin({"do": "infer"}, share)
        answers = [self._arrays(group, "infer") for group, _ in shares]
        rows = len(next(iter(batch.values())))
        return {name: np.concatenate([a[name] for a in answers])[:rows] for name in answers[0]}

    def generate(self, input_ids: Array, new_tokens: int) -> Generation:
        shares = self._shares({"input_ids": input_ids})
        message = {"do": "generate", "new_tokens": new_tokens, "began": time.monotonic()}
        for group, share in shares:
            group.begin(message, share)
        tokens, times = [], []
        for group, _ in shares:
            answer, arrays = next(a for a in group.finish() if a[1])
            tokens.append(arrays["tokens"])
            times.append(answer["times"])
        # a token of the call is there when the last replica has it
        return Generation(np.concatenate(tokens)[: len(input_ids)], tuple(map(max, zip(*times, strict=True))))

    def trace(self) -> list[list[Event]]:
        """Events of the latest call, for each rank of each replica in turn."""
        return [
            [Event(*event).earlier(peer.ahead) for event in answer["events"]]
            for group in self.groups for peer, (answer, _) in zip(group.peers, group.ask({"do": "trace"}), strict=True)
        ]  # fmt: skip

    def bytes_elsewhere(self) -> int:
        """The most memory of workers outside of the driver's sandbox, where nobody else counts it."""
        return sum(peer.memory().elsewhere for group in self.groups for peer in group.peers)

    def close(self) -> None:
        for group in self.groups:
            group.end()

    def _shares(self, batch: Batch) -> list[tuple[Group, Batch]]:
        """Rows for each replica that gets any; short shares are filled with their own rows."""
        rows = len(next(iter(batch.values())))
        count = min(len(self.groups), math.ceil(rows / self._share))
        return [
            (group, {name: _filled(value[i * self._share :][: self._share], self._share) for name, value in batch.items()})
            for i, group in enumerate(self.groups[:count])
        ]

    @staticmethod
    def _arrays(group: Group, what: str) -> dict[str, Array]:
        return next(arrays for _, arrays in group.finish() if arrays)


def open_spread(request: OpenRequest) -> SpreadExecutor:
    """Start the workers, or take those on several hosts, and let them open their parts. Raises StageError; then no worker is left."""
    layout = request.lowered.layout
    peers = handed_over() if layout.hosts > 1 else Starter(threads_of_worker(request)).start(layout.workers)
    return spread_over(peers, request)


def spread_over(peers: Sequence[Peer], request: OpenRequest) -> SpreadExecutor:
    """The same over workers that are there; what they had opened before is forgotten."""
    layout = request.lowered.layout
    inner = replace(of_one_replica(request), threads=threads_of_worker(request))
    groups = [
        Group([replace(p, rank=p.rank - first) for p in peers[first : first + layout.degree]], layout.timeout)
        for first in range(0, layout.workers, layout.degree)
    ]
    try:
        facts = _open_all(groups, inner, layout)
    except BaseException:
        for group in groups:
            group.end()
        raise
    return SpreadExecutor(groups, inner.workload.batch_size, facts)


def threads_of_worker(request: OpenRequest) -> int:
    """The run's threads, shared out: all workers of a host together take what one process would."""
    return max(1, (request.threads or usable_cores()) // request.lowered.layout.placed.each)


def of_one_replica(request: OpenRequest) -> OpenRequest:
    """The same for one replica and its share of the batch."""
    layout, workload = request.lowered.layout, request.workload
    return replace(
        request,
        lowered=replace(request.lowered, layout=replace(layout, replicas=1)),
        workload=replace(workload, batch_size=math.ceil(workload.batch_size / layout.replicas)),
    )


def _open_all(groups: Sequence[Group], request: OpenRequest, layout: Layout) -> dict[str, Any]:
    for group in groups:
        first = group.peers[0]
        for peer in group.peers:
            place = Place(peer.rank, layout.degree, first.address, first.port, peer.device)
            message = {"do": "open", "request": as_data(request), "place": as_data(place)}
            Group([peer], layout.timeout).begin(message)
        group.expect(OPEN_SECONDS)
    said = [answer["facts"] for group in groups for answer, _ in group.finish()]
    return dict(said[0])


def _filled(rows: Array, size: int) -> Array:
    """As many rows as the replica was made for; the filling repeats the first."""
    missing = size - len(rows)
    return np.concatenate([rows, np.repeat(rows[:1], missing, axis=0)]) if missing > 0 else rows
