"""How long an experiment will take: what the form says before launch.

A rough model, good to about a factor of two; while an experiment runs, its own
observed rounds say better. The constants were observed on two Zen 3 cores with
MiniLM-L6 (22 M parameters) and SmolLM2 (135 M).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from engine.catalogue import spec_of
from engine.domain.artifact import ModelCard, TaskId
from engine.domain.host import HostFacts
from engine.domain.load import Pattern
from engine.domain.plan import Plan
from engine.domain.recipe import RuntimeId
from engine.domain.workload import Workload
from engine.measure.clock import WARM_SECONDS
from engine.measure.percentiles import FEWEST_SAMPLES
from engine.measure.repetitions import rounds_a_process

_CHILD_SECONDS = 6.0
"""Starting a sandboxed child and importing torch."""
_LOWER_SECONDS = {RuntimeId.EAGER: 2.0, RuntimeId.INDUCTOR: 4.0, RuntimeId.ONNXRUNTIME: 15.0, RuntimeId.OPENVINO: 18.0}
_OPEN_SECONDS = {RuntimeId.EAGER: 1.0, RuntimeId.INDUCTOR: 45.0, RuntimeId.ONNXRUNTIME: 1.0, RuntimeId.OPENVINO: 2.0}
_SECONDS_PER_PARAMETER = 2e-7
"""Reading, rewriting and writing weights once."""
_FLOPS_PER_CORE = 60e9
_SCORED_ITEMS = 256
_CONTEXTS = 6.0
"""Calls of the workload's own length that the curve over contexts takes."""
_SEARCHED = 8
"""Rates that a search for the highest one tries, about."""


def estimate_seconds(plans: Iterable[Plan], card: ModelCard, workload: Workload, host: HostFacts) -> float:
    """Seconds from launch to the last result, the baseline among `plans` included.

    Refused plans take no time.
    """
    running = [plan for plan in plans if plan.runs]
    return sum(
        transform_seconds(p, card) + measure_seconds(p, card, workload, host) + load_seconds(p, card, workload, host)
        for p in running
    )


def transform_seconds(plan: Plan, card: ModelCard) -> float:
    """Carrying out a plan's stages and lowering the result, in one child."""
    passes = len(plan.stages) + 1
    calibrating = 10.0 * len(plan.stages)
    weights = passes * card.parameters * _SECONDS_PER_PARAMETER
    return _CHILD_SECONDS + _LOWER_SECONDS[plan.runtime] + calibrating + weights + training_seconds(plan)


def training_seconds(plan: Plan) -> float:
    """Most that the plan's stages train; they end earlier when nothing improves."""
    return 60 * sum(spec_of(stage.technique).training_minutes(stage.config) for stage in plan.stages)


def measure_seconds(plan: Plan, card: ModelCard, workload: Workload, host: HostFacts) -> float:
    """Opening and warming up each process, all rounds, answering what is scored, and the profile of the operators."""
    call = call_seconds(card, workload, host)
    timed = workload.rounds * max(workload.round_seconds, call)
    scored = _SCORED_ITEMS / workload.batch_size * _prefill_seconds(card, workload, host)
    profiled = _OPEN_SECONDS[plan.runtime] + max(1.0, 2 * call)
    if card.task is TaskId.CAUSAL_LM:
        profiled += _CONTEXTS * call
    opening = _CHILD_SECONDS + _OPEN_SECONDS[plan.runtime] + min(workload.warmup_calls * call, WARM_SECONDS)
    processes = workload.rounds / rounds_a_process(workload.rounds, workload.processes, opening * workload.rounds / timed)
    return processes * opening + timed + scored + (profiled if plan.runtime is not RuntimeId.INDUCTOR else 2 * call)


def load_seconds(plan: Plan, card: ModelCard, workload: Workload, host: HostFacts) -> float:
    """What the workload's pattern adds: points of load, or the batch sizes of a sweep, each a model of its own."""
    call = call_seconds(card, workload, host)
    point = max(2 * workload.round_seconds, FEWEST_SAMPLES[int(workload.percentile)] * call)
    match workload.pattern:
        case Pattern.SINGLE_STREAM:
            return 0.0
        case Pattern.MULTI_STREAM:
            return point * math.ceil(workload.streams / workload.batch_size)
        case Pattern.SERVER:
            return point if workload.rate else _SEARCHED * point
        case Pattern.OFFLINE:
            opened = _CHILD_SECONDS + _OPEN_SECONDS[plan.runtime] + min(workload.warmup_calls * call, WARM_SECONDS) + 2 * workload.round_seconds
            smaller = math.ceil(math.log2(workload.batch_size)) if workload.batch_size > 1 else 0
            return opened + smaller * (opened + transform_seconds(plan, card))


def call_seconds(card: ModelCard, workload: Workload, host: HostFacts) -> float:
    """One call of the baseline: two operations a parameter and token at a usual speed."""
    generated = workload.new_tokens if card.task is TaskId.CAUSAL_LM else 0
    token = 2.0 * card.parameters * workload.batch_size / _speed(workload, host)
    return _prefill_seconds(card, workload, host) + generated * token * _DECODE_PENALTY


_DECODE_PENALTY = 8.0
"""A generated token reads all weights for little arithmetic."""


def _prefill_seconds(card: ModelCard, workload: Workload, host: HostFacts) -> float:
    # an image classifier applies a weight at many places, about as often as a text has tokens
    tokens = workload.sequence_length if card.task is not TaskId.TENSORS else 1
    return 2.0 * card.parameters * workload.batch_size * tokens / _speed(workload, host)


def _speed(workload: Workload, host: HostFacts) -> float:
    return _FLOPS_PER_CORE * (min(workload.threads, host.cores) if workload.threads else host.cores)
