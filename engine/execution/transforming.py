"""The transform phase of a run: rewrite and lower in a child of its own, once for equal content.

What a child made is kept in the file store under a key that names everything it
depends on, so that a resumed experiment, a repeated run and an equal recipe of another
experiment find it there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from engine.catalogue import spec_of
from engine.domain.artifact import Artifact, NamedModel
from engine.domain.codec import as_data, decode, encode, from_data
from engine.domain.deployment import Lowered
from engine.domain.errors import ChildError
from engine.domain.experiment import Experiment, Progress, StageFacts
from engine.domain.layout import Workers
from engine.domain.metrics import Provenance
from engine.domain.plan import Plan
from engine.domain.technique import Phase
from engine.estimate import training_seconds
from engine.execution.leash import Leash
from engine.execution.scratch import checkpoints, scratch
from engine.host import environment, this_host
from engine.launch import models_named
from engine.plan import placed
from engine.requests import TransformRequest, TransformResult
from engine.sandbox import DEVICE, Limits
from engine.settings import Settings
from storage import Storage

TRANSFORM_SECONDS = 3600.0
"""Most that a transform takes, training aside."""
RESULT_FILE = "transform.json"
CACHE_VERSION = "10"
"""Raise it when the same request no longer gives the same files."""


@dataclass(frozen=True, slots=True)
class Transformed:
    """A lowered model in the file store; `lowered.directory` is its place on this machine."""

    key: str
    facts: tuple[StageFacts, ...]
    lowered: Lowered


def transform_key(artifact: Artifact, plan: Plan, experiment: Experiment, settings: Settings) -> str:
    """Everything the lowered files depend on, as a key of the file store."""
    workload = experiment.workload
    depends = {
        "cache": CACHE_VERSION,
        "artifact": artifact.id,
        "recipe": str(plan.recipe),
        "runtime": str(plan.runtime),
        "shape": [workload.batch_size, workload.sequence_length, workload.new_tokens, workload.image_size],
        # a dataset alone is split into scored and calibration parts
        "data": [ref.id if ref else "" for ref in (experiment.dataset, experiment.calibration)],
        "versions": environment(0, "").versions,
        "cpu_flags": sorted(this_host().cpu_flags),
        # what is proven of a spread model was watched on one host, with so many threads
        "watched_on": [this_host().name, workload.threads] if workers_in(plan).count > 1 else [],
        # an experiment that keeps no models deletes its own without asking who else has them
        "owner": "" if experiment.keep_models else experiment.id,
    }
    # what nobody else has stays as it was made, so that it is found again and deleted
    if experiment.keep_models and (figures := _figures(plan, settings)):
        depends["figures"] = [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(figures.glob("*.json"))]
    return hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()


def training_key(artifact: Artifact, experiment: Experiment) -> str:
    """Everything but its recipe that a trained stage depends on: stages of equal recipes share what they learnt."""
    workload = experiment.workload
    depends = {
        "cache": CACHE_VERSION,
        "artifact": artifact.id,
        "shape": [workload.sequence_length, workload.image_size],
        "data": [ref.id if ref else "" for ref in (experiment.dataset, experiment.calibration)],
        "versions": environment(0, "").versions,
    }
    return hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()


def data_files(experiment: Experiment, storage: Storage) -> tuple[Path | None, Path | None]:
    """Dataset and calibration files on this machine; None: the built-in probes."""
    refs = (experiment.dataset, experiment.calibration)
    dataset, calibration = (storage.datasets.path(ref.id) if ref else None for ref in refs)
    return dataset, calibration


def find_transformed(key: str, storage: Storage) -> Transformed | None:
    """What an earlier transform left in the store, if it did."""
    if not storage.files.exists(key):
        return None
    directory = storage.files.local_path(key)
    result = decode(TransformResult, (directory / RESULT_FILE).read_text())
    return Transformed(key, result.facts, replace(result.lowered, directory=str(directory)))


def transform(
    artifact: Artifact,
    plan: Plan,
    experiment: Experiment,
    storage: Storage,
    settings: Settings,
    leash: Leash,
    log: Path,
    report: Callable[[Progress], None],
) -> Transformed:
    """Carry out a plan in a child and keep what it made.

    Raises what the child's problem says (StageError and its kin), ChildError, Cancelled.
    """
    artifact_dir = storage.files.local_path(artifact.id)
    dataset, calibration = data_files(experiment, storage)
    key = transform_key(artifact, plan, experiment, settings)
    figures = _figures(plan, settings)
    named = {
        name: NamedModel(str(storage.files.local_path(model.id)), model.card)
        for name, model in models_named([plan.recipe], storage).items()
    }
    with scratch(settings) as output:
        kept_between = checkpoints(settings, training_key(artifact, experiment))
        request = TransformRequest(
            artifact_dir=str(artifact_dir),
            card=artifact.card,
            recipe=str(plan.recipe),
            workload=experiment.workload,
            calibration_file=str(calibration or ""),
            output_dir=str(output),
            host=this_host(),
            threads=experiment.workload.threads or this_host().cores,
            dataset_file=str(dataset or ""),
            checkpoint_dir=str(kept_between),
            figures_dir=str(figures or ""),
            models=named,
        )
        readable = [artifact_dir, *filter(None, (dataset, calibration, figures)), *(Path(model.directory) for model in named.values())]
        seconds = TRANSFORM_SECONDS + training_seconds(plan)
        kind = "transform" + DEVICE * _places(plan)
        result = _ask(kind, request, readable, [output, kept_between], seconds, workers_in(plan), leash, log, report)
        _keep(result, output, key, storage)
    kept = find_transformed(key, storage)
    assert kept is not None
    return kept


def _figures(plan: Plan, settings: Settings) -> Path | None:
    """The folder of this home from which a stage computes, if there is one."""
    named = (spec_of(stage.technique).figures for stage in plan.stages)
    return next((folder for name in named if name and (folder := settings.home / name).is_dir()), None)


def workers_in(plan: Plan) -> Workers:
    """Those that its transform starts, to prove that they answer as one process."""
    return placed(plan.recipe) if plan.provenance is Provenance.MEASURED else Workers(1)


def _places(plan: Plan) -> bool:
    """On an accelerator of this host."""
    return any(
        spec_of(stage.technique).phase is Phase.PLACE and stage.provenance is Provenance.MEASURED for stage in plan.stages
    )


def _ask(
    kind: str,
    request: TransformRequest,
    readable: list[Path],
    writable: list[Path],
    seconds: float,
    workers: Workers,
    leash: Leash,
    log: Path,
    report: Callable[[Progress], None],
) -> TransformResult:
    child = leash.start(
        kind,
        readable=readable,
        writable=writable,
        limits=Limits.of_host(wall_seconds=seconds),
        log=log,
        threads=request.threads,
        workers=workers,
        opened=[Path(request.artifact_dir), Path(request.output_dir)],
    )
    try:
        message = {"request": as_data(request)}
        answer = child.ask(message, timeout=seconds, report=report, tick=leash.check)
        return from_data(TransformResult, answer)
    finally:
        leash.end(child)


def _keep(result: TransformResult, output: Path, key: str, storage: Storage) -> None:
    """Check what the child says it made, and promote it to the store."""
    directory = Path(result.lowered.directory).resolve()
    if not directory.is_relative_to(output.resolve()) or not directory.is_dir():
        raise ChildError("The transform left nothing where it said.", detail=result.lowered.directory)
    for name in result.lowered.files:
        path = directory / name
        if not path.resolve().is_relative_to(directory) or not path.is_file():
            raise ChildError(f"The transform did not leave {name}.", detail=str(result.lowered.files))
    size = sum((directory / name).stat().st_size for name in result.lowered.files)
    kept = replace(result, lowered=replace(result.lowered, directory="", size_bytes=size))
    (directory / RESULT_FILE).write_text(encode(kept))
    storage.files.put_directory(key, directory, move=True)
