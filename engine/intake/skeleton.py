"""The model's modules without its weights: exact operators, and whether weights and config belong together.

The one part of intake that loads torch; it comes last, so that most bad uploads are
refused without it. No weight is read: tensors of the announced shapes that hold a
single zero stand for them.
"""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers.models.auto import modeling_auto

from engine.domain.artifact import TaskId
from engine.domain.errors import IntakeError
from engine.intake.architectures import unknown
from engine.intake.hostile import reading
from engine.intake.safetensors import TensorHeader

# what does not fit is an error of ours, not a report on standard error
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

_MAPPINGS: dict[TaskId, Any] = {
    TaskId.TEXT_ENCODER: modeling_auto.MODEL_MAPPING,
    TaskId.CAUSAL_LM: modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING,
    TaskId.TEXT_CLASSIFIER: modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    TaskId.IMAGE_CLASSIFIER: modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
}
_SAME_MODEL = "Upload the config.json and all weight files of one and the same model."
_MOST_GROWTH = 100
_SILENT = (nn.Dropout, nn.Identity)
_UNUSED_WHEN_MISSING = {TaskId.TEXT_ENCODER: ("pooler.",)}
"""Weights that no output rests on; files of masked LMs lack them."""


@dataclass(frozen=True, slots=True)
class Skeleton:
    """`parameters`: those the file gives to this class, tied ones once. `unused`: names no module takes."""

    config: Any
    operators: dict[str, int]
    parameters: int
    unused: tuple[str, ...]


def read_config(home: Path, **options: Any) -> Any:
    """transformers' config of a folder, defaults filled in. Raises IntakeError."""
    with reading(
        "The model's configuration cannot be used.", mend="Save the model with save_pretrained of transformers.",
        where="config.json",
    ):  # fmt: skip
        return transformers.AutoConfig.from_pretrained(home, local_files_only=True, trust_remote_code=False, **options)


def model_class(config: Any, task: TaskId) -> Any:
    """The class that is loaded for a task. Raises IntakeError when there is none."""
    try:
        found = _MAPPINGS[task][type(config)]
    except KeyError as error:
        raise unknown(type(config).__name__, config.model_type) from error
    return found[0] if isinstance(found, tuple) else found


def fit(config: Any, task: TaskId, tensors: Mapping[str, TensorHeader]) -> Skeleton:
    """Let transformers match the tensors' names and shapes with the model's. Raises IntakeError when they do not fit."""
    kind = model_class(config, task)
    _refuse_absurd(config, task, tensors)
    stand_ins = {name: torch.zeros(()).expand(t.shape) for name, t in tensors.items()}
    with reading(
        "config.json describes no model that can be built.",
        mend="Check its sizes against the original.",
        where="config.json",
    ):
        model, info = kind.from_pretrained(
            None, config=config, state_dict=stand_ins, dtype=torch.float32, output_loading_info=True,
            ignore_mismatched_sizes=True,
        )  # fmt: skip
    missing = {n for n in info["missing_keys"] if not n.startswith(_UNUSED_WHEN_MISSING.get(task, ()))}
    _refuse_unfit(sorted(missing), sorted(info["mismatched_keys"]))
    absent = set(info["missing_keys"])
    parameters = sum(p.numel() for n, p in model.named_parameters() if n not in absent)
    return Skeleton(config, operators_of(model), parameters, tuple(sorted(info["unexpected_keys"])))


def blank(config: Any, task: TaskId) -> nn.Module:
    """The model on the meta device: modules and shapes, no memory. Raises IntakeError."""
    kind = model_class(config, task)
    with (
        reading("The file describes no model that can be built.", mend="Check its sizes against the original."),
        torch.device("meta"),
    ):
        model: nn.Module = kind(config)
        return model


def operators_of(model: nn.Module) -> dict[str, int]:
    """Types of the modules that compute, to how many there are."""
    leaves = (m for m in model.modules() if not any(m.children()) and not isinstance(m, _SILENT))
    return dict(sorted(Counter(type(m).__name__ for m in leaves).items()))


def _refuse_absurd(config: Any, task: TaskId, tensors: Mapping[str, TensorHeader]) -> None:
    """Before anything of the announced size is made: a few bytes of JSON can ask for terabytes."""
    found = sum(t.elements for t in tensors.values())
    layers = getattr(config, "num_hidden_layers", 0)
    wanted = math.inf
    if not isinstance(layers, int) or layers <= len(tensors):
        wanted = sum(p.numel() for p in blank(config, task).parameters())
    if wanted > _MOST_GROWTH * found:
        raise IntakeError(
            f"config.json describes a model many times larger than the {found:,} weights in the files.",
            mend=_SAME_MODEL,
            where="config.json",
        )


def _refuse_unfit(missing: list[str], mismatched: list[Any]) -> None:
    if mismatched:
        name, found, expected = mismatched[0]
        raise IntakeError(
            f"{len(mismatched)} tensors do not have the shape that config.json asks for: {name} is {list(found)}, "
            f"not {list(expected)}.",
            mend=_SAME_MODEL,
        )
    if missing:
        raise IntakeError(
            f"{len(missing)} tensors that config.json asks for are missing, {missing[0]} first.",
            mend=_SAME_MODEL,
            detail="\n".join(missing),
        )
