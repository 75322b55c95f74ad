"""What a format costs in quality, judged while lowering on calibration items that no quantizer sees.

The scored items stay untouched: the calibration batches are divided, every fourth one checks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from engine.domain.artifact import ModelCard
from engine.domain.errors import StageError
from engine.domain.metrics import QUALITY
from engine.domain.ports import Context, Executor, Outputs
from engine.tasks.base import TaskBatch, gather
from engine.tasks.registry import task_of

EVERY = 4
MOST_CHECKED = 24


@dataclass(frozen=True, slots=True)
class Guard:
    """Judges executors against the full-precision one's answers."""

    card: ModelCard
    batches: Sequence[TaskBatch]
    reference: Outputs

    def quality(self, executor: Executor) -> float:
        """Quality retained, 1 for the reference itself."""
        measured = task_of(self.card).score(self.reference, answers_of(self.card, executor, self.batches), None)
        return next(m.median for m in measured if m.name == QUALITY.name)


def divided(context: Context) -> tuple[Context, list[TaskBatch]]:
    """The context whose calibration quantizers may see, and the batches that check them.

    Raises StageError when there are too few to divide.
    """
    batches = list(context.calibration)
    checking = [b for i, b in enumerate(batches) if i % EVERY == EVERY - 1 and isinstance(b, TaskBatch)][:MOST_CHECKED]
    if not checking:
        raise StageError(
            f"fallback needs at least {EVERY} calibration batches: some quantize, others check.",
            mend="Give more calibration data, a smaller batch, or leave fallback out.",
        )
    seen = {id(b) for b in checking}
    return replace(context, calibration=[b for b in batches if id(b) not in seen]), checking


def answers_of(card: ModelCard, executor: Executor, batches: Sequence[TaskBatch]) -> Outputs:
    task = task_of(card)
    return gather([task.answer(executor.infer(batch), batch) for batch in batches])


def boldest(count: int, meets: Callable[[int], bool]) -> int | None:
    """The first of the options 0 … count − 1, boldest first, that meets; found by halving, None when none does.

    Assumes that whatever is safer than an option that meets, meets as well.
    """
    low, high, found = 0, count - 1, None
    while low <= high:
        middle = (low + high) // 2
        if meets(middle):
            found, high = middle, middle - 1
        else:
            low = middle + 1
    return found
