"""What one worker holds: a whole model, a stretch of layers, or a slice of every layer."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Protocol

import numpy as np

from engine.domain.deployment import Placement
from engine.domain.errors import StageError
from engine.domain.layout import Cut
from engine.domain.ports import Array, Batch, Executor, Generation, Outputs
from engine.requests import OpenRequest
from engine.runtimes.registry import runtime_of

COMPUTE = "compute"
LINK = "link"


@dataclass(frozen=True, slots=True)
class Place:
    """Which rank this is and where the ranks of its group meet (torch.distributed's master).

    port 0: torchrun has said it in the environment. device: which of the host's accelerators is this worker's.
    """

    rank: int
    ranks: int
    address: str = "127.0.0.1"
    port: int = 0
    device: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """What a rank did from `begin` to `end`, in seconds of the host's monotonic clock.

    item: the microbatch, or the collective's number; sent: bytes handed to other ranks.
    """

    kind: str
    item: int
    begin: float
    end: float
    sent: int = 0

    def earlier(self, seconds: float) -> Event:
        """By a clock that is so far behind."""
        return replace(self, begin=self.begin - seconds, end=self.end - seconds)

    def as_list(self) -> list[Any]:
        return [self.kind, self.item, self.begin, self.end, self.sent]


class Recorder:
    """The events of the latest call."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def clear(self) -> None:
        self.events = []

    def sent(self, item: int, size: int) -> None:
        """Bytes that went out without being waited for."""
        now = time.monotonic()
        self.events.append(Event(LINK, item, now, now, size))

    @contextmanager
    def during(self, kind: str, item: int, sent: int = 0) -> Iterator[None]:
        begin = time.monotonic()
        yield
        self.events.append(Event(kind, item, begin, time.monotonic(), sent))


class Part(Protocol):
    """A rank's share. All ranks of a group are asked the same; who has the outputs returns them, others None."""

    facts: dict[str, Any]

    def infer(self, batch: Batch) -> Outputs | None: ...

    def generate(self, input_ids: Array, new_tokens: int, began: float) -> Generation | None:
        """began: monotonic clock of the host when the call began, from which token times count."""
        ...

    def trace(self) -> list[Event]: ...


class WholePart:
    """A replica in one process: any runtime's executor."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._recorder = Recorder()
        self.facts: dict[str, Any] = {}

    def infer(self, batch: Batch) -> Outputs:
        self._recorder.clear()
        with self._recorder.during(COMPUTE, 0):
            return self._executor.infer(batch)

    def generate(self, input_ids: Array, new_tokens: int, began: float) -> Generation:
        self._recorder.clear()
        before = time.monotonic() - began
        with self._recorder.during(COMPUTE, 0):
            made = self._executor.generate(input_ids, new_tokens)
        return replace(made, token_times=tuple(before + t for t in made.token_times))

    def trace(self) -> list[Event]:
        return self._recorder.events


def open_part(request: OpenRequest, place: Place) -> Part:
    """Load what this rank needs and meet the others. Raises StageError."""
    layout = request.lowered.layout
    device = take_device(request.lowered.placement, place)
    if place.ranks == 1:
        runtime = runtime_of(request.lowered.runtime)
        return WholePart(runtime.open(request.lowered, request.card, request.workload, request.threads))
    meet(place, layout.timeout, device)
    if layout.cut is Cut.TENSOR:
        from engine.executors.spread.tensor import TensorPart

        return TensorPart(request, place)
    if request.card.task.value == "causal_lm":
        from engine.executors.spread.pipeline_lm import PipelineLMPart

        return PipelineLMPart(request, place)
    from engine.executors.spread.pipeline import PipelinePart

    return PipelinePart(request, place)


def example(request: OpenRequest, rows: int) -> Batch:
    """Inputs of the workload's shape that say nothing: for tracing and compiling before anybody waits."""
    workload, card = request.workload, request.card
    side = workload.image_size or card.image_size or 224
    tokens, pixels = (rows, workload.sequence_length), (rows, card.num_channels or 3, side, side)
    # an array of its own for each: a trace takes what is given twice for one input
    return {
        spec.name: np.zeros(pixels, np.float32) if spec.name == "pixel_values" else np.ones(tokens, np.int64) for spec in card.inputs
    }


def take_device(placement: Placement, place: Place) -> str:
    """A device for each worker of the host: the kind, with this worker's made the current one. Raises StageError."""
    if placement.is_cpu:
        return "cpu"
    import torch

    count = torch.accelerator.device_count()
    if place.device >= count:
        raise StageError(
            f"Worker {place.device + 1} has no device of its own: this host has {count}.",
            mend=f"Choose at most {count} workers on it." if count > 1 else "Leave out gpu(), or the workers.",
        )
    torch.accelerator.set_device_index(place.device)
    return placement.device


def meet(place: Place, timeout: float, device: str = "cpu") -> None:
    """Join the group, once in a process; its tensors lie on devices of that kind. Raises StageError when the others do not come or the port is taken.

    Never left and joined again: torchrun keeps one store for all of a launch, and a second group of the same name
    would find the first one's addresses in it.
    """
    import torch.distributed as dist

    if dist.is_initialized():
        return
    where = f"tcp://{place.address}:{place.port}" if place.port else "env://"
    try:
        dist.init_process_group(
            dist.get_default_backend_for_device(device), init_method=where, rank=place.rank, world_size=place.ranks, timeout=timedelta(seconds=timeout)
        )
    except (RuntimeError, ValueError) as error:
        taken = "EADDRINUSE" in str(error) or "address already in use" in str(error).lower()
        what = f"Port {place.port or os.environ['MASTER_PORT']} is taken." if taken else f"The {place.ranks} ranks did not meet within {timeout:g} s."
        raise StageError(
            what, mend="Repeat the run, or choose another port." if taken else "Check that every rank was started and reaches the first one.",
            where=where, detail=str(error),
        ) from error  # fmt: skip
