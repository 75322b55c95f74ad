"""A series: blocks one after another, each of fresh processes (worker side).

A process gets its own layout of memory and keeps it, so equal processes differ however long each
is timed. Only opening them anew shows by how much, and averages it (Kalibera & Jones, *Rigorous
Benchmarking in Reasonable Time*, 2013).
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Protocol, Self

from engine.domain.errors import Problem
from engine.domain.experiment import Progress, Round
from engine.domain.noise import RoundNoise, SeriesNoise
from engine.host import usable_cores
from engine.measure.block import ROUNDS_SHARE, Block, Candidate, Measured
from engine.measure.repetitions import rounds_a_process
from engine.requests import OpenResult

_MOST_REPEATED = 0.25
"""Share of the rounds that are repeated for a drifting canary: on a machine that always drifts it is no use."""

Report = Callable[[str, Progress], None]


class MakeBlock(Protocol):
    """`Block` with whatever all blocks of a series have in common."""

    def __call__(self, index: int, candidates: Sequence[Candidate], *, turn: int, report: Report) -> Block: ...


class Series:
    """The baseline first among `candidates`. A context: on leaving, no child is left.

    first: the first block's index; the others follow. rounds: how many of the workload's are left to do.
    `failures` says of each candidate that dropped out why; `postponed` are those that need a series of their
    own. `shadow_rounds` and `noise` are those of all `blocks` so far.
    """

    def __init__(
        self,
        first: int,
        candidates: Sequence[Candidate],
        rounds: int,
        make_block: MakeBlock,
        report: Report = lambda run_id, progress: None,
    ) -> None:
        self.first = first
        self.failures: dict[str, Problem] = {}
        self.postponed: tuple[Candidate, ...] = ()
        self.shadow_rounds: dict[str, list[Round]] = defaultdict(list)
        self._candidates = tuple(candidates)
        self._rounds = rounds
        self._workload = candidates[0].request.workload
        self._make_block = make_block
        self._report = report
        self._done = 0.0
        self._seen: list[RoundNoise] = []
        self._opened: dict[str, list[OpenResult]] = defaultdict(list)
        self._peaks: dict[str, int] = defaultdict(int)
        self.blocks = 0
        self._exits = ExitStack()
        self._block: Block | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._exits.close()

    def rounds(self) -> Iterator[list[Round]]:
        """All that are left, numbered on from those before."""
        before = self._workload.rounds - self._rounds
        share, done, began = 0, 0, time.monotonic()
        while done < self._rounds:
            opening = time.monotonic()
            block = self._open()
            if not share:
                each = (time.monotonic() - opening) / max(1, len(block.opened))
                share = rounds_a_process(self._workload.rounds, self._workload.processes, each / self._workload.round_seconds)
            repeats = int(self._rounds * _MOST_REPEATED) - sum(seen.repeated for seen in self._seen)
            for turns in block.rounds(min(share, self._rounds - done), before + done, repeats=repeats):
                yield turns
                done += 1
                self._done = done / self._rounds
                left = (time.monotonic() - began) / done * (self._rounds - done)
                for turn in turns:
                    self._tell(turn.run_id, Progress("measuring", 0.0, left))
            self._learn(block)

    @property
    def noise(self) -> SeriesNoise:
        """What was seen of the machine in all rounds so far."""
        request = self._candidates[0].request
        return SeriesNoise(self.first, usable_cores(), request.threads, tuple(self._seen), request.pinned, blocks=self.blocks)

    def processes(self) -> list[int]:
        """All that take part at the moment, as the host numbers them."""
        return self._block.processes() if self._block else []

    def results(self) -> Iterator[Measured]:
        """As `Block.results`, from the last block, which stays open for it; memory's peak is that of all blocks."""
        block = self._block or self._open()
        for found in block.results():
            run_id = found.run_id
            yield replace(
                found, opened=tuple(self._opened[run_id]) or found.opened,
                peak_memory_bytes=max(found.peak_memory_bytes, self._peaks[run_id]),
            )  # fmt: skip
        self.failures |= block.failures

    def _open(self) -> Block:
        """The next block, when all of the one before it has gone."""
        self._exits.close()
        gone = {*self.failures, *(c.run_id for c in self.postponed)}
        alive = [c for c in self._candidates if c.run_id not in gone]
        self._block = self._exits.enter_context(self._make_block(self.first + self.blocks, alive, turn=self.blocks, report=self._tell))
        self.blocks += 1
        self.postponed += self._block.postponed
        return self._block

    def _learn(self, block: Block) -> None:
        self.failures |= block.failures
        self._seen += block.seen
        for name, rounds in block.shadow_rounds.items():
            self.shadow_rounds[name] += rounds
        for run_id, opened in block.opened.items():
            self._opened[run_id].append(opened)
            self._peaks[run_id] = max(self._peaks[run_id], block.peak_memory(run_id))

    def _tell(self, run_id: str, progress: Progress) -> None:
        """A block knows its own part only; what was done before it stays done, and opening anew is part of measuring."""
        stage = "measuring" if progress.stage == "opening" and self._done else progress.stage
        self._report(run_id, replace(progress, stage=stage, fraction=max(progress.fraction, ROUNDS_SHARE * self._done)))
