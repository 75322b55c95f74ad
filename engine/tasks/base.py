"""What every task answers. Numpy only.

Shapes are fixed: each batch, timed or scored or calibrating, has exactly the
workload's shape, so that a runtime may lower at that shape. Short texts are padded and
masked, long ones cut; a last batch that is not full is filled up with copies of its
items, and `answer` drops the filling.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from engine.data.items import Items
from engine.domain.artifact import ModelCard, TaskId, TensorSpec
from engine.domain.errors import StageError
from engine.domain.metrics import Measurement, Metric
from engine.domain.ports import Array, Outputs
from engine.domain.workload import Workload


class TaskBatch(dict[str, Array]):
    """Model inputs by name (the card's), and beside them what only scoring needs.

    `real` is bool (batch,), False on rows that only fill the batch up; a causal LM's is
    (batch, sequence). `pooling` is how a text encoder's tokens become one embedding and
    `mask` (batch, sequence) which of them count.
    """

    def __init__(self, inputs: Mapping[str, Array], real: Array, mask: Array | None = None, pooling: str = "mean") -> None:
        super().__init__(inputs)
        self.real = real
        self.mask = mask
        self.pooling = pooling


class Task(Protocol):
    """What a model is for: it makes batches of real items and scores answers to them.

    `variant_dir` is any directory with the model's tokenizer and preprocessor files.
    """

    @property
    def id(self) -> TaskId: ...

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The first is the headline that `quality` is derived from."""
        ...

    def timed_batch(self, card: ModelCard, variant_dir: Path, workload: Workload, items: Items) -> TaskBatch:
        """What is timed: real items, exactly batch_size × sequence_length tokens, none of them padding.

        Raises StageError when the model cannot take this workload.
        """
        ...

    def batches(self, card: ModelCard, variant_dir: Path, workload: Workload, items: Items) -> list[TaskBatch]:
        """All items in order, for scoring or calibration. Raises StageError."""
        ...

    def answer(self, outputs: Outputs, batch: TaskBatch) -> Outputs:
        """Reduce a batch's outputs to what scoring needs; the first axis is the real items."""
        ...

    def labels(self, card: ModelCard, variant_dir: Path, items: Items) -> Array | None:
        """Labels as `score` takes them (class ids, similarities). Raises StageError for unknown class names."""
        ...

    def score(self, reference: Outputs, answers: Outputs, labels: Array | None) -> list[Measurement]:
        """Quality against the baseline's answers (gathered over all batches), QUALITY among it.

        The baseline is scored against itself. Intervals are 95 % bootstrap over items.
        """
        ...


def gather(answers: Sequence[Outputs]) -> Outputs:
    """The answers of all batches as one. At least one batch."""
    return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}


def filled_rows(count: int, batch_size: int) -> Iterator[tuple[Array, Array]]:
    """(which items, which rows are real) of each batch over `count` items."""
    for start in range(0, count, batch_size):
        places = np.arange(start, start + batch_size)
        real = places < count
        yield np.where(real, places, start + (places - start) % int(real.sum())), real


def fitted(card: ModelCard, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The card's inputs out of `inputs`, in its number formats. Raises StageError where a fixed size differs."""
    chosen: dict[str, Array] = {}
    for spec in card.inputs:
        if spec.name not in inputs:
            raise StageError(
                f"Nothing is known to feed the input {spec.name} with.",
                mend=f"Give an .npz dataset with an array named {spec.name}.",
            )
        array = inputs[spec.name]
        _check_shape(spec, array)
        chosen[spec.name] = np.ascontiguousarray(array.astype(numpy_type(spec.dtype), copy=False))
    return chosen


def numpy_type(dtype: str) -> np.dtype[np.generic]:
    """Of a card's number format. Raises StageError for one that numpy lacks."""
    try:
        return np.dtype({"float": "float32", "double": "float64", "int": "int32"}.get(dtype, dtype))
    except TypeError as error:
        raise StageError(f"Inputs of type {dtype} are not supported.", mend="Export the model with float32 inputs.") from error


def _check_shape(spec: TensorSpec, array: Array) -> None:
    fits = len(spec.shape) == array.ndim and all(
        not isinstance(size, int) or size <= 0 or size == actual
        for size, actual in zip(spec.shape, array.shape, strict=False)
    )
    if not fits:
        wanted = " × ".join(str(size) for size in spec.shape)
        given = " × ".join(str(size) for size in array.shape)
        raise StageError(
            f"{spec.name} is {given}, the model takes {wanted}.",
            mend="Choose the workload's sizes to match, or export the model with dynamic sizes.",
        )
