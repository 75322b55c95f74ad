"""Hugging Face folders: config.json and safetensors of an architecture that is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.domain.artifact import ArtifactFormat, ModelCard, TaskId
from engine.domain.errors import IntakeError
from engine.intake.architectures import FIXED_IMAGE, architecture_of
from engine.intake.cards import image_size_of, signature, sizes_of
from engine.intake.config import CONFIG, read_json
from engine.intake.safetensors import dtype_of, read_headers
from engine.intake.tokenizer import read_tokenizer


def inspect(home: Path) -> ModelCard:
    """The card of the Hugging Face folder `home`. Raises IntakeError."""
    config = read_json(home / CONFIG)
    _refuse_code(config, CONFIG)
    if (home / "tokenizer_config.json").exists():
        _refuse_code(read_json(home / "tokenizer_config.json"), "tokenizer_config.json")
    _refuse_quantized(config)
    architecture, task = architecture_of(config)
    tensors = read_headers(home)
    vocabulary = read_tokenizer(home)

    from engine.intake.skeleton import fit, read_config

    skeleton = fit(read_config(home), task, tensors)
    sizes = sizes_of(skeleton.config, task)
    if task is TaskId.IMAGE_CLASSIFIER:
        sizes["image_size"] = sizes["image_size"] or image_size_of(home)
    inputs, outputs = signature(task, sizes, fixed_image=skeleton.config.model_type in FIXED_IMAGE)
    return ModelCard(
        ArtifactFormat.HUGGINGFACE, task, architecture, skeleton.parameters, dtype_of(tensors), inputs, outputs,
        operators=skeleton.operators, has_tokenizer=vocabulary > 0,
        notes=_notes(task, vocabulary, sizes, skeleton.unused), **sizes,
    )  # fmt: skip


def _refuse_code(data: Any, where: str) -> None:
    if _has_key(data, "auto_map"):
        raise IntakeError(
            "The model asks for its own Python code (auto_map), and code of an upload is never run.",
            mend="If transformers knows the architecture, remove auto_map and set model_type; "
            "else export the model to ONNX where you trust it and upload that.",
            where=where,
        )


def _has_key(data: Any, key: str) -> bool:
    if isinstance(data, dict):
        return key in data or any(_has_key(v, key) for v in data.values())
    return isinstance(data, list) and any(_has_key(v, key) for v in data)


def _refuse_quantized(config: dict[str, Any]) -> None:
    found = config.get("quantization_config")
    if found:
        method = found.get("quant_method", "unknown") if isinstance(found, dict) else "unknown"
        raise IntakeError(
            f"The weights are quantized already ({method}).",
            mend="Upload the original model in floating point; quantization is one of the techniques to choose here.",
            where=CONFIG,
        )


def _notes(task: TaskId, vocabulary: int, sizes: dict[str, int], unused: tuple[str, ...]) -> tuple[str, ...]:
    notes = []
    if unused:
        notes.append(f"{len(unused)} tensors of the file are not used for this task, {unused[0]} first.")
    if task.takes_text and not vocabulary:
        notes.append("There is no tokenizer.json, so the model's own tokens are not known.")
    if vocabulary > sizes["vocab_size"] > 0:
        notes.append(
            f"The tokenizer has {vocabulary:,} tokens and the model only {sizes['vocab_size']:,}: "
            "texts with the last ones would fail."
        )
    if task is TaskId.TEXT_CLASSIFIER and sizes["num_labels"] == 1:
        notes.append("The classifier has a single output (a score, not classes).")
    return tuple(notes)
