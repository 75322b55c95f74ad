"""From a torch module to what the graph runtimes read: exported programs and ONNX files.

Encoders, classifiers and CNNs are exported once with every named dimension free, so
that the runtime can both fix the workload's shape and answer others. Causal LMs are
exported with their KV cache as inputs and outputs (see `CachedLM`).
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import onnx
import torch
from torch import Tensor

from engine.domain.artifact import ModelCard, TaskId, TensorSpec
from engine.domain.deployment import Deployment
from engine.domain.errors import StageError
from engine.domain.workload import Workload
from engine.runtimes.cached_lm import CachedLM
from engine.tasks.loading import load_module

OPSET = 20


def export_module(deployment: Deployment) -> torch.export.ExportedProgram:
    """The variant's module with free named dimensions; inputs in card order.

    Raises StageError when torch cannot trace it.
    """
    module = load_module(deployment.variant, deployment.card)
    examples = _examples(deployment.card, deployment.workload)
    free = {
        spec.name: {i: torch.export.Dim.AUTO for i, size in enumerate(spec.shape) if isinstance(size, str)}
        for spec in deployment.card.inputs
    }
    with _quiet(), torch.no_grad(), _tracing_errors(deployment.card):
        return torch.export.export(module, examples, dynamic_shapes=tuple(free.values()), strict=False)


def export_lm(deployment: Deployment, flavour: type[CachedLM]) -> tuple[torch.export.ExportedProgram, CachedLM]:
    """A causal LM with its cache as `flavour` keeps it; batch fixed to the workload's.

    Raises StageError when torch cannot trace it.
    """
    lm = flavour(load_module(deployment.variant, deployment.card).model, deployment.workload.batch_size)
    with _quiet(), torch.no_grad(), _tracing_errors(deployment.card):
        exported = torch.export.export(lm, lm.examples(), dynamic_shapes=lm.free_dimensions(), strict=False)
    return exported, lm


def save_onnx(
    exported: torch.export.ExportedProgram, inputs: Sequence[str], outputs: Sequence[str], file: Path
) -> None:
    """Write the program as ONNX; weights beside it in `<file>.data` when they exceed protobuf's 2 GB."""
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            exported, dynamo=True, input_names=list(inputs), output_names=list(outputs), opset_version=OPSET, verbose=False
        )
        assert program is not None
        program.save(str(file), external_data=_weight_bytes(exported) > 2**31 - 2**24)
    onnx.checker.check_model(str(file), full_check=False)


def shape_of(spec: TensorSpec, card: ModelCard, workload: Workload) -> tuple[int, ...]:
    """The shape of an input when the workload is timed: named dimensions get the workload's sizes."""
    return tuple(_size(name, index, card, workload) if isinstance(name, str) else name for index, name in enumerate(spec.shape))


def workload_settings(deployment: Deployment) -> dict[str, str]:
    """The shapes a lowered file was made for, as settings that whoever feeds it later can read."""
    workload, card = deployment.workload, deployment.card
    settings = {"batch_size": str(workload.batch_size)}
    if card.task.takes_text:
        settings["sequence_length"] = str(min(workload.sequence_length, card.max_positions or workload.sequence_length))
    return settings


def _size(name: str, index: int, card: ModelCard, workload: Workload) -> int:
    if index == 0:
        return workload.batch_size
    if card.task is TaskId.IMAGE_CLASSIFIER:
        return card.num_channels if "channel" in name else workload.image_size or card.image_size
    longest = card.max_positions or workload.sequence_length
    return min(workload.sequence_length, longest)


def _examples(card: ModelCard, workload: Workload) -> tuple[Tensor, ...]:
    # torch specialises dimensions of size 0 and 1, so the traced batch has two items
    examples = []
    for spec in card.inputs:
        shape = [max(2, size) if isinstance(spec.shape[i], str) else size for i, size in enumerate(shape_of(spec, card, workload))]
        dtype = torch.float32 if spec.dtype.startswith("float") else torch.int64
        examples.append(torch.ones(shape, dtype=dtype))
    return tuple(examples)


def _weight_bytes(exported: torch.export.ExportedProgram) -> int:
    return sum(t.numel() * t.element_size() for t in exported.state_dict.values())


@contextmanager
def _tracing_errors(card: ModelCard) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError, TypeError, torch._dynamo.exc.TorchDynamoException) as error:
        raise StageError(
            f"The {card.architecture} cannot be exported as a graph.",
            mend="Run it on eager or inductor instead.",
            detail=f"{type(error).__name__}: {error}",
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Exporters narrate and warn about each other's deprecations; neither tells a user anything."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)

