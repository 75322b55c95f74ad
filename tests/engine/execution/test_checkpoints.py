"""A training that is ended in its child goes on from its checkpoint when the transform is repeated."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

from engine.domain.experiment import LOSS_CURVE, Progress
from engine.execution.execute import run_experiment
from engine.execution.scratch import CHECKPOINT_SECONDS, checkpoints, sweep
from engine.execution.transforming import training_key
from engine.grammar import parse_recipe
from engine.launch import launch
from engine.settings import Settings
from storage import Storage
from tests.engine.conftest import QUICK, keep
from tests.models import tiny_bert

STEPS = 1000
RECIPE = f"distillation(layers=0.5, steps={STEPS}, sentences=0, learning_rate=0.0001)"


def test_a_cancelled_training_is_gone_on_with(storage: Storage, settings: Settings, tmp_path: Path) -> None:
    artifact = keep(tiny_bert(tmp_path / "bert"), storage)
    workload = replace(QUICK, sequence_length=16, threads=1)
    experiment = launch(storage, None, artifact, workload, [parse_recipe(RECIPE)])
    place = settings.home / "checkpoints" / training_key(artifact, experiment)
    run = next(r for r in storage.runs.of_experiment(experiment.id) if not r.is_baseline)
    steps: list[int] = []

    def watch(_: object, progress: Progress) -> None:
        words = progress.stage.split()
        if "step" in words:
            steps.append(int(words[words.index("step") + 1].rstrip(",")))

    def cancel_once_there_is_a_checkpoint(run: object, progress: Progress) -> None:
        watch(run, progress)
        if len(list(place.glob("*/last"))) and not storage.experiments.cancel_requested(experiment.id):
            storage.experiments.request_cancel(experiment.id)

    run_experiment(experiment.id, storage, settings, cancel_once_there_is_a_checkpoint)
    assert storage.runs.get(run.id).status == "cancelled"
    assert 0 < max(steps) < STEPS, "it was ended on its way"

    steps.clear()
    for each in storage.runs.of_experiment(experiment.id):
        storage.runs.requeue(each.id)
    run_experiment(experiment.id, storage, settings, watch)
    finished = storage.runs.get(run.id)
    assert finished.status == "succeeded", finished.problems
    assert min(steps) >= STEPS // 5, "what was done is not done again"
    (curve,) = storage.runs.attachments(run.id)[LOSS_CURVE]
    assert [point["step"] for point in curve["points"]] == [STEPS // 5 * look for look in range(6)]


def test_checkpoints_are_swept_a_week_after_their_last_use(settings: Settings) -> None:
    old, used = checkpoints(settings, "old"), checkpoints(settings, "used")
    long_ago = time.time() - CHECKPOINT_SECONDS - 60
    for path in (old, used):
        os.utime(path, (long_ago, long_ago))
    assert checkpoints(settings, "used") == used
    sweep(settings)
    assert used.exists()
    assert not old.exists()
