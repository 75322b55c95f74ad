"""The story of a run, in its child: rewrite, lower; then open, warm up, take turns, answer.

    artifact ─ stage ─ stage ─ … ─ lower ─▶ files        transform
    files ─ open ─ warm up ─ round ─ round ─ … ─ answers  MeasureSession
"""

from __future__ import annotations

import gc
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import cast

import numpy as np

from engine.catalogue import spec_of
from engine.data.datasets import parse_dataset
from engine.data.items import Items
from engine.data.parts import Parts, choose_parts
from engine.domain.artifact import ModelCard, TaskId
from engine.domain.deployment import Deployment, Lowered, Variant
from engine.domain.errors import StageError
from engine.domain.evidence import Examined
from engine.domain.experiment import LOSS_CURVE, Attachment, Progress, StageFacts
from engine.domain.load import LoadResult, Pattern
from engine.domain.metrics import DEVICE_LATENCY, Measurement, Provenance
from engine.domain.plan import Plan, Stage
from engine.domain.ports import (
    Array,
    Batch,
    Computing,
    Context,
    Executor,
    Material,
    Outputs,
    Reshaping,
    Runtime,
    Technique,
)
from engine.domain.recipe import Choice
from engine.domain.workload import Workload
from engine.executors.opening import open_lowered
from engine.executors.spread.executor import SpreadExecutor, of_one_replica
from engine.executors.spread.serving import Serving
from engine.grammar import parse_recipe
from engine.hardware.operators import Network
from engine.measure.clock import WARM_SECONDS, Call, calls_of, take_turn, time_calls
from engine.measure.counting import Counting
from engine.measure.loading import load, one_call_at_a_time
from engine.measure.memory import Growth
from engine.plan import make_plan
from engine.profiling.examine import examine
from engine.requests import (
    AnswersResult,
    ComputeRequest,
    ComputeResult,
    OpenRequest,
    OpenResult,
    OperatorsRequest,
    RoundResult,
    TransformRequest,
    TransformResult,
)
from engine.runtimes.registry import runtime_of
from engine.tasks.base import gather
from engine.tasks.companions import copy_companions
from engine.tasks.registry import task_of

Report = Callable[[Progress], None]


def transform(request: TransformRequest, report: Report, *, prove: bool = True) -> TransformResult:
    """Carry out a recipe: its techniques in the plan's order, then the runtime's lowering.

    prove: a spread model is opened here and held against one process; False: the caller does so.

    Raises StageError (NothingChanged among them) with the stage in `where`.
    """
    plan = _plan(request, request.card)
    deployment = Deployment(request.card, Variant(request.artifact_dir), plan.runtime, request.workload)
    calibration, material = _calibration(request, request.workload)
    facts: list[StageFacts] = []
    for position, stage in enumerate(plan.stages):
        context = _context(request, plan, position, stage.title, calibration, material, report)
        with _working(stage.title) as elapsed:
            applied = _technique(stage).apply(deployment, stage.config, context)
        facts.append(replace(applied.facts, seconds=elapsed()))
        deployment = applied.deployment
    if deployment.workload != request.workload:  # a replica's share of the batch
        calibration, _ = _calibration(request, deployment.workload)
    where, lowering_by = _lowering(plan)
    context = _context(request, plan, len(plan.stages), where, calibration, material, report)
    with _working(where) as elapsed:
        lowered = lowering_by.lower(deployment, context)
    copy_companions(Path(deployment.variant.directory), Path(lowered.directory))
    lowering = replace(lowered.facts, seconds=elapsed())
    lowered = replace(lowered, facts=lowering, layout=deployment.layout, placement=deployment.placement)
    opened = plan.provenance is Provenance.MEASURED and lowered.layout.is_spread
    proof = _proof(request, lowered, calibration, report) if prove and opened else ()
    return TransformResult((*_curves_together(facts), lowering, *proof), lowered)


def operators(request: OperatorsRequest, report: Report) -> Network:
    """The operators of a model as it is, or as a recipe that rewrites its shapes would leave it; nothing is trained.

    Raises StageError when it cannot be rewritten or traced.
    """
    # loads torch, which measuring on other runtimes does without
    from engine.hardware.tracing import network_of

    variant = Variant(request.artifact_dir)
    if request.rewrites:
        assert request.host is not None
        variant = _reshaped(
            TransformRequest(
                request.artifact_dir, request.card, request.rewrites, request.workload, "", request.scratch_dir, request.host,
                request.threads,
            ),
            report,
        )  # fmt: skip
    return network_of(variant, request.card, request.workload)


def _reshaped(request: TransformRequest, report: Report) -> Variant:
    plan = _plan(request, request.card)
    deployment = Deployment(request.card, Variant(request.artifact_dir), plan.runtime, request.workload)
    calibration, material = _calibration(request, request.workload)
    for position, stage in enumerate(plan.stages):
        context = _context(request, plan, position, stage.title, calibration, material, report)
        technique = _technique(stage)
        assert hasattr(technique, "reshape")
        with _working(stage.title):
            deployment = deployment.with_(variant=cast(Reshaping, technique).reshape(deployment, stage.config, context))
    return deployment.variant


class MeasureSession:
    """A lowered model opened and warm, as a user would call it. `opened` is how that went."""

    def __init__(self, request: OpenRequest) -> None:
        if request.pinned:
            # before any library makes its threads, which inherit it
            os.sched_setaffinity(0, request.pinned)
        self._request = request
        self._task = task_of(request.card)
        self._items = _parts(request.card, request.dataset_file, request.calibration_file).scored
        self._growth = Growth()
        began = time.perf_counter()
        self._executor = open_lowered(request)
        open_seconds = time.perf_counter() - began
        self._growth.opened()
        batch = self._task.timed_batch(request.card, Path(request.lowered.directory), request.workload, self._items)
        self._batch = batch
        self._call = _call(self._executor, request, batch)
        first, *warmup = time_calls(self._call, request.workload.warmup_calls + 1, WARM_SECONDS)
        self._growth.warm()
        gc.collect()
        gc.freeze()  # what lives by now stays: collections before each turn need not walk it
        self.opened = OpenResult(open_seconds, first["latency"], tuple(w["latency"] for w in warmup))
        self._counting = Counting(request.threads)

    def round(self, seconds: float) -> RoundResult:
        """One turn: at least `seconds` of calls, raw samples by metric name in ms."""
        with self._counting.turn():
            samples = take_turn(self._call, seconds, typical=self._typical)
        device = getattr(self._executor, "device_ms", 0.0)  # of the turn's last call
        extra = {DEVICE_LATENCY.name: (device,)} if device else {}
        return RoundResult(samples | extra, calls_of(samples, self._typical))

    @property
    def _typical(self) -> float:
        return float(np.median(self.opened.warmup))

    def answers(self, reference_file: str | None) -> AnswersResult:
        """Answer all scored items on the very path that is timed, keep and score the answers.

        reference_file: the baseline's answers; None scores them against themselves.
        Raises StageError when they hold numbers that are not finite.
        """
        path, quality = _answer(self._executor, self._request, self._items, reference_file)
        elsewhere = self._executor.bytes_elsewhere() if isinstance(self._executor, SpreadExecutor) else 0
        return AnswersResult(str(path), quality, elsewhere_bytes=elsewhere)

    def load(self) -> LoadResult:
        """The load that the workload's pattern asks for; replicas gather single queries by themselves."""
        workload = self._request.workload
        alone = one_call_at_a_time(self._call, workload.batch_size)
        if self._request.lowered.layout.replicas == 1 or workload.pattern not in (Pattern.SERVER, Pattern.OFFLINE):
            return load(alone, workload, self._typical)
        assert isinstance(self._executor, SpreadExecutor)
        serving = Serving(self._executor, self._request, self._batch)
        with closing(serving):
            found = load(serving.server, workload, self._typical)
        return replace(found, remarks=(*found.remarks, serving.remark()))

    def examine(self) -> Examined:
        """Where the time goes and what was counted. The model may be slower afterwards: time nothing more."""
        request, batch = self._request, self._batch
        return examine(
            self._executor, request, batch, lambda executor: _call(executor, request, batch)(), self._typical,
            self._counting.counters(), self._growth,
        )  # fmt: skip


def compute(request: ComputeRequest) -> ComputeResult:
    """The numbers of a plan whose hardware is not here, and the quality of what answers as it would.

    Raises StageError when they cannot be computed.
    """
    # lowered at one replica's share, and answered so
    lowered, opening = request.open.lowered, of_one_replica(request.open)
    stage = _computing_stage(_plan(request, opening.card))
    computed = _computing(stage).compute(lowered, stage.config, opening.card, opening.workload, opening.threads)
    quality: tuple[Measurement, ...] = ()
    if computed.executor is not None:
        items = _parts(opening.card, opening.dataset_file, opening.calibration_file).scored
        _, quality = _answer(computed.executor, opening, items, request.reference_file)
    return ComputeResult((*computed.measurements, *quality), computed.attachments, computed.remarks)


def _plan(request: TransformRequest | ComputeRequest, card: ModelCard) -> Plan:
    others = request.models if isinstance(request, TransformRequest) else {}
    plan = make_plan(parse_recipe(request.recipe), card, request.host, {name: model.card for name, model in others.items()})
    if not plan.runs:
        raise StageError("This recipe cannot run here.", mend=" ".join(map(str, plan.refusals)), where="plan")
    return plan


def _technique(stage: Stage) -> Technique:
    module, _, name = spec_of(stage.technique).implementation.partition(":")
    technique: Technique = getattr(import_module(module), name)()
    return technique


def _lowering(plan: Plan) -> tuple[str, Runtime | Computing]:
    """Who makes the files that are opened, and its name."""
    if plan.provenance is Provenance.MEASURED:
        return str(plan.runtime), runtime_of(plan.runtime)
    stage = _computing_stage(plan)
    return stage.title, _computing(stage)


def _computing_stage(plan: Plan) -> Stage:
    """The stage whose technique computes the numbers: the placement, which comes after what it places."""
    return next(stage for stage in plan.stages if stage.provenance is plan.provenance)


def _computing(stage: Stage) -> Computing:
    technique = _technique(stage)
    assert hasattr(technique, "compute")
    return cast(Computing, technique)


def _answer(
    executor: Executor, request: OpenRequest, items: Items, reference_file: str | None
) -> tuple[Path, tuple[Measurement, ...]]:
    """Answer all scored items, keep the answers, score them against the reference (None: themselves)."""
    task, directory = task_of(request.card), Path(request.lowered.directory)
    batches = task.batches(request.card, directory, request.workload, items)
    answers = gather([task.answer(executor.infer(batch), batch) for batch in batches])
    _demand_finite(answers)
    path = Path(request.scratch_dir) / "answers.npz"
    np.savez(path, **answers)  # type: ignore[arg-type]
    reference = _load(Path(reference_file)) if reference_file else answers
    return path, tuple(task.score(reference, answers, task.labels(request.card, directory, items)))


def _context(
    request: TransformRequest, plan: Plan, position: int, title: str, calibration: Sequence[Batch], material: Material,
    report: Report,
) -> Context:  # fmt: skip
    """A stage's own directory, and a report whose fractions are of the whole."""
    count = len(plan.stages) + 1
    name = f"{position + 1}-{title.lower().replace(' ', '-')}"
    scratch = Path(request.output_dir) / name
    scratch.mkdir()
    checkpoints = Path(request.checkpoint_dir) / _prefix(plan, position) if request.checkpoint_dir else None

    def whole(progress: Progress) -> None:
        report(Progress(progress.stage, (position + progress.fraction) / count))

    whole(Progress(title, 0.0))
    original = Variant(request.artifact_dir)
    figures = Path(request.figures_dir) if request.figures_dir else None
    return Context(scratch, calibration, whole, request.threads, original, material, checkpoints, request.models, figures)


def _curves_together(facts: Sequence[StageFacts]) -> list[StageFacts]:
    """A run has one attachment of a kind: the loss curves of several trained stages become the last one's."""
    curves = [curve for stage in facts for each in stage.attachments if each.kind == LOSS_CURVE for curve in each.data]
    last = max((i for i, stage in enumerate(facts) if any(a.kind == LOSS_CURVE for a in stage.attachments)), default=-1)
    joined = []
    for place, stage in enumerate(facts):
        others = tuple(each for each in stage.attachments if each.kind != LOSS_CURVE)
        own = (Attachment(LOSS_CURVE, curves),) if place == last else ()
        joined.append(replace(stage, attachments=(*others, *own)))
    return joined


def _prefix(plan: Plan, position: int) -> str:
    """A folder's name for what the stages up to this one make of the artifact, whatever runtime follows."""
    spelled = "+".join(str(Choice(stage.technique, stage.config)) for stage in plan.stages[: position + 1])
    return hashlib.sha256(spelled.encode()).hexdigest()[:16]


@contextmanager
def _working(where: str) -> Iterator[Callable[[], float]]:
    """Yields the seconds since the beginning; errors of a stage name the stage."""
    began = time.perf_counter()
    try:
        yield lambda: time.perf_counter() - began
    except StageError as error:
        error.where = error.where or where
        raise


def _proof(
    request: TransformRequest, lowered: Lowered, calibration: Sequence[Batch], report: Report
) -> tuple[StageFacts, ...]:
    """Of a spread model: that it answers as one process does."""
    from engine.executors.spread.proof import batch_for, prove

    report(Progress("Comparing with one process", 0.9))
    opening = OpenRequest(lowered, request.artifact_dir, request.card, request.workload, "", request.threads)
    with _working("spreading"):
        return (prove(opening, batch_for(calibration, request.workload.batch_size)),)


def _calibration(request: TransformRequest, workload: Workload) -> tuple[Sequence[Batch], Material]:
    """What calibrates: as batches of the workload's shape, and as it is."""
    card, directory, task = request.card, Path(request.artifact_dir), task_of(request.card)
    parts = _parts(card, request.dataset_file, request.calibration_file)
    items = parts.calibration
    labels = task.labels(card, directory, items) if items.labelled and not items.pairs else None
    material = Material(texts=items.flat_texts, arrays=items.arrays, labels=labels, scored_texts=parts.scored.flat_texts)
    return task.batches(card, directory, workload, items), material


def _parts(card: ModelCard, dataset_file: str, calibration_file: str) -> Parts:
    dataset, calibration = (parse_dataset(Path(f)) if f else None for f in (dataset_file, calibration_file))
    return choose_parts(card, dataset, calibration)


def _call(executor: Executor, request: OpenRequest, batch: Batch) -> Call:
    """What is timed: one inference, or one whole generation of a causal LM."""
    new_tokens = request.workload.new_tokens

    def infer() -> None:
        executor.infer(batch)

    def generate() -> Sequence[float]:
        return executor.generate(batch["input_ids"], new_tokens).token_times

    return generate if request.card.task is TaskId.CAUSAL_LM else infer


def _demand_finite(answers: Outputs) -> None:
    for name, values in answers.items():
        if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
            share = float(np.mean(~np.isfinite(values)))
            raise StageError(
                f"{share:.1%} of the model's {name} are not finite numbers (NaN or infinite).",
                mend="Choose a gentler recipe or another number format.", where="answers",
            )  # fmt: skip


def _load(path: Path) -> dict[str, Array]:
    with np.load(path, allow_pickle=False) as stored:
        return dict(stored)
