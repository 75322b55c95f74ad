"""The measure phase: series of blocks of the baseline and its candidates, recorded round by round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from statistics import median

from engine.compare.causes import Evidence
from engine.compare.noise_remarks import noise_remarks
from engine.compare.remarks import why_no_gain
from engine.compare.speedup import Speedup, speedup_of
from engine.domain.calibration import Calibration
from engine.domain.codec import as_data
from engine.domain.deployment import Placement
from engine.domain.errors import Cancelled, SpeedrailError, StageError
from engine.domain.evidence import ContextPoint, Examined
from engine.domain.experiment import Attachment, Round, RunStatus
from engine.domain.load import LoadResult, Pattern
from engine.domain.metrics import LATENCY, Measurement
from engine.domain.noise import NOISE, SeriesNoise
from engine.domain.operators import OperatorProfile
from engine.domain.roofline import ROOFLINE, Roofline
from engine.domain.workload import KvCache
from engine.execution.judging import VERIFY_AA, noise_of, partner_of, pinned_cores, shadows_of
from engine.execution.opening import opening
from engine.execution.sweeping import sweep
from engine.execution.work import Prepared, Work
from engine.grammar import parse_recipe
from engine.hardware.accelerators import usable
from engine.host import environment, this_host
from engine.measure.block import Block, Candidate, Measured
from engine.measure.boards import BoardWatch, boards
from engine.measure.energy import host_meter
from engine.measure.limits import passes, weight_bytes
from engine.measure.rooflines import under_device, under_host, with_operators
from engine.measure.series import Series
from engine.measure.shares import shares_of_peaks
from engine.measure.summary import in_order, summarize
from engine.sandbox import Limits


def measure(work: Work, baseline: Prepared, candidates: Sequence[Prepared]) -> None:
    """Measure until every one of these has its result; as many series as memory demands."""
    waiting = list(candidates)
    last: tuple[Measured, SeriesNoise] | None = None
    try:
        while waiting or last is None:
            last, waiting = _one_series(work, baseline, waiting)
            work.offer_turn()
    except Cancelled:
        raise
    except SpeedrailError as error:
        work.leash.check()
        _fail_all(error, baseline, waiting)
        return
    if baseline.is_open:
        result, noise = last
        _finish(work, baseline, baseline, result, result.examined, noise)


def fail_without_baseline(candidates: Sequence[Prepared]) -> None:
    """Nothing can be said of runs whose baseline has no result."""
    for each in candidates:
        each.recorder.fail(
            StageError(
                "The baseline did not succeed, so there is nothing to compare with.", mend="Repeat the baseline."
            )
        )


def _one_series(
    work: Work, baseline: Prepared, waiting: list[Prepared]
) -> tuple[tuple[Measured, SeriesNoise], list[Prepared]]:
    """One series; what it learned of the baseline and of the machine, and who has to wait for another."""
    everyone = {p.run.id: p for p in (baseline, *waiting)}
    index = 1 + max((r.block for p in everyone.values() for r in work.storage.runs.rounds(p.run.id)), default=-1)
    rounds = max(_rounds_left(work, p) for p in (waiting or [baseline]))
    first, *others = [_candidate(work, p) for p in everyone.values()]
    placed = any(not p.transformed.lowered.placement.is_cpu for p in everyone.values())
    watched = boards() if placed else ()
    shadows = shadows_of(first, work.place, verify=bool(work.experiment.extra.get(VERIFY_AA)))
    series = Series(
        index,
        [first, *others],
        rounds,
        partial(
            Block,
            shadows=shadows,
            start=work.leash.start,
            limits=_limits(work, rounds, len(everyone) + len(shadows)),
            tick=work.leash.check,
            meter=host_meter(boards=watched),
        ),
        report=lambda run_id, progress: everyone[run_id].progress(progress),
    )
    sweeps = _sweeps(work, everyone)
    watch = BoardWatch(watched)
    with series:
        for turns in series.rounds():
            for turn in turns:
                everyone[turn.run_id].recorder.round(turn)
            if watched:
                watch.look(series.processes())
        noise = noise_of(series, work.storage.runs.rounds(baseline.run.id))
        measured: dict[str, Measured] = {}
        for result in series.results():
            result = replace(result, load=sweeps.get(result.run_id, result.load))
            measured[result.run_id] = result
            if result.run_id != baseline.run.id:
                examined = measured[baseline.run.id].examined
                _finish(work, everyone[result.run_id], baseline, result, examined, noise, partner_of(series), watch.remarks())
    for run_id, problem in series.failures.items():
        everyone[run_id].recorder.fail(problem.as_error())
    return (measured[baseline.run.id], noise), [everyone[c.run_id] for c in series.postponed]


def _sweeps(work: Work, everyone: Mapping[str, Prepared]) -> dict[str, LoadResult]:
    """Under the offline pattern, of every run that has no result yet; before the block, which wants the machine alone."""
    if work.experiment.workload.pattern is not Pattern.OFFLINE:
        return {}
    return {run_id: sweep(work, prepared) for run_id, prepared in everyone.items() if prepared.is_open}


def _rounds_left(work: Work, prepared: Prepared) -> int:
    return max(0, work.experiment.workload.rounds - len(work.storage.runs.rounds(prepared.run.id)))


def _limits(work: Work, rounds: int, entrants: int) -> Limits:
    """Children are parked most of the time, so each must live as long as a whole block."""
    workload = work.experiment.workload
    turns = rounds * entrants * (workload.round_seconds + 1.0)
    return Limits.of_host(wall_seconds=4 * 3600.0 + 20 * turns)


def _candidate(work: Work, prepared: Prepared) -> Candidate:
    request, readable = opening(work, prepared)
    # each worker has a core, also where one process is given fewer threads than there are workers
    request = replace(request, pinned=pinned_cores(request.threads and max(request.threads, request.lowered.layout.placed.each)))
    return Candidate(prepared.run.id, request, readable, prepared.recorder.log)


def _finish(
    work: Work,
    prepared: Prepared,
    baseline: Prepared,
    measured: Measured,
    baseline_examined: Examined | None,
    noise: SeriesNoise,
    partner: Sequence[Round] = (),
    about_boards: Sequence[str] = (),
) -> None:
    runs = work.storage.runs
    own, size = runs.rounds(prepared.run.id), prepared.transformed.lowered.size_bytes
    compared = None
    if prepared is not baseline:
        compared = speedup_of(runs.rounds(baseline.run.id), own, partner=partner, noisy=noise.is_noisy)
    prepared.recorder.attach([*_attachments(work, prepared, measured), Attachment(NOISE, as_data(noise))])
    prepared.recorder.finish(
        RunStatus.SUCCEEDED,
        measurements=_measurements(work, prepared, summarize(own, measured, size)),
        speedup=compared.ratio if compared else None,
        verdict=compared.verdict if compared else None,
        remarks=(
            *(_why(work, prepared, baseline, compared, measured, baseline_examined) if compared else ()),
            *noise_remarks(noise),
            *_about_cores(work, prepared),
            *(about_boards if not prepared.transformed.lowered.placement.is_cpu else ()),
            *_about_examining(work, prepared, measured),
        ),
        environment=environment(work.experiment.workload.threads, measured.sandbox),
    )


def _about_cores(work: Work, prepared: Prepared) -> list[str]:
    """What a reader should know before comparing with a baseline that had fewer."""
    threads, workers = work.experiment.workload.threads, prepared.transformed.lowered.layout.workers
    return [f"Its {workers} workers take a core each, the baseline {threads} in all."] if 0 < threads < workers else []


def _about_examining(work: Work, prepared: Prepared, measured: Measured) -> list[str]:
    """What a reader should know of what was looked at beside the clock."""
    if measured.unexamined or measured.examined is None:
        return [f"Its operators could not be profiled: {measured.unexamined}"] if measured.unexamined else []
    wanted, kept = work.experiment.workload.kv_cache, measured.examined.kv_cache
    if wanted is KvCache.AUTO or kept in ("", wanted):
        return []
    return [f"{prepared.transformed.lowered.runtime} keeps its KV cache {kept}, whatever the workload asks for."]


def _attachments(work: Work, prepared: Prepared, measured: Measured) -> list[Attachment]:
    """What was looked at beside the clock, by kind."""
    examined = measured.examined
    found = [Attachment("load", as_data(measured.load))] if measured.load else []
    if examined and examined.operators:
        found.append(Attachment("operators", as_data(examined.operators)))
        ceilings = _ceilings(work, prepared.transformed.lowered.placement, examined.operators)
        roofline = with_operators(ceilings, examined.operators) if ceilings else None
        found += [Attachment(ROOFLINE, as_data(roofline))] if roofline else []
    if examined and examined.context:
        found.append(Attachment("context", {"kv_cache": examined.kv_cache, "points": as_data(examined.context, tuple[ContextPoint, ...])}))
    return found


def _ceilings(work: Work, placement: Placement, profile: OperatorProfile) -> Roofline | None:
    """Of what the model ran on, without operators; None where nobody measured or published them."""
    if placement.is_cpu:
        return under_host(_calibration(work, placement), _threads(work))
    device = next((device.name for device in usable() if device.kind == placement.device), "")
    return under_device(device, profile)


def _calibration(work: Work, placement: Placement) -> Calibration | None:
    """Of this host's processor, where the model ran on it."""
    return work.storage.hosts.calibration(this_host().name) if placement.is_cpu else None


def _threads(work: Work) -> int:
    return work.experiment.workload.threads or this_host().cores


def _measurements(work: Work, prepared: Prepared, own: tuple[Measurement, ...]) -> tuple[Measurement, ...]:
    """With what the host's calibration makes of them."""
    lowered = prepared.transformed.lowered
    shares = shares_of_peaks(
        own, prepared.transformed.facts, work.artifact.card, work.experiment.workload, lowered.size_bytes,
        _calibration(work, lowered.placement), _threads(work),
    )  # fmt: skip
    return in_order((*own, *shares))


def _why(
    work: Work,
    prepared: Prepared,
    baseline: Prepared,
    compared: Speedup,
    measured: Measured,
    baseline_examined: Examined | None,
) -> tuple[str, ...]:
    card, workload, lowered = work.artifact.card, work.experiment.workload, prepared.transformed.lowered
    calibration = _calibration(work, lowered.placement)
    return why_no_gain(
        compared,
        Evidence(
            recipe=parse_recipe(prepared.run.recipe),
            facts=prepared.transformed.facts,
            card=card,
            host=this_host(),
            baseline_ms=_median_latency(work, baseline),
            run_ms=_median_latency(work, prepared),
            baseline=baseline_examined,
            run=measured.examined,
            weight_bytes=weight_bytes(card, lowered.size_bytes),
            passes=passes(card, workload),
            bandwidth=calibration.bandwidth(_threads(work)) if calibration else None,
        ),
    )


def _median_latency(work: Work, prepared: Prepared) -> float:
    """In ms, over all rounds."""
    return median(ms for r in work.storage.runs.rounds(prepared.run.id) for ms in r.samples[LATENCY.name])


def _fail_all(error: SpeedrailError, baseline: Prepared, waiting: Sequence[Prepared]) -> None:
    if baseline.is_open:
        baseline.recorder.fail(error)
    for each in waiting:
        each.recorder.fail(
            StageError(
                "The baseline failed while it was measured, so there is nothing to compare with.", detail=str(error)
            )
        )
