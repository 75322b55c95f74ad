"""The measure phase: blocks of the baseline and its candidates, recorded round by round."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median

from engine.compare.remarks import why_no_gain
from engine.compare.speedup import Speedup, speedup_of
from engine.domain.errors import Cancelled, SpeedrailError, StageError
from engine.domain.experiment import RunStatus
from engine.domain.metrics import LATENCY
from engine.execution.transforming import data_files
from engine.execution.work import Prepared, Work
from engine.grammar import parse_recipe
from engine.host import environment, this_host
from engine.measure.block import Block, Candidate, Measured
from engine.measure.summary import summarize
from engine.requests import OpenRequest
from engine.sandbox import Limits


def measure(work: Work, baseline: Prepared, candidates: Sequence[Prepared]) -> None:
    """Measure until every one of these has its result; blocks as memory demands."""
    waiting = list(candidates)
    last: Measured | None = None
    try:
        while waiting or last is None:
            last, waiting = _one_block(work, baseline, waiting)
            work.offer_turn()
    except Cancelled:
        raise
    except SpeedrailError as error:
        work.leash.check()
        _fail_all(error, baseline, waiting)
        return
    if baseline.is_open:
        _finish(work, baseline, baseline, last, ())


def fail_without_baseline(candidates: Sequence[Prepared]) -> None:
    """Nothing can be said of runs whose baseline has no result."""
    for each in candidates:
        each.recorder.fail(
            StageError(
                "The baseline did not succeed, so there is nothing to compare with.", mend="Repeat the baseline."
            )
        )


def _one_block(work: Work, baseline: Prepared, waiting: list[Prepared]) -> tuple[Measured, list[Prepared]]:
    """One block; what it learned of the baseline, and who has to wait for another."""
    everyone = {p.run.id: p for p in (baseline, *waiting)}
    index = 1 + max((r.block for p in everyone.values() for r in work.storage.runs.rounds(p.run.id)), default=-1)
    rounds = max(_rounds_left(work, p) for p in (waiting or [baseline]))
    block = Block(
        index,
        [_candidate(work, p) for p in everyone.values()],
        start=work.leash.start,
        limits=_limits(work, rounds, len(everyone)),
        tick=work.leash.check,
        report=lambda run_id, progress: everyone[run_id].progress(progress),
    )
    with block:
        for turns in block.rounds(rounds):
            for turn in turns:
                everyone[turn.run_id].recorder.round(turn)
        measured: dict[str, Measured] = {}
        for result in block.results():
            measured[result.run_id] = result
            if result.run_id != baseline.run.id:
                _finish(work, everyone[result.run_id], baseline, result, block.remarks())
    for run_id, problem in block.failures.items():
        everyone[run_id].recorder.fail(problem.as_error())
    return measured[baseline.run.id], [everyone[c.run_id] for c in block.postponed]


def _rounds_left(work: Work, prepared: Prepared) -> int:
    return max(0, work.experiment.workload.rounds - len(work.storage.runs.rounds(prepared.run.id)))


def _limits(work: Work, rounds: int, entrants: int) -> Limits:
    """Children are parked most of the time, so each must live as long as the whole block."""
    workload = work.experiment.workload
    turns = rounds * entrants * (workload.round_seconds + 1.0)
    return Limits.of_host(wall_seconds=4 * 3600.0 + 20 * turns)


def answers_dir(work: Work, prepared: Prepared) -> Path:
    """Where a run's child leaves its answers; removed when the experiment is left."""
    return work.place / f"measure-{prepared.run.id}"


def opening(work: Work, prepared: Prepared) -> tuple[OpenRequest, tuple[Path, ...]]:
    """What a child needs to open a run's lowered model, and the paths it reads."""
    experiment, storage = work.experiment, work.storage
    scratch = answers_dir(work, prepared)
    scratch.mkdir(exist_ok=True)
    dataset, calibration = data_files(experiment, storage)
    artifact_dir = storage.files.local_path(work.artifact.id)
    lowered = prepared.transformed.lowered
    request = OpenRequest(
        lowered=lowered,
        artifact_dir=str(artifact_dir),
        card=work.artifact.card,
        workload=experiment.workload,
        dataset_file=str(dataset or ""),
        threads=experiment.workload.threads or this_host().cores,
        scratch_dir=str(scratch),
        calibration_file=str(calibration or ""),
    )
    return request, (artifact_dir, Path(lowered.directory), *filter(None, (dataset, calibration)))


def _candidate(work: Work, prepared: Prepared) -> Candidate:
    request, readable = opening(work, prepared)
    return Candidate(prepared.run.id, request, readable, prepared.recorder.log)


def _finish(
    work: Work, prepared: Prepared, baseline: Prepared, measured: Measured, block_remarks: Sequence[str]
) -> None:
    runs = work.storage.runs
    own, size = runs.rounds(prepared.run.id), prepared.transformed.lowered.size_bytes
    compared = None if prepared is baseline else speedup_of(runs.rounds(baseline.run.id), own)
    prepared.recorder.finish(
        RunStatus.SUCCEEDED,
        measurements=summarize(own, measured, size),
        speedup=compared.ratio if compared else None,
        verdict=compared.verdict if compared else None,
        remarks=(*(_why(work, prepared, baseline, compared) if compared else ()), *block_remarks),
        environment=environment(work.experiment.workload.threads, measured.sandbox),
    )


def _why(work: Work, prepared: Prepared, baseline: Prepared, compared: Speedup) -> tuple[str, ...]:
    latencies = [ms for r in work.storage.runs.rounds(baseline.run.id) for ms in r.samples[LATENCY.name]]
    return why_no_gain(
        parse_recipe(prepared.run.recipe),
        prepared.transformed.facts,
        compared,
        work.artifact.card,
        this_host(),
        median(latencies),
    )


def _fail_all(error: SpeedrailError, baseline: Prepared, waiting: Sequence[Prepared]) -> None:
    if baseline.is_open:
        baseline.recorder.fail(error)
    for each in waiting:
        each.recorder.fail(
            StageError(
                "The baseline failed while it was measured, so there is nothing to compare with.", detail=str(error)
            )
        )
