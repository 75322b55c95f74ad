"""The loop: steps within a time budget, looks at the held-out part, the best student kept.

The learning rate rises over the first twentieth and falls to nothing along a cosine by
the end of the budget, whatever the machine's pace. When the held-out quality has not
risen for `PATIENCE` looks, the rest of the budget is cut short, so that the falling
learning rate still brings its gain; when it does not rise then either, it is over.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from engine.domain.errors import StageError
from engine.training.checkpoint import Checkpoint, Point, Position
from engine.training.objectives import Inputs, Objective, Targets
from engine.training.seen import Watched
from engine.training.teacher import Teacher

PATIENCE = 5
LOOKS = 24
"""At the held-out part, within the whole budget."""
LEAST_GAIN = 2e-4
FULL_DAMAGE, LEAST_RATE = 0.25, 0.1
"""A student that is nearly as good as its teacher already would be thrown out of its place by the usual rate."""
_LOOK_SHARE = 0.1
"""Of the time that looks may take; a slow one makes them rarer."""
_WARM_UP = 0.05
_MOST_PARTS = 64

Say = Callable[[Position, float], None]
"""Told the position and the share of the budget that is used, now and then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """`seconds` of wall time at most; `steps` at most, 0 for as many as the time allows."""

    seconds: float
    steps: int = 0
    learning_rate: float = 3e-4
    """The highest, of a student that has lost `FULL_DAMAGE` or more of the held-out quality."""
    adapts: bool = False
    """Whether a student that has lost less gets so much less of it."""
    bf16: bool = False


class Trainer:
    """Trains `student` on `batches` towards what `teacher` says, and judges it on `held`."""

    def __init__(
        self, student: Watched, teacher: Teacher, judge: Teacher, batches: Sequence[Inputs], held: Sequence[Inputs],
        objective: Objective, pace: Pace, checkpoint: Checkpoint, say: Say,
    ) -> None:  # fmt: skip
        self._student, self._teacher, self._judge = student, teacher, judge
        self._batches, self._held = batches, held
        self._objective, self._pace, self._checkpoint, self._say = objective, pace, checkpoint, say
        self._module = student.module
        self._trained = _trainable(self._module)
        self._optimizer = torch.optim.AdamW(self._trained.values(), lr=pace.learning_rate, weight_decay=1e-2, fused=True)
        self.position = Position()
        self._best: dict[str, Tensor] = {}
        self._budget = pace.seconds
        self._losses: list[float] = []
        self._look_seconds = 0.0

    def run(self) -> Position:
        """Train to the end; the student is left at its best.

        Raises StageError when the loss is not finite, or memory is short, before anything was gained.
        """
        self._resume()
        for parameter in self._trained.values():
            parameter.requires_grad_(True)
        try:
            while not self.position.ended:
                self._spell()
        finally:
            self._module.requires_grad_(False)
            self._module.eval()
        self._module.load_state_dict(self._best, strict=False)
        return self.position

    def _spell(self) -> None:
        """Steps up to the next look, the look, and a checkpoint."""
        began, cpu_began = time.monotonic(), time.process_time()
        seconds, cpu = self.position.seconds, self.position.cpu_seconds
        until = seconds + max(self._pace.seconds / LOOKS, self._look_seconds / _LOOK_SHARE)
        steps = self.position.step + (max(self._pace.steps // 5, 1) if self._pace.steps else 10**9)
        problem = ""
        while self.position.seconds < until and self.position.step < steps and self._used() < 1 and not problem:
            problem = self._step()
            self.position.seconds = seconds + time.monotonic() - began
            self._say(self.position, self._used())
        self.position.cpu_seconds = cpu + time.process_time() - cpu_began
        if not problem:
            self._look()
        self.position.seconds = seconds + time.monotonic() - began
        self.position.cpu_seconds = cpu + time.process_time() - cpu_began
        self.position.ended = self._end(problem)
        self._save()

    def _step(self) -> str:
        """One step of the optimizer; what went wrong, or an empty text."""
        _train_mode(self._module)
        place = self._place()
        self._set_rate()
        self._optimizer.zero_grad(set_to_none=True)
        try:
            loss = self._backward(self._batches[place], self._teacher.targets(place))
        except (RuntimeError, MemoryError) as error:
            if not _is_memory(error):
                raise
            if self.position.parts < _MOST_PARTS and self.position.parts < len(next(iter(self._batches[place].values()))):
                self.position.parts *= 2
                return ""
            return "memory ran out"
        norm = float(nn.utils.clip_grad_norm_(self._trained.values(), 1.0))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            return "the loss was not a finite number"
        self._optimizer.step()
        self._losses.append(loss)
        self.position.step += 1
        return ""

    def _backward(self, batch: Inputs, targets: Targets) -> float:
        """The batch's loss, its gradients accumulated over as many parts as memory demands."""
        count = len(next(iter(batch.values())))
        size = -(-count // self.position.parts)
        total = 0.0
        for start in range(0, count, size):
            rows = slice(start, start + size)
            some = {name: tensor[rows] for name, tensor in batch.items()}
            share = len(next(iter(some.values()))) / count
            with torch.autocast("cpu", torch.bfloat16, enabled=self._pace.bf16):
                seen = self._student(some)
            loss = self._objective.loss(seen, {name: t[rows] for name, t in targets.items()}, some) * share
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        return total

    def _look(self) -> None:
        """Judge the student on what is held out, and remember it if it is the best."""
        self._module.eval()
        best, began = self.position.best, time.monotonic()
        with torch.no_grad():
            values = [
                self._objective.quality(self._student(batch), self._judge.targets(place), batch)
                for place, batch in enumerate(self._held)
            ]
        quality = float(torch.cat(values).mean())
        loss = sum(self._losses) / len(self._losses) if self._losses else None
        self._losses.clear()
        if math.isfinite(quality):
            position = self.position
            position.curve.append(Point(position.step, position.seconds, position.cpu_seconds, loss, quality))
            if best is None or quality > best.quality:
                self._best = {name: tensor.clone() for name, tensor in self._state().items()}
        self._look_seconds = time.monotonic() - began

    def _end(self, problem: str) -> str:
        """Why it is over, or an empty text. A problem before any gain is an error."""
        best = self.position.best
        if problem:
            if best is None or best.step == 0:
                raise StageError(
                    f"Training ended at step {self.position.step}: {problem}.",
                    mend="Choose a smaller learning_rate or batch_size, or check the calibration data.",
                )
            return f"{problem}; the best student so far was kept"
        if self._pace.steps and self.position.step >= self._pace.steps:
            return "all steps done"
        if self.position.seconds >= self._budget:
            return "stopped improving" if self._budget < self._pace.seconds else "the time budget was used up"
        if best is not None and self._stalled() and self._budget == self._pace.seconds:
            self._budget = min(self._budget, 1.25 * self.position.seconds)
        return ""

    def _stalled(self) -> bool:
        """The untrained student does not count: a high rate costs at first what its fall brings back with interest."""
        trained = [point.quality for point in self.position.curve[1:]]
        if len(trained) <= PATIENCE or self._pace.steps:
            return False
        return max(trained[-PATIENCE:]) < max(trained[:-PATIENCE]) + LEAST_GAIN

    def _used(self) -> float:
        by_steps = self.position.step / self._pace.steps if self._pace.steps else 0.0
        return max(self.position.seconds / self._budget, by_steps)

    def _set_rate(self) -> None:
        used = min(self._used(), 1.0)
        share = used / _WARM_UP if used < _WARM_UP else 0.5 * (1 + math.cos(math.pi * (used - _WARM_UP) / (1 - _WARM_UP)))
        highest = self._pace.learning_rate * (self._needed() if self._pace.adapts else 1.0)
        for group in self._optimizer.param_groups:
            group["lr"] = highest * max(share, 0.01)

    def _needed(self) -> float:
        """Share of the usual rate, by what the untrained student has lost."""
        damage = 1 - self.position.curve[0].quality
        return min(max(damage / FULL_DAMAGE, LEAST_RATE), 1.0)

    def _place(self) -> int:
        """Which batch this step takes: each once in an epoch, in an order of the epoch's own."""
        epoch, within = divmod(self.position.step, len(self._batches))
        order = torch.randperm(len(self._batches), generator=torch.Generator().manual_seed(epoch))
        return int(order[within])

    def _resume(self) -> None:
        found = self._checkpoint.load()
        if found is None:
            self._look()
            return
        self.position, now, self._best, moments = found
        self._module.load_state_dict(now, strict=False)
        for name, parameter in self._trained.items():
            if f"{name}:m" in moments:
                self._optimizer.state[parameter] = {
                    "step": torch.tensor(float(self.position.step)), "exp_avg": moments[f"{name}:m"], "exp_avg_sq": moments[f"{name}:v"]
                }

    def _save(self) -> None:
        moments: dict[str, Tensor] = {}
        for name, parameter in self._trained.items():
            state = self._optimizer.state.get(parameter)
            if state:
                moments |= {f"{name}:m": state["exp_avg"], f"{name}:v": state["exp_avg_sq"]}
        over = bool(self.position.ended)
        self._checkpoint.save(self.position, {} if over else self._state(), self._best, {} if over else moments)

    def _state(self) -> dict[str, Tensor]:
        """Everything that training changes, tied parameters once."""
        state = self._module.state_dict()
        shared = {name for name, _ in self._module.named_parameters(remove_duplicate=False)}
        first = {name for name, _ in self._module.named_parameters()}
        return {name: tensor.detach() for name, tensor in state.items() if name not in shared - first}


def _trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    """All but embeddings: those of a student are its teacher's, and a short training meets too few words to better them."""
    embedded = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
    return {name: p for name, p in module.named_parameters() if p.is_floating_point() and id(p) not in embedded}


def _train_mode(module: nn.Module) -> None:
    """Batch statistics follow the data; nothing is dropped at random, because a small student has nothing to spare."""
    module.train()
    for each in module.modules():
        if isinstance(each, nn.Dropout):
            each.eval()


def _is_memory(error: BaseException) -> bool:
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in str(error)
