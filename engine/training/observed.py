"""What a cut looks at, to see which units matter and to make up for those that go.

The few texts that calibrate do not determine least squares over a layer's thousand neurons,
so a text model's are joined by what its training would learn from: sentences of
documentation, most of them as random words. Measured in benchmarks/README.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engine.domain.artifact import TaskId
from engine.domain.deployment import Deployment
from engine.domain.ports import Batch, Context
from engine.training.lessons import lessons_for, text_length

_TEXTS, _BATCH = 1024, 16


def observed(deployment: Deployment, context: Context, sentences: int) -> Sequence[Batch]:
    """What calibrates; of an encoder or classifier of texts without what a training of so many `sentences` would hold out, and with some of those."""
    card, material = deployment.card, context.material
    if not sentences or material is None or not card.task.takes_text or card.task is TaskId.CAUSAL_LM:
        return context.calibration
    directory = Path((context.original or deployment.variant).directory)
    length = text_length(card, deployment.workload)
    lessons = lessons_for(card, directory, material, batch_size=_BATCH, length=length, extra=sentences, most=_TEXTS)
    return [{spec.name: batch[spec.name].numpy() for spec in card.inputs} for batch in lessons.train]
