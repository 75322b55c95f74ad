"""A finished experiment with invented numbers, for tests of pages; nothing here is a result."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from engine.domain.artifact import Artifact, ArtifactFormat, ModelCard, TaskId, TensorSpec
from engine.domain.codec import as_data
from engine.domain.errors import Problem
from engine.domain.experiment import Attachment, Experiment, Round, Run, RunStatus, StageFacts
from engine.domain.host import Environment
from engine.domain.load import LoadPoint, LoadResult, Pattern
from engine.domain.metrics import Measurement, Ratio, Verdict
from engine.domain.noise import NOISE, RoundNoise, SelfCheck, SeriesNoise
from engine.domain.operators import OVERHEAD, OperatorTime, profile_of
from engine.domain.workload import Target, TargetMetric, Workload
from storage import Storage

CARD = ModelCard(
    ArtifactFormat.HUGGINGFACE, TaskId.TEXT_ENCODER, "BertModel", 22_713_216, "float32",
    inputs=(TensorSpec("input_ids", "int64", ("batch", "sequence")), TensorSpec("attention_mask", "int64", ("batch", "sequence"))),
    outputs=(TensorSpec("last_hidden_state", "float32", ("batch", "sequence", 384)),),
    operators={"Linear": 37, "LayerNorm": 13}, hidden_size=384, intermediate_size=1536, num_layers=6, num_heads=12,
    vocab_size=30522, max_positions=512, has_tokenizer=True,
)  # fmt: skip
ENVIRONMENT = Environment(
    "lab", "AMD EPYC", 2, 24 * 2**30, "6.1", "3.11", ("avx2", "fma"), 2, "performance", "full", {"torch": "2.13.0", "openvino": "2026.4.1"}
)  # fmt: skip
INVENTED = (
    ("@openvino", "openvino", 1.52, 1.0, Verdict.FASTER),
    ("@onnxruntime", "onnxruntime", 1.28, 1.0, Verdict.FASTER),
    ("quantization(format=int8)@openvino", "openvino", 3.87, 0.9965, Verdict.FASTER),
    ("quantization(format=int8)@onnxruntime", "onnxruntime", 2.70, 0.992, Verdict.FASTER),
    ("quantization(format=int8)@inductor", "inductor", 2.26, 0.998, Verdict.FASTER),
    ("pruning(sparsity=0.3)@openvino", "openvino", 1.74, 0.864, Verdict.FASTER),
    ("pruning(kind=unstructured, sparsity=0.3)", "eager", 1.0, 0.995, Verdict.NOT_DISTINGUISHABLE),
    ("pruning(sparsity=0.3)+quantization(format=int8)@openvino", "openvino", 4.36, 0.871, Verdict.FASTER),
)


def seed_artifact(storage: Storage, name: str = "MiniLM-L6", card: ModelCard = CARD) -> Artifact:
    identity = uuid4().hex * 2
    with TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text("{}")
        storage.files.put_directory(identity, Path(folder))
    return storage.artifacts.add(Artifact(identity, name, 90_868_376, datetime.now(UTC), card, "sample"))


NOISE_SEEN = SeriesNoise(
    1, 2, 2,
    tuple(RoundNoise(i, (4.0, 4.5 if i == 2 else 4.1), 0.9 if i in (1, 2) else 0.1, 0.0, 2000.0, 24) for i in range(10)),
    band=0.019, blocks=10, partner=Ratio(1.004, (0.996, 1.012)),
    check=SelfCheck(Ratio(0.997, (0.985, 1.008)), Verdict.NOT_DISTINGUISHABLE),
)  # fmt: skip


def seed_experiment(
    storage: Storage, artifact: Artifact, *, finished: bool = True, environment: Environment = ENVIRONMENT
) -> Experiment:
    """The invented runs above, one refused and one failed; unfinished: all of them queued."""
    experiment = Experiment(
        uuid4().hex, "MiniLM-L6, batch 1, 128 tokens", artifact.id, Workload(pattern=Pattern.SERVER), datetime.now(UTC),
        target=Target(TargetMetric.LATENCY, 15.0),
    )  # fmt: skip
    texts = [("", "eager"), *((recipe, runtime) for recipe, runtime, *_ in INVENTED), ("@inductor", "inductor")]
    runs = [_run(experiment, artifact, text, runtime) for text, runtime in texts]
    refused = _run(experiment, artifact, "quantization(format=bf16)@onnxruntime", "onnxruntime", RunStatus.REFUSED)
    storage.experiments.create(experiment, [*runs, refused])
    if finished:
        for run, numbers in zip(runs, [("", "eager", 1.0, 1.0, None), *INVENTED], strict=False):
            _finish(storage, run, *numbers[2:], environment)
        _fail(storage, runs[-1])
    return experiment


def _run(experiment: Experiment, artifact: Artifact, recipe: str, runtime: str, status: RunStatus = RunStatus.QUEUED) -> Run:
    problems = (Problem("Refused", "onnxruntime has no bf16 for a text encoder.", "Choose @openvino."),)
    return Run(
        uuid4().hex, experiment.id, artifact.id, recipe, runtime, status, datetime.now(UTC),
        problems=problems if status is RunStatus.REFUSED else (),
    )  # fmt: skip


def _finish(storage: Storage, run: Run, speedup: float, quality: float, verdict: Verdict | None, environment: Environment) -> None:
    attempt = storage.runs.start(run.id)
    latency = 48.2 / speedup
    samples = tuple(latency * (1 + 0.01 * ((7 * i) % 11 - 5)) for i in range(40))
    storage.runs.record_stage(
        run.id, attempt,
        (StageFacts("pruning", 2.1, {"parameters_before": 22_713_216, "parameters_after": 19_173_504, "ffn_width_after": 1072}),),
        "", 0,
    )  # fmt: skip
    products = 30.0 / speedup
    profile = profile_of(
        "openvino" if run.recipe else "torch.profiler",
        [
            *(OperatorTime(type="linear", name=f"encoder.layer.{i}", layer=f"encoder.layer.{i}", calls=6, ms=products / 6, precision="fp32", shapes=((1, 128, 384), (384, 384))) for i in range(6)),
            OperatorTime(type="softmax", name="attention", calls=6, ms=6.0),
            OperatorTime(type=OVERHEAD, name=OVERHEAD, calls=1, ms=2.0),
        ],
        10,
    )
    load = LoadResult(
        pattern=Pattern.SERVER, bound_ms=100.0,
        points=tuple(
            LoadPoint(throughput=share * speedup * 20, rate=share * speedup * 20, latencies={50: latency, 90: latency / (1.05 - share)}, queries=64, seconds=2.0, meets=share < 0.7)
            for share in (0.4, 0.6, 0.8)
        ),
    )  # fmt: skip
    storage.runs.record_attachments(run.id, attempt, [Attachment("operators", as_data(profile)), Attachment("load", as_data(load))])
    for index in range(3):
        storage.runs.record_round(Round(run.id, 1, index, {"latency": samples}), attempt)
    storage.runs.record_attachments(run.id, attempt, [Attachment(NOISE, as_data(NOISE_SEEN))])
    storage.runs.finish(
        run.id, attempt, RunStatus.SUCCEEDED,
        measurements=(
            Measurement("latency", "ms", latency, (latency * 0.98, latency * 1.02), 120),
            Measurement("throughput", "items/s", 1000 / latency, (980 / latency, 1020 / latency), 120),
            Measurement("peak_memory", "bytes", 412e6 / speedup**0.5, None, 1),
            Measurement("size", "bytes", 90e6 / (speedup if quality < 1 else 1), None, 1),
            Measurement("quality", "ratio", quality, (quality - 0.001, min(1.0, quality + 0.001)), 256),
            Measurement("cosine", "ratio", quality, (quality - 0.001, min(1.0, quality + 0.001)), 256),
        ),
        speedup=Ratio(speedup, (speedup * 0.97, speedup * 1.03)) if run.recipe else None,
        verdict=verdict, remarks=(), problems=(), environment=environment,
    )  # fmt: skip


def _fail(storage: Storage, run: Run) -> None:
    storage.runs.finish(
        run.id, storage.runs.start(run.id), RunStatus.FAILED, measurements=(), speedup=None, verdict=None, remarks=(),
        problems=(Problem("StageError", "The compiler ran out of memory.", "Use a smaller batch.", "inductor"),),
        environment=ENVIRONMENT,
    )  # fmt: skip
