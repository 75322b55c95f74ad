"""The loop on a model of two numbers: budget, the best kept, what goes wrong, resuming."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from engine.domain.errors import StageError
from engine.tasks.traceable import Traceable
from engine.training.checkpoint import Checkpoint, Position
from engine.training.objectives import Inputs, Targets
from engine.training.seen import Seen, Watched
from engine.training.teacher import Teacher
from engine.training.trainer import Pace, Trainer


class Line(Traceable):
    """y = w·x + b."""

    inputs = ("x",)

    def __init__(self, weight: float) -> None:
        super().__init__(nn.Linear(1, 1), ["y"])
        layer: nn.Linear = self.model  # type: ignore[assignment]
        layer.weight.data.fill_(weight)
        layer.bias.data.zero_()
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.model(x),)


class Closeness:
    """Squared distance; `spoil` changes a loss (to NaN, to an error) at the steps a test wants."""

    metric = "closeness"

    def __init__(self, spoil: Callable[[Tensor, int], Tensor] = lambda loss, call: loss) -> None:
        self._spoil = spoil
        self.calls = 0

    def targets(self, seen: Seen, batch: Inputs) -> Targets:
        return {"y": seen.outputs["y"]}

    def loss(self, seen: Seen, targets: Targets, batch: Inputs) -> Tensor:
        self.calls += 1
        return self._spoil((seen.outputs["y"] - targets["y"]).square().mean(), self.calls)

    def quality(self, seen: Seen, targets: Targets, batch: Inputs) -> Tensor:
        return 1 - (seen.outputs["y"] - targets["y"]).abs().flatten()


BATCHES = [{"x": torch.tensor([[1.0], [2.0], [3.0], [4.0]])}, {"x": torch.tensor([[-1.0], [-2.0]])}]


def trainer(
    student: Line, objective: Closeness, directory: Path | None = None, say: Callable[[Position, float], None] = lambda p, u: None,
    **pace: float,
) -> Trainer:  # fmt: skip
    teacher = Watched(Line(2.0))
    return Trainer(
        Watched(student), Teacher(teacher, objective, BATCHES), Teacher(teacher, objective, BATCHES), BATCHES, BATCHES, objective,
        Pace(**({"seconds": 60.0, "steps": 40, "learning_rate": 0.1} | pace)),  # type: ignore[arg-type]
        Checkpoint(directory, "line"), say,
    )  # fmt: skip


def test_it_learns_and_ends_with_its_steps() -> None:
    student = Line(0.0)
    position = trainer(student, Closeness()).run()
    assert position.ended == "all steps done"
    assert position.step == 40
    assert position.best is not None
    assert position.best.quality > position.curve[0].quality + 0.5
    assert not any(p.requires_grad for p in student.parameters())


def test_the_student_is_left_at_its_best() -> None:
    """A rate far too high drives it away; what is left is the best that was seen."""
    student, objective = Line(1.9), Closeness()
    position = trainer(student, objective, learning_rate=30.0).run()
    seen = Watched(student)(BATCHES[0])
    target = Watched(Line(2.0))(BATCHES[0])
    assert position.best == max(position.curve, key=lambda point: point.quality)
    assert float((seen.outputs["y"] - target.outputs["y"]).abs().max()) < 1


def test_a_budget_that_is_used_up_ends_it() -> None:
    position = trainer(Line(0.0), Closeness(), seconds=0.2, steps=0).run()
    assert position.ended in ("the time budget was used up", "stopped improving")
    assert position.seconds >= 0.05


def test_no_gain_cuts_the_budget_short() -> None:
    position = trainer(Line(2.0), Closeness(), seconds=5.0, steps=0, learning_rate=1e-9).run()
    assert position.ended == "stopped improving"
    assert position.seconds < 4.5


class Recovering(Closeness):
    """What is seen of a mild cut under a high rate: worse than untrained at first, better with every look."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0

    def quality(self, seen: Seen, targets: Targets, batch: Inputs) -> Tensor:
        self.looks += 1
        look = (self.looks - 1) // len(BATCHES)
        return torch.full((len(batch["x"]),), 0.9 if look == 0 else 0.5 + 0.01 * look)


def test_a_student_that_recovers_keeps_its_budget_though_it_was_better_untrained() -> None:
    position = trainer(Line(0.0), Recovering(), seconds=1.0, steps=0).run()
    assert position.ended == "the time budget was used up"
    assert position.best is not None and position.best.step == 0


def test_a_student_that_lost_little_moves_little() -> None:
    usual, adapted = (trainer(Line(1.99), Closeness(), learning_rate=0.5, adapts=adapts).run() for adapts in (False, True))
    assert min(p.quality for p in adapted.curve) > min(p.quality for p in usual.curve) + 0.1
    ruined = [trainer(Line(0.0), Closeness(), learning_rate=0.5, adapts=adapts).run().curve[1].quality for adapts in (False, True)]
    assert ruined[0] == ruined[1]


def nan_from(call: int) -> Callable[[Tensor, int], Tensor]:
    return lambda loss, at: loss * float("nan") if at >= call else loss


def test_nan_keeps_the_best_so_far() -> None:
    student = Line(0.0)
    position = trainer(student, Closeness(nan_from(25))).run()
    assert position.ended == "the loss was not a finite number; the best student so far was kept"
    assert position.best is not None
    assert position.best.quality > position.curve[0].quality
    assert all(torch.isfinite(p).all() for p in student.parameters())


def test_nan_before_any_gain_is_an_error() -> None:
    with pytest.raises(StageError, match="step 0: the loss was not a finite number"):
        trainer(Line(0.0), Closeness(nan_from(1))).run()


def test_short_memory_halves_what_is_answered_at_once() -> None:
    def hungry(loss: Tensor, call: int) -> Tensor:
        if call <= 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.")
        return loss

    position = trainer(Line(0.0), Closeness(hungry)).run()
    assert position.parts == 4 or position.parts == 2
    assert position.ended == "all steps done"


def test_no_memory_at_all_is_an_error() -> None:
    def starved(loss: Tensor, call: int) -> Tensor:
        raise MemoryError

    with pytest.raises(StageError, match="memory ran out"):
        trainer(Line(0.0), Closeness(starved)).run()


def test_other_errors_are_not_taken_for_memory() -> None:
    def broken(loss: Tensor, call: int) -> Tensor:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        trainer(Line(0.0), Closeness(broken)).run()


class Killed(BaseException):
    pass


def test_a_killed_training_goes_on_where_it_was(tmp_path: Path) -> None:
    def kill(position: Position, used: float) -> None:
        if position.step == 30:
            raise Killed

    with pytest.raises(Killed):
        trainer(Line(0.0), Closeness(), tmp_path, kill).run()
    objective = Closeness()
    position = trainer(Line(0.0), objective, tmp_path).run()
    assert [point.step for point in position.curve] == [0, 8, 16, 24, 32, 40]
    assert objective.calls == 16, "steps 25 to 40 only"
    whole = trainer(Line(0.0), Closeness()).run()
    assert [p.quality for p in position.curve] == pytest.approx([p.quality for p in whole.curve], abs=1e-6)


def test_a_finished_training_is_not_done_again(tmp_path: Path) -> None:
    first = trainer(Line(0.0), Closeness(), tmp_path).run()
    objective, student = Closeness(), Line(0.0)
    again = trainer(student, objective, tmp_path).run()
    assert objective.calls == 0
    assert again == first
    assert float(next(student.parameters())) == pytest.approx(2.0, abs=0.5)


def test_what_another_training_left_is_not_taken(tmp_path: Path) -> None:
    trainer(Line(0.0), Closeness(), tmp_path).run()
    assert Checkpoint(tmp_path, "another").load() is None


def test_a_teacher_answers_each_batch_once() -> None:
    teacher = Teacher(Watched(Line(2.0)), Closeness(), BATCHES)
    for place in (0, 1, 0, 1):
        teacher.targets(place)
    assert teacher.answered == 2
