"""A plausible history of any length, for benchmarks and page tests.

    from benchmarks.filling import fill_history
    fill_history(storage, runs=100_000)

Everything goes through the storage's public face, so what is stored is what a worker
would have stored, raw samples apart.
"""

from __future__ import annotations

import random
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

from engine.domain.artifact import Artifact, ArtifactFormat, ModelCard, TaskId, TensorSpec
from engine.domain.errors import Problem
from engine.domain.experiment import Experiment, Run, RunStatus, StageFacts
from engine.domain.metrics import METRICS, Measurement, Ratio, Verdict
from engine.domain.workload import Target, TargetMetric, Workload
from storage import Storage

_MODELS = ("all-MiniLM-L6-v2", "SmolLM2-135M", "resnet18-digits", "bert-base-uncased", "distilroberta", "vit-tiny")
_TASKS = (TaskId.TEXT_ENCODER, TaskId.CAUSAL_LM, TaskId.IMAGE_CLASSIFIER, TaskId.TEXT_CLASSIFIER)
_RUNTIMES = ("eager", "inductor", "onnxruntime", "openvino")
_PRUNINGS = (
    "",
    "pruning(sparsity=0.1)",
    "pruning(sparsity=0.5)",
    "pruning(kind=unstructured, sparsity=0.7)",
    "pruning()",
)
_QUANTIZATIONS = ("", "quantization()", "quantization(format=bf16)", "quantization(format=int4, group_size=64)")
_TAGS = ("baseline-study", "nightly", "candidate", "release-1.2", "flaky", "to-discuss", "mei", "omar")
_THEMES = ("latency sweep", "nightly regression", "edge box", "quality check", "int8 on openvino", "customer demo")
_NOTES = (
    "", "", "", "", "Reruns of Friday's numbers, the host was busy.",
    "Looks too good: check the calibration set.", "Candidate for the next release.",
)  # fmt: skip
_ENDS = (RunStatus.SUCCEEDED,) * 17 + (RunStatus.REFUSED, RunStatus.FAILED, RunStatus.CANCELLED)
_RUNS_EACH = 10
_EXPERIMENTS_AT_ONCE = 200
_BEGIN = datetime(2024, 1, 1, tzinfo=UTC)


def fill_history(storage: Storage, runs: int = 100_000, artifacts: int = 40, seed: int = 0) -> None:
    """Store `runs` runs in experiments of ten, spread over two years; the same for the same seed."""
    chance = random.Random(seed)
    models = [_artifact(chance, number) for number in range(artifacts)]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "model.bin").write_bytes(b"no real weights")
        for model in models:
            storage.files.put_directory(model.id, Path(folder))
            storage.artifacts.add(model)
    experiments = _experiments(chance, models, runs)
    while some := list(islice(experiments, _EXPERIMENTS_AT_ONCE)):
        storage.experiments.create_all(some)


def _artifact(chance: random.Random, number: int) -> Artifact:
    name = _MODELS[number % len(_MODELS)]
    card = ModelCard(
        format=ArtifactFormat.HUGGINGFACE,
        task=_TASKS[number % len(_TASKS)],
        architecture="BertModel",
        parameters=22_713_216,
        dtype="float32",
        inputs=(TensorSpec("input_ids", "int64", ("batch", "sequence")),),
    )
    label = name if number < len(_MODELS) else f"{name} finetune {number}"
    return Artifact(_hex(chance, 64), label, 90_000_000 + number, _BEGIN + timedelta(hours=number), card, f"{name}.zip")


def _experiments(chance: random.Random, models: list[Artifact], runs: int) -> Iterator[tuple[Experiment, list[Run]]]:
    minutes = 2 * 365 * 24 * 60 * _RUNS_EACH / max(runs, 1)
    for number, start in enumerate(range(0, runs, _RUNS_EACH)):
        # a few models get most of the attention
        model = models[min(int(chance.expovariate(0.15)), len(models) - 1)]
        experiment = Experiment(
            id=_hex(chance, 32),
            name=f"{chance.choice(_THEMES)} {number}",
            artifact_id=model.id,
            workload=Workload(batch_size=chance.choice((1, 8, 32))),
            created_at=_BEGIN + timedelta(minutes=number * minutes),
            target=Target(TargetMetric.LATENCY, 15.0),
        )
        count = min(_RUNS_EACH, runs - start)
        yield experiment, [_run(chance, experiment, index) for index in range(count)]


def _run(chance: random.Random, experiment: Experiment, index: int) -> Run:
    runtime = chance.choice(_RUNTIMES) if index else "eager"
    techniques = "+".join(t for t in (chance.choice(_PRUNINGS), chance.choice(_QUANTIZATIONS)) if t) if index else ""
    status = chance.choice(_ENDS) if index else RunStatus.SUCCEEDED
    created = experiment.created_at + timedelta(seconds=index)
    run = Run(
        id=_hex(chance, 32),
        experiment_id=experiment.id,
        artifact_id=experiment.artifact_id,
        recipe=f"{techniques}@{runtime}" if index else "",
        runtime=runtime,
        status=status,
        created_at=created,
        name=f"trial {chance.randrange(1000)}" if chance.random() < 0.1 else "",
        notes=chance.choice(_NOTES),
        tags=tuple(chance.sample(_TAGS, chance.choice((0, 0, 0, 1, 2)))),
        attempt=1,
        started_at=created,
        finished_at=created + timedelta(minutes=3),
        facts=tuple(
            StageFacts(t.partition("(")[0], 1.5, {"parameters_before": 22_713_216}) for t in techniques.split("+") if t
        ),
    )
    return _ended(chance, run)


def _ended(chance: random.Random, run: Run) -> Run:
    if run.status is not RunStatus.SUCCEEDED:
        return replace(
            run, problems=(Problem("StageError", "The stage could not do its work.", "Lower the sparsity."),)
        )
    speedup = 1.0 if run.is_baseline else chance.lognormvariate(0.4, 0.5)
    latency = 40.0 / speedup * chance.uniform(0.95, 1.05)
    values = {
        "latency": latency,
        "latency_p90": latency * 1.1,
        "throughput": 1000 / latency,
        "peak_memory": chance.uniform(1e8, 2e9),
        "size": chance.uniform(1e7, 5e8),
        "quality": 1.0 if run.is_baseline else min(1.0, chance.gauss(0.985, 0.02)),
        "cosine": chance.uniform(0.9, 1.0),
    }
    measured = tuple(
        Measurement(name, METRICS[name].unit, value, (value * 0.98, value * 1.02), 64) for name, value in values.items()
    )
    verdict = (
        Verdict.NOT_DISTINGUISHABLE if 0.97 < speedup < 1.03 else Verdict.FASTER if speedup > 1 else Verdict.SLOWER
    )
    return replace(
        run, measurements=measured, speedup=Ratio(speedup, (speedup * 0.97, speedup * 1.03)), verdict=verdict
    )


def _hex(chance: random.Random, digits: int) -> str:
    return uuid.UUID(int=chance.getrandbits(128), version=4).hex * (digits // 32)
