"""The five tasks, listed by hand."""

from __future__ import annotations

from engine.domain.artifact import ModelCard
from engine.tasks.base import Task
from engine.tasks.causal_lm import CausalLM
from engine.tasks.image_classifier import ImageClassifier
from engine.tasks.tensors import Tensors
from engine.tasks.text_classifier import TextClassifier
from engine.tasks.text_encoder import TextEncoder

TASKS: tuple[Task, ...] = (CausalLM(), TextEncoder(), TextClassifier(), ImageClassifier(), Tensors())


def task_of(card: ModelCard) -> Task:
    """The task of a model."""
    return next(task for task in TASKS if task.id is card.task)
