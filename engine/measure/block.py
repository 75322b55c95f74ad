"""A block: the baseline and its candidates measured together, turn by turn (worker side).

Each is opened in a child of its own and parked; the worker passes the turn. Timings
interleave although processes are separate, and whatever slows the machine for a while
slows all of them alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import psutil

from engine.domain.artifact import TaskId
from engine.domain.codec import as_data, from_data
from engine.domain.errors import ChildError, Problem, SpeedrailError
from engine.domain.evidence import Examined
from engine.domain.experiment import Progress, Round
from engine.domain.load import LoadResult, Pattern
from engine.domain.metrics import ENERGY, Measurement
from engine.host import usable_cores
from engine.measure.canary import MOST_DRIFT, Canary, drift
from engine.measure.energy import Meter
from engine.requests import AnswersResult, OpenRequest, OpenResult, RoundResult
from engine.sandbox import RANKS, Child, Limits

MEMORY_SHARE = 0.6
"""Of the free memory, for all children of a block together."""
_OPEN_SECONDS = 1800.0
_ANSWER_SECONDS = 3600.0
_EXAMINE_SECONDS = 600.0
_ROUNDS_SHARE = 0.8
"""Of a block's time, roughly; scoring has the rest."""
_PROFILE_SHARE = 0.95


class Start(Protocol):
    """`engine.sandbox.start_child`, or a leash's."""

    def __call__(
        self, kind: str, *, readable: list[Path], writable: list[Path], limits: Limits, log: Path, threads: int
    ) -> Child: ...


@dataclass(frozen=True, slots=True)
class Candidate:
    """A run that takes part. `request.scratch_dir` exists and is its own; `readable` is what it opens."""

    run_id: str
    request: OpenRequest
    readable: tuple[Path, ...]
    log: Path


@dataclass(frozen=True, slots=True)
class Measured:
    """What a block learned of one run besides its rounds.

    items_per_call: what throughput counts; a causal LM's new tokens, else the batch.
    `examined` None: it could not be examined, for the reason in `unexamined`.
    """

    run_id: str
    opened: OpenResult
    quality: tuple[Measurement, ...]
    peak_memory_bytes: int
    items_per_call: int
    sandbox: str
    examined: Examined | None = None
    unexamined: str = ""
    load: LoadResult | None = None


class Block:
    """Baseline first. A context: on leaving, no child is left.

    `failures` says of each candidate that dropped out why; `postponed` are those for
    whom there was not memory enough and who need a block of their own. The baseline's
    failure is everybody's and is raised. `tick` is called a few times a second and may
    raise to end it all. `report` tells how a run gets on. With a `meter` every round has a
    sample of energy.
    """

    def __init__(
        self,
        index: int,
        candidates: Sequence[Candidate],
        *,
        start: Start,
        limits: Limits,
        tick: Callable[[], None] = lambda: None,
        report: Callable[[str, Progress], None] = lambda run_id, progress: None,
        meter: Meter | None = None,
    ) -> None:
        self.index = index
        self.failures: dict[str, Problem] = {}
        self.postponed: tuple[Candidate, ...] = ()
        self.repeated = 0
        self.drifted = 0
        self._candidates = tuple(candidates)
        self._baseline = candidates[0]
        self._workload = candidates[0].request.workload
        self._start = start
        self._limits = limits
        self._tick = tick
        self._report = report
        self._meter = meter
        self._children: dict[str, Child] = {}
        self._opened: dict[str, OpenResult] = {}
        self._exits = ExitStack()
        self._canary = Canary(self._workload.threads or usable_cores())

    def __enter__(self) -> Self:
        """Opens baseline and candidates, one after the other."""
        self._exits.enter_context(self._canary)
        try:
            self._open_all()
        except BaseException:
            self._exits.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._exits.close()

    def rounds(self, count: int, first: int = 0) -> Iterator[list[Round]]:
        """`count` rounds, numbered from `first`, each with one turn of every living run.

        A round during which the canary drifted is void and repeated once.
        """
        began = time.monotonic()
        before = self._canary.sing()
        for index in range(first, first + count):
            turns = self._round(index)
            after = self._canary.sing()
            if drift((before, after)) > MOST_DRIFT:
                self.repeated += 1
                before, turns = after, self._round(index)
                after = self._canary.sing()
                self.drifted += drift((before, after)) > MOST_DRIFT
            before = after
            yield turns
            self._tell(index - first + 1, count, time.monotonic() - began)

    def results(self) -> Iterator[Measured]:
        """Peak memory so far, then the answers and their scores: the baseline first, then all others."""
        peaks = {run_id: child.peak_pss_bytes() for run_id, child in self._children.items()}
        reference: str | None = None
        for candidate in list(self._alive()):
            self._report(candidate.run_id, Progress("scoring quality", _ROUNDS_SHARE))
            data = self._ask(candidate, {"answers": reference}, _ANSWER_SECONDS)
            if data is None:
                continue
            answers = from_data(AnswersResult, data)
            if candidate is self._baseline:
                reference = answers.answers_file
            run_id = candidate.run_id
            load = self._load(candidate)
            if run_id not in self._children:
                continue
            examined, unexamined = self._examine(candidate)
            yield Measured(
                run_id, self._opened[run_id], answers.quality, peaks[run_id], _items_per_call(candidate.request),
                self._children[run_id].level, examined, unexamined, load,
            )  # fmt: skip

    def remarks(self) -> tuple[str, ...]:
        """What a reader of this block's numbers should know."""
        if not self.drifted:
            return ()
        return (
            f"The machine's own pace changed by more than {MOST_DRIFT:.0%} during {self.drifted} "
            f"rounds, also when they were repeated; intervals are wider for it.",
        )

    def _open_all(self) -> None:
        free = int(psutil.virtual_memory().available * MEMORY_SHARE)
        largest = 0
        for position, candidate in enumerate(self._candidates):
            used = sum(child.peak_pss_bytes() for child in self._children.values())
            if position > 1 and used + largest > free:
                self.postponed = self._candidates[position:]
                return
            self._report(candidate.run_id, Progress("opening", 0.0))
            self._open(candidate)
            if child := self._children.get(candidate.run_id):
                largest = max(largest, child.peak_pss_bytes())

    def _open(self, candidate: Candidate) -> None:
        scratch = Path(candidate.request.scratch_dir)
        try:
            child = self._start(
                "measure" + RANKS * candidate.request.lowered.layout.is_spread,
                readable=[*candidate.readable, Path(self._baseline.request.scratch_dir)],
                writable=[scratch],
                limits=self._limits,
                log=candidate.log,
                threads=candidate.request.threads,
            )
        except ChildError as error:
            self._drop(candidate, error)
            return
        self._exits.callback(child.kill)
        self._children[candidate.run_id] = child
        opened = self._ask(candidate, {"request": as_data(candidate.request)}, _OPEN_SECONDS)
        if opened is not None:
            self._opened[candidate.run_id] = from_data(OpenResult, opened)

    def _round(self, index: int) -> list[Round]:
        """One turn each; the order is turned about every round and moved on every second."""
        alive = list(self._alive())
        start = index // 2 % len(alive)
        order = [*alive[start:], *alive[:start]]
        turns = []
        for candidate in reversed(order) if index % 2 else order:
            before = self._meter.read() if self._meter else 0.0
            data = self._ask(candidate, {"round": self._workload.round_seconds}, self._turn_seconds(candidate))
            if data is not None:
                result = from_data(RoundResult, data)
                samples = result.samples | self._energy(before, result.calls)
                turns.append(Round(candidate.run_id, self.index, index, samples))
        return turns

    def _energy(self, before: float, calls: int) -> dict[str, tuple[float, ...]]:
        """Joules an item of a turn, where there is a meter; one sample a turn, because meters are slow."""
        if self._meter is None or not calls:
            return {}
        return {ENERGY.name: ((self._meter.read() - before) / (calls * self._workload.batch_size),)}

    def _turn_seconds(self, candidate: Candidate) -> float:
        """Long enough for a turn however slow the calls, short enough to notice a hang."""
        slowest = max(self._opened[candidate.run_id].warmup) / 1e3
        return 60.0 + 20 * (self._workload.round_seconds + slowest)

    def _ask(self, candidate: Candidate, message: dict[str, Any], timeout: float) -> Any:
        """The child's result, or None when it failed and dropped out."""
        try:
            return self._children[candidate.run_id].ask(message, timeout=timeout, tick=self._tick)
        except SpeedrailError as error:
            self._drop(candidate, error)
            return None

    def _load(self, candidate: Candidate) -> LoadResult | None:
        """Under the patterns that one opened model can serve; a sweep over batches opens others."""
        if self._workload.pattern not in (Pattern.MULTI_STREAM, Pattern.SERVER):
            return None
        self._report(candidate.run_id, Progress(f"load: {self._workload.pattern.replace('_', '-')}", _ROUNDS_SHARE))
        data = self._ask(candidate, {"load": True}, _ANSWER_SECONDS)
        return None if data is None else from_data(LoadResult, data)

    def _examine(self, candidate: Candidate) -> tuple[Examined | None, str]:
        """What the child shows when nothing more is timed, or why it cannot; its run has its result either way."""
        self._report(candidate.run_id, Progress("profiling operators", _PROFILE_SHARE))
        try:
            data = self._children[candidate.run_id].ask({"examine": True}, timeout=_EXAMINE_SECONDS, tick=self._tick)
        except SpeedrailError as error:
            self._tick()  # a child killed on request has nothing to explain
            return None, str(error)
        return from_data(Examined, data), ""

    def _drop(self, candidate: Candidate, error: SpeedrailError) -> None:
        self._tick()  # a child killed on request is no failure of its run
        if candidate is self._baseline:
            error.where = error.where or "baseline"
            raise error
        self.failures[candidate.run_id] = replace(error.as_problem(), where=error.where or "measure")
        if child := self._children.pop(candidate.run_id, None):
            child.kill()

    def _alive(self) -> Iterator[Candidate]:
        return (c for c in self._candidates if c.run_id in self._opened and c.run_id in self._children)

    def _tell(self, done: int, count: int, seconds: float) -> None:
        left = seconds / done * (count - done)
        for candidate in self._alive():
            self._report(candidate.run_id, Progress("measuring", _ROUNDS_SHARE * (done / count), left))


def _items_per_call(request: OpenRequest) -> int:
    tokens = request.workload.new_tokens if request.card.task is TaskId.CAUSAL_LM else 1
    return request.workload.batch_size * tokens
