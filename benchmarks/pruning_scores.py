"""What each score of importance leaves of MiniLM when it is cut and not trained.

    python -m benchmarks.pruning_scores

Cosine to the whole model on the built-in scored texts; calibration on the built-in calibration texts.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.figures import model_of
from engine.data.probes import CALIBRATION, SCORED, probe_texts
from engine.domain.deployment import Deployment, Variant
from engine.domain.metrics import QUALITY
from engine.domain.ports import Array, Context, Outputs
from engine.domain.recipe import RuntimeId
from engine.domain.workload import Workload
from engine.intake.inspection import inspect
from engine.tasks.base import Task, TaskBatch, gather
from engine.tasks.loading import load_module
from engine.tasks.registry import task_of
from engine.tasks.traceable import Traceable
from engine.techniques.pruning.apply import Pruning
from engine.techniques.pruning.spec import PruningConfig

CUTS = (("ffn", 0.3), ("ffn", 0.5), ("heads", 0.25), ("layers", 0.33))
CHOICES = (("magnitude", "equal"), ("activation", "equal"), ("activation", "global"), ("activation", "sensitivity"), ("taylor", "equal"))
WORKLOAD = Workload(batch_size=16, sequence_length=128)


def main() -> None:
    directory, _ = model_of("minilm", Path())
    card, variant = inspect(directory), Variant(str(directory))
    task = task_of(card)
    scored, calibration = (task.batches(card, directory, WORKLOAD, probe_texts(part)) for part in (SCORED, CALIBRATION))
    whole = answers(load_module(variant, card), task, scored)
    print("| target | sparsity | importance | ratios | cosine |\n|---|--:|---|---|--:|")
    for target, sparsity in CUTS:
        for importance, ratios in CHOICES if target != "layers" else (("magnitude", "equal"),):
            config = PruningConfig.of({"target": target, "sparsity": sparsity, "importance": importance, "ratios": ratios})
            with tempfile.TemporaryDirectory() as scratch:
                context = Context(Path(scratch), calibration, lambda _: None, 1)
                applied = Pruning().apply(Deployment(card, variant, RuntimeId.EAGER, WORKLOAD), config, context)
                score = task.score(whole, answers(load_module(applied.deployment.variant, card), task, scored), None)
            quality = next(m.median for m in score if m.name == QUALITY.name)
            print(f"| {target} | {sparsity:.0%} | {importance} | {ratios} | {quality:.4f} |", flush=True)


def answers(module: Traceable, task: Task, batches: Sequence[TaskBatch]) -> Outputs:
    """A text encoder's to all of `batches`."""
    return gather([task.answer({"last_hidden_state": _states(module, batch)}, batch) for batch in batches])


@torch.inference_mode()
def _states(module: Traceable, batch: TaskBatch) -> Array:
    states: Array = module(*(torch.from_numpy(batch[name]) for name in module.inputs))[0].numpy()
    return states


if __name__ == "__main__":
    main()
