"""The offline pattern: throughput over batch sizes, each lowered and opened on its own.

A lowered model has the shape of its workload, so another batch size is another model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from engine.domain.codec import as_data, from_data
from engine.domain.errors import Cancelled, SpeedrailError
from engine.domain.experiment import Progress
from engine.domain.load import LoadPoint, LoadResult, Pattern
from engine.execution.opening import opening
from engine.execution.preparing import transformed
from engine.execution.transforming import transform_key
from engine.execution.work import Prepared, Work
from engine.sandbox import Limits

_SECONDS = 3600.0


def sweep(work: Work, prepared: Prepared) -> LoadResult:
    """A point for every batch size; what cannot be had becomes a remark."""
    points: list[LoadPoint] = []
    remarks: list[str] = []
    for batch in batches(work.experiment.workload.batch_size):
        prepared.progress(Progress(f"load: offline, batch {batch}", 0.0))
        try:
            points.append(_point(work, prepared, batch))
        except Cancelled:
            raise
        except SpeedrailError as error:
            work.leash.check()
            remarks.append(f"Batch {batch}: {error}")
    return LoadResult(pattern=Pattern.OFFLINE, points=tuple(points), remarks=tuple(remarks))


def batches(largest: int) -> Iterator[int]:
    """1, 2, 4 … and the largest itself."""
    batch = 1
    while batch < largest:
        yield batch
        batch *= 2
    yield largest


def _point(work: Work, prepared: Prepared, batch: int) -> LoadPoint:
    experiment = work.experiment
    if batch == experiment.workload.batch_size:
        return _measured(work, prepared)
    # kept for nobody, so that it has a key of its own and can be deleted
    workload = replace(experiment.workload, batch_size=batch)
    other = replace(work, experiment=replace(experiment, workload=workload, keep_models=False))
    try:
        return _measured(other, replace(prepared, transformed=transformed(other, prepared.recorder)))
    finally:
        work.storage.files.delete(transform_key(work.artifact, prepared.plan, other.experiment, work.settings))


def _measured(work: Work, prepared: Prepared) -> LoadPoint:
    request, readable = opening(work, prepared)
    child = work.leash.start(
        "measure", readable=list(readable), writable=[Path(request.scratch_dir)],
        limits=Limits.of_host(wall_seconds=_SECONDS), log=prepared.recorder.log, threads=request.threads,
        workers=request.lowered.layout.placed, opened=request.opened,
    )  # fmt: skip
    try:
        for message in ({"request": as_data(request)}, {"load": True}):
            answer = child.ask(message, timeout=_SECONDS, tick=work.leash.check)
        (point,) = from_data(LoadResult, answer).points
        return point
    finally:
        work.leash.end(child)
