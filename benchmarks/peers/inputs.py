"""What every contestant is given: the model, and the same inputs to time, to calibrate and to score."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.figures import model_of
from engine.data.datasets import parse_dataset
from engine.data.parts import choose_parts
from engine.domain.artifact import ModelCard, TaskId
from engine.domain.codec import as_data
from engine.domain.deployment import Variant
from engine.domain.workload import Workload
from engine.intake.inspection import inspect
from engine.tasks.base import TaskBatch
from engine.tasks.loading import load_module, save_variant
from engine.tasks.registry import task_of

WORKLOADS = {
    "minilm": Workload(batch_size=1, sequence_length=128), "resnet18": Workload(batch_size=1),
    "smollm2": Workload(batch_size=1, sequence_length=128, new_tokens=32),
}  # fmt: skip


def write_inputs(name: str, directory: Path, threads: int) -> tuple[ModelCard, list[TaskBatch], Any]:
    """`family.json` and its .npz files in `directory`; the card, the scored batches and their labels."""
    directory.mkdir(parents=True, exist_ok=True)
    source, data = model_of(name, directory / "source")
    gguf = str(source) if source.suffix == ".gguf" else ""
    model = _as_directory(source, directory / "model") if gguf else source
    card, workload = inspect(model), WORKLOADS[name]
    dataset, calibration = (data.get(option) for option in ("--dataset", "--calibration"))
    parts = choose_parts(card, *(parse_dataset(path) if path else None for path in (dataset, calibration)))
    task = task_of(card)
    scored = task.batches(card, model, workload, parts.scored)
    np.savez(directory / "timed.npz", **task.timed_batch(card, model, workload, parts.scored))
    _save(directory / "scored.npz", scored)
    _save(directory / "calibration.npz", task.batches(card, model, workload, parts.calibration))
    about = {
        "task": str(card.task), "model": str(model), "gguf": gguf, "threads": threads, "new_tokens": workload.new_tokens,
        "outputs": [spec.name for spec in card.outputs], "workload": as_data(workload),
        "dataset_file": str(dataset or ""), "calibration_file": str(calibration or ""),
    }  # fmt: skip
    (directory / "family.json").write_text(json.dumps(about))
    return card, scored, task.labels(card, model, parts.scored)


def _as_directory(gguf: Path, target: Path) -> Path:
    """The GGUF's model in fp32, as every tool but llama.cpp wants it."""
    if not (target / "config.json").exists():
        (upload := target.with_name("upload")).mkdir(exist_ok=True)
        (upload / "model.gguf").unlink(missing_ok=True)
        (upload / "model.gguf").symlink_to(gguf)
        variant = Variant(str(upload))
        save_variant(load_module(variant, inspect(upload)), target, {}, like=variant)
        config = json.loads((target / "config.json").read_text())
        del config["quantization_config"]  # it tells what the weights were
        (target / "config.json").write_text(json.dumps(config))
    return target


def _save(file: Path, batches: list[TaskBatch]) -> None:
    np.savez(file, **{name: np.stack([batch[name] for batch in batches]) for name in batches[0]})


def scored_answers(card: ModelCard, batches: list[TaskBatch], found: dict[str, Any]) -> dict[str, Any]:
    """A contestant's answers as the task scores them."""
    if card.task is TaskId.CAUSAL_LM:
        real = np.concatenate([batch.real[:, 1:] for batch in batches])
        return {"nll": found["nll"], "next": found["next"], "real": real}
    task, name = task_of(card), card.outputs[0].name
    parts = [task.answer({name: outputs}, batch) for outputs, batch in zip(found["outputs"], batches, strict=True)]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
