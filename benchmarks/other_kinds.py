"""What recovery brings on texts unlike those it learns from: documentation alone, and documentation of which most is random words.

    python -m benchmarks.other_kinds TEXTS.json [--steps 600]

TEXTS.json: {kind: [text, …]}, nothing that is trained on or scored. Cosine to the whole model, MiniLM with 70 % of its
neurons. Training is bound by steps, not time, so that a busy machine gives the same figures.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from benchmarks.figures import model_of
from benchmarks.pruning_scores import WORKLOAD, answers
from engine.data.items import Items
from engine.data.probes import CALIBRATION, SCORED, probe_texts
from engine.domain.deployment import Deployment, Variant
from engine.domain.metrics import QUALITY
from engine.domain.ports import Context, Material
from engine.domain.recipe import RuntimeId
from engine.intake.inspection import inspect
from engine.tasks.loading import load_module
from engine.tasks.registry import task_of
from engine.techniques.pruning.apply import Pruning
from engine.techniques.pruning.spec import PruningConfig
from engine.training import lessons

TRAININGS = {"none": None, "documentation alone": 1, "random words too": lessons.LEFT}
"""By name, of how many added sentences one stays as it is; None: no training."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--steps", type=int, default=600)
    options = parser.parse_args()
    directory, _ = model_of("minilm", Path())
    card, variant = inspect(directory), Variant(str(directory))
    task, calibration, scored = task_of(card), probe_texts(CALIBRATION), probe_texts(SCORED)
    observed = task.batches(card, directory, WORKLOAD, calibration)
    kinds = {
        kind: task.batches(card, directory, WORKLOAD, Items(texts=tuple(texts))) for kind, texts in json.loads(options.texts.read_text()).items()
    }
    whole = load_module(variant, card)
    wanted = {kind: answers(whole, task, batches) for kind, batches in kinds.items()}
    print(f"| training | held out | {' | '.join(kinds)} |\n|---|--:|{'--:|' * len(kinds)}")
    for name, stride in TRAININGS.items():
        lessons.LEFT = stride or lessons.LEFT
        config = PruningConfig.of({"sparsity": 0.3, "recover": stride is not None, "steps": options.steps, "minutes": 600.0})
        with tempfile.TemporaryDirectory() as scratch:
            context = Context(Path(scratch), observed, lambda _: None, 1, variant, Material(texts=calibration.texts, scored_texts=scored.texts))
            applied = Pruning().apply(Deployment(card, variant, RuntimeId.EAGER, WORKLOAD), config, context)
            student = load_module(applied.deployment.variant, card)
        found = [
            next(m.median for m in task.score(wanted[kind], answers(student, task, batches), None) if m.name == QUALITY.name)
            for kind, batches in kinds.items()
        ]
        held = applied.facts.facts.get("held_out_after", "")
        print(f"| {name} | {held} | {' | '.join(f'{value:.4f}' for value in found)} |", flush=True)


if __name__ == "__main__":
    main()
