"""Runs whose hardware is not here: their numbers are computed in a child, after the baseline was measured."""

from __future__ import annotations

from pathlib import Path

from engine.domain.codec import as_data, from_data
from engine.domain.errors import Cancelled, SpeedrailError, StageError
from engine.domain.experiment import Progress, RunStatus
from engine.domain.metrics import LATENCY, Measurement, Provenance, Ratio
from engine.execution.opening import answers_dir, opening
from engine.execution.work import TRANSFORM_SHARE, Prepared, Work
from engine.host import environment, this_host
from engine.measure.summary import size_of
from engine.requests import ComputeRequest, ComputeResult
from engine.sandbox import Limits

COMPUTE_SECONDS = 3600.0


def compute(work: Work, prepared: Prepared, baseline: Prepared) -> None:
    """Compute one run to its end; its failure is recorded with it.

    Its speedup divides the baseline's measured latency by the computed one. It has no
    verdict, because nothing was seen to be faster.
    """
    recorder = prepared.recorder
    recorder.progress(Progress("computing", TRANSFORM_SHARE))
    reference = answers_dir(work, baseline) / "answers.npz"
    try:
        if not reference.exists():
            raise StageError(
                "The baseline has no answers, so there is nothing to compare with.", mend="Repeat the baseline."
            )
        result, level = _ask(work, prepared, reference)
    except Cancelled:
        raise
    except SpeedrailError as error:
        work.leash.check()
        recorder.fail(error)
        return
    recorder.attach(result.attachments)
    provenance = prepared.plan.provenance
    recorder.finish(
        RunStatus.PROJECTED if provenance is Provenance.PROJECTED else RunStatus.SUCCEEDED,
        measurements=(*result.measurements, size_of(prepared.transformed.lowered.size_bytes)),
        speedup=_speedup(work, baseline, result),
        remarks=(f"{provenance.capitalize()}, not measured: this hardware is not here.", *result.remarks),
        environment=environment(work.experiment.workload.threads, level),
    )


def _ask(work: Work, prepared: Prepared, reference: Path) -> tuple[ComputeResult, str]:
    request, readable = opening(work, prepared)
    child = work.leash.start(
        "compute",
        readable=[*readable, reference],
        writable=[Path(request.scratch_dir)],
        limits=Limits.of_host(wall_seconds=COMPUTE_SECONDS),
        log=prepared.recorder.log,
        threads=request.threads,
    )
    try:
        message = as_data(ComputeRequest(request, prepared.run.recipe, this_host(), str(reference)))
        answer = child.ask({"request": message}, timeout=COMPUTE_SECONDS, report=prepared.progress, tick=work.leash.check)
        return from_data(ComputeResult, answer), child.level
    finally:
        work.leash.end(child)


def _speedup(work: Work, baseline: Prepared, result: ComputeResult) -> Ratio | None:
    """Measured baseline ÷ computed latency; the interval takes in both bands."""
    computed = next((m for m in result.measurements if m.name == LATENCY.name), None)
    measured = work.storage.runs.get(baseline.run.id).measurement(LATENCY.name)
    if computed is None or measured is None:
        return None
    (low, high), (least, most) = _band(measured), _band(computed)
    return Ratio(measured.median / computed.median, (low / most, high / least))


def _band(latency: Measurement) -> tuple[float, float]:
    return latency.ci95 or (latency.median, latency.median)
