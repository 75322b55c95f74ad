"""A block: processes of the baseline and its candidates measured together, turn by turn (worker side).

Each is opened in a child of its own and parked; the worker passes the turn. Timings
interleave although processes are separate, and whatever slows the machine for a while
slows all of them alike: the shorter the turns, the more alike.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
import psutil

from engine.domain.artifact import TaskId
from engine.domain.codec import as_data, from_data
from engine.domain.errors import Problem, SpeedrailError
from engine.domain.evidence import Examined
from engine.domain.experiment import Progress, Round
from engine.domain.layout import Workers
from engine.domain.load import LoadResult, Pattern
from engine.domain.metrics import ENERGY, Measurement
from engine.domain.noise import MOST_DRIFT, RoundNoise
from engine.host import usable_cores
from engine.measure import witness
from engine.measure.canary import Canary
from engine.measure.energy import Meter
from engine.requests import AnswersResult, OpenRequest, OpenResult, RoundResult
from engine.sandbox import DEVICE, Child, Limits, tree

MEMORY_SHARE = 0.6
"""Of the free memory, for all children of a block together."""
_OPEN_SECONDS = 1800.0
_ANSWER_SECONDS = 3600.0
_EXAMINE_SECONDS = 600.0
ROUNDS_SHARE = 0.8
"""Of a block's time, roughly; scoring has the rest."""
_PROFILE_SHARE = 0.95
SLICE_SECONDS = 0.15
"""A turn, where calls are short. On a shared machine the pace changes within seconds: see docs/measurement.md."""
_SLICE_CALLS = 4
"""Calls in a turn at least; one more goes before them, untimed."""


class Start(Protocol):
    """A leash's."""

    def __call__(
        self, kind: str, *, readable: list[Path], writable: list[Path], limits: Limits, log: Path, threads: int,
        workers: Workers, opened: Sequence[Path],
    ) -> Child: ...  # fmt: skip


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

    opened: of each of its processes. items_per_call: what throughput counts; a causal LM's new tokens, else
    the batch. `examined` None: it could not be examined, for the reason in `unexamined`.
    """

    run_id: str
    opened: tuple[OpenResult, ...]
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
    failure is everybody's and is raised. `shadows` are further processes of the
    baseline that take turns like everybody; their rounds are kept in `shadow_rounds`, and they
    are left out where memory or they themselves fail. turn: which block of a series this is; the order of
    opening moves with it, and only the first (0) asks whether all have room. `tick` is called a few times a
    second and may raise to end it all. `report` tells how a run gets on. With a `meter`
    every round has a sample of energy. `opened` is how that went, and `seen` what else the machine did, by round.
    """

    def __init__(
        self,
        index: int,
        candidates: Sequence[Candidate],
        *,
        start: Start,
        limits: Limits,
        shadows: Sequence[Candidate] = (),
        turn: int = 0,
        tick: Callable[[], None] = lambda: None,
        report: Callable[[str, Progress], None] = lambda run_id, progress: None,
        meter: Meter | None = None,
    ) -> None:
        self.index = index
        self.failures: dict[str, Problem] = {}
        self.postponed: tuple[Candidate, ...] = ()
        self.shadow_rounds: dict[str, list[Round]] = {}
        self._candidates = tuple(candidates)
        self._shadows = tuple(shadows)
        self._baseline = candidates[0]
        self.opened: dict[str, OpenResult] = {}
        self.seen: list[RoundNoise] = []
        self._turn = turn
        self._workload = candidates[0].request.workload
        self._start = start
        self._limits = limits
        self._tick = tick
        self._report = report
        self._meter = meter
        self._children: dict[str, Child] = {}
        self._exits = ExitStack()
        self._canary = Canary(self._workload.threads or usable_cores())

    def __enter__(self) -> Self:
        """Opens baseline and candidates, one after the other."""
        self._exits.enter_context(self._canary)
        try:
            self._open_first() if self._turn == 0 else self._open_again()
        except BaseException:
            self._exits.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._exits.close()

    def rounds(self, count: int, first: int = 0, *, repeats: int = 0) -> Iterator[list[Round]]:
        """`count` rounds, numbered from `first`, each with one or more turns of every living run.

        A round during which the canary drifted is void and repeated once, but no more than `repeats` of them.
        """
        before = self._canary.sing() * 1e3
        for index in range(first, first + count):
            turns, seen = self._witnessed(index, before)
            if seen.drift > MOST_DRIFT and repeats:
                repeats -= 1
                turns, seen = self._witnessed(index, seen.canary_ms[1])
                seen = replace(seen, repeated=True)
            before = seen.canary_ms[1]
            self.seen.append(seen)
            for turn in turns:
                if turn.run_id in self.shadow_rounds:
                    self.shadow_rounds[turn.run_id].append(turn)
            yield [turn for turn in turns if turn.run_id not in self.shadow_rounds]

    def peak_memory(self, run_id: str) -> int:
        """In bytes so far, of one that takes part."""
        return self._children[run_id].peak_pss_bytes() if run_id in self._children else 0

    def processes(self) -> list[int]:
        """All that take part, as the host numbers them."""
        return [pid for root in self._roots() for pid in (root, *tree.descendants(root))]

    def results(self) -> Iterator[Measured]:
        """Peak memory so far, then the answers and their scores: the baseline first, then all others."""
        peaks = {run_id: child.peak_pss_bytes() for run_id, child in self._children.items()}
        reference: str | None = None
        for candidate in [c for c in self._alive() if c not in self._shadows]:
            self._report(candidate.run_id, Progress("scoring quality", ROUNDS_SHARE))
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
                run_id, (self.opened[run_id],), answers.quality, peaks[run_id] + answers.elsewhere_bytes, _items_per_call(candidate.request),
                self._children[run_id].level, examined, unexamined, load,
            )  # fmt: skip

    def _open_first(self) -> None:
        """The baseline, then everybody who has room, shadows last."""
        free = int(psutil.virtual_memory().available * MEMORY_SHARE)
        baseline, *others = self._candidates
        self._open(baseline)
        for position, candidate in enumerate(others):
            # the first needs no room beside it for shadows, or it would never have its turn
            if position and self._used() + (1 + len(self._shadows)) * self._largest() > free:
                self.postponed = tuple(others[position:])
                break
            self._open(candidate)
        for shadow in self._shadows:
            if self._used() + self._largest() <= free:
                self._open(shadow)

    def _open_again(self) -> None:
        """In a random order, another in every block: with the other core loaded, whoever was opened first was 2 to 7 % slower than the rest."""
        everyone = [self._baseline, *self._shadows, *self._candidates[1:]]
        for candidate in Random(self._turn).sample(everyone, len(everyone)):
            self._open(candidate)

    def _used(self) -> int:
        return sum(child.peak_pss_bytes() for child in self._children.values())

    def _largest(self) -> int:
        return max(child.peak_pss_bytes() for child in self._children.values())

    def _open(self, candidate: Candidate) -> None:
        self._report_of(candidate, Progress("opening", 0.0))
        scratch, lowered = Path(candidate.request.scratch_dir), candidate.request.lowered
        try:
            child = self._start(
                "measure" + DEVICE * (not lowered.placement.is_cpu),
                readable=[*candidate.readable, Path(self._baseline.request.scratch_dir)],
                writable=[scratch],
                limits=self._limits,
                log=candidate.log,
                threads=candidate.request.threads,
                workers=lowered.layout.placed,
                opened=candidate.request.opened,
            )
        except SpeedrailError as error:
            self._drop(candidate, error)
            return
        self._exits.callback(child.kill)
        self._children[candidate.run_id] = child
        opened = self._ask(candidate, {"request": as_data(candidate.request)}, _OPEN_SECONDS)
        if opened is not None:
            self.opened[candidate.run_id] = from_data(OpenResult, opened)
            if candidate in self._shadows:
                self.shadow_rounds[candidate.run_id] = []

    def _witnessed(self, index: int, before: float) -> tuple[list[Round], RoundNoise]:
        """A round, and what else the machine did meanwhile. before: the canary's last latency in ms."""
        first = self._look()
        turns = self._round(index)
        then = self._look()
        songs = (before, self._canary.sing() * 1e3)
        passage = witness.between(first, then, usable_cores())
        return turns, RoundNoise(index, songs, passage.other_load, passage.steal, then.mhz, then.threads)

    def _look(self) -> witness.Reading:
        return witness.read(self._roots())

    def _roots(self) -> list[int]:
        return [pid for child in self._children.values() for pid in (child.pid, *child.further)]

    def _round(self, index: int) -> list[Round]:
        """Passes in which everybody has a turn; the order is turned about every pass and moved on every second one."""
        passes = self._passes()
        seconds = self._workload.round_seconds / passes
        taken: dict[str, list[RoundResult]] = {}
        joules: dict[str, float] = defaultdict(float)
        for step in range(index * passes, (index + 1) * passes):
            alive = list(self._alive())
            start = step // 2 % len(alive)
            order = [*alive[start:], *alive[:start]]
            for candidate in reversed(order) if step % 2 else order:
                before = self._meter.read() if self._meter else 0.0
                data = self._ask(candidate, {"round": seconds}, self._turn_seconds(candidate))
                if data is not None:
                    taken.setdefault(candidate.run_id, []).append(from_data(RoundResult, data))
                    joules[candidate.run_id] += self._meter.read() - before if self._meter else 0.0
        return [
            Round(c.run_id, self.index, index, _joined(turns) | self._energy(joules[c.run_id], turns))
            for c in self._alive()
            if (turns := taken.get(c.run_id))
        ]

    def _passes(self) -> int:
        """How many turns a round's time is cut into, so that even the slowest has some calls in each."""
        slowest = max(float(np.median(opened.warmup)) for opened in self.opened.values()) / 1e3
        return max(1, round(self._workload.round_seconds / max(SLICE_SECONDS, _SLICE_CALLS * slowest)))

    def _energy(self, joules: float, turns: Sequence[RoundResult]) -> dict[str, tuple[float, ...]]:
        """Joules an item of a round, where there is a meter; one sample, because meters are slow."""
        calls = sum(turn.calls for turn in turns)
        return {ENERGY.name: (joules / (calls * self._workload.batch_size),)} if self._meter and calls else {}

    def _turn_seconds(self, candidate: Candidate) -> float:
        """Long enough for a turn however slow the calls, short enough to notice a hang."""
        slowest = max(self.opened[candidate.run_id].warmup) / 1e3
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
        self._report(candidate.run_id, Progress(f"load: {self._workload.pattern.replace('_', '-')}", ROUNDS_SHARE))
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
        if candidate in self._shadows:
            self.shadow_rounds.pop(candidate.run_id, None)
        else:
            self.failures[candidate.run_id] = replace(error.as_problem(), where=error.where or "measure")
        if child := self._children.pop(candidate.run_id, None):
            child.kill()

    def _alive(self) -> Iterator[Candidate]:
        everyone = (self._baseline, *self._shadows, *self._candidates[1:])
        return (c for c in everyone if c.run_id in self.opened and c.run_id in self._children)

    def _report_of(self, candidate: Candidate, progress: Progress) -> None:
        if candidate not in self._shadows:
            self._report(candidate.run_id, progress)


def _joined(turns: Sequence[RoundResult]) -> dict[str, tuple[float, ...]]:
    """The samples of several turns, one after another."""
    return {name: tuple(value for turn in turns for value in turn.samples[name]) for name in turns[0].samples}


def _items_per_call(request: OpenRequest) -> int:
    tokens = request.workload.new_tokens if request.card.task is TaskId.CAUSAL_LM else 1
    return request.workload.batch_size * tokens
