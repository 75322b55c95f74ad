"""Proof that a spread model answers as the single process does, and where a call's time goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from statistics import median

import numpy as np

from engine.domain.artifact import TaskId
from engine.domain.deployment import NumberFormat
from engine.domain.errors import StageError
from engine.domain.experiment import Attachment, StageFacts
from engine.domain.layout import Cut
from engine.domain.ports import Array, Batch, Outputs
from engine.executors.opening import open_alone
from engine.executors.spread.executor import SpreadExecutor, of_one_replica, open_spread
from engine.executors.spread.part import Event
from engine.executors.spread.timeline import Summary, as_attachment, summarize
from engine.requests import OpenRequest

TOLERANCE = {NumberFormat.FP32: 1e-3, NumberFormat.BF16: 5e-2}
"""Largest difference allowed, relative to the largest output. Integers round activations, so they get bf16's."""
Facts = dict[str, float | int | str | bool]
_CALLS = 5
_TOKENS = 16


@dataclass(frozen=True, slots=True)
class _Reference:
    """What one process answers, a share at a time as the replicas get it."""

    outputs: Outputs
    tokens: Array | None


def prove(request: OpenRequest, batch: Batch, open_it: Callable[[OpenRequest], SpreadExecutor] = open_spread) -> StageFacts:
    """Open the deployment as it is spread, hold it against one process, and watch a few calls.

    batch: real inputs, of all replicas together. Raises StageError when the answers differ
    beyond tolerance, or a greedy token of an fp32 model does.
    """
    began = time.perf_counter()
    reference = _reference(request, batch)
    opened = time.perf_counter()
    with closing(open_it(request)) as executor:
        facts: Facts = {"open_seconds": time.perf_counter() - opened}
        facts |= executor.facts
        facts |= _compared(request, executor, batch, reference)
        watched, drawn = _watched(request, executor, batch)
    return StageFacts("spreading", time.perf_counter() - began, facts | watched, attachments=drawn)


def _reference(request: OpenRequest, batch: Batch) -> _Reference:
    inner, rows = of_one_replica(request), len(next(iter(batch.values())))
    size = inner.workload.batch_size
    with closing(open_alone(inner)) as executor:
        shares = [{name: value[i : i + size] for name, value in batch.items()} for i in range(0, rows, size)]
        outputs = [executor.infer(share) for share in shares]
        tokens = None
        if request.card.task is TaskId.CAUSAL_LM:
            tokens = np.concatenate([executor.generate(share["input_ids"], _TOKENS).tokens for share in shares])
        return _Reference({name: np.concatenate([o[name] for o in outputs]) for name in outputs[0]}, tokens)


def _compared(
    request: OpenRequest, executor: SpreadExecutor, batch: Batch, reference: _Reference
) -> Facts:
    weights = NumberFormat(request.lowered.settings.get("weights", "fp32"))
    tolerance = TOLERANCE.get(weights, TOLERANCE[NumberFormat.BF16])
    found = executor.infer(batch)
    differences = {name: float(np.abs(found[name] - expected).max()) for name, expected in reference.outputs.items()}
    for name, difference in differences.items():
        allowed = tolerance * max(1.0, float(np.abs(reference.outputs[name]).max()))
        if not difference <= allowed:
            raise StageError(
                f"{name} of the spread model differs from the single process by {difference:.3g}; {allowed:.3g} is allowed.",
                mend="This model cannot be cut this way: choose another kind or degree.", where="spreading",
            )  # fmt: skip
    facts: Facts = {"max_abs_difference": max(differences.values())}
    if reference.tokens is not None:
        made = executor.generate(batch["input_ids"], _TOKENS).tokens
        same = bool(np.array_equal(made, reference.tokens))
        if not same and weights is NumberFormat.FP32:
            raise StageError(
                f"{int((made != reference.tokens).sum())} of {made.size} greedy tokens differ from the single process.",
                mend="This model cannot be cut this way: choose another kind or degree.", where="spreading",
            )  # fmt: skip
        facts["greedy_tokens_identical"] = same
    return facts


def _watched(request: OpenRequest, executor: SpreadExecutor, batch: Batch) -> tuple[Facts, tuple[Attachment, ...]]:
    """Shares of the typical one of a few calls, and its picture."""
    layout = request.lowered.layout
    facts: Facts = {"workers": layout.workers}
    if layout.hosts > 1:
        facts["hosts"] = layout.hosts
    drawn: tuple[Attachment, ...] = ()
    if layout.cut is not Cut.NONE:
        calls = [_call(request, executor, batch, layout.degree) for _ in range(_CALLS)]
        typical, events = sorted(calls, key=lambda call: call[0].seconds)[_CALLS // 2]
        facts |= {
            "stage_balance": typical.balance, "bubble_share": typical.bubble,
            "communication_share": typical.communication, "sent_bytes": typical.sent,
        }  # fmt: skip
        names = [f"rank {peer.rank}" + f" on {peer.address}" * (layout.hosts > 1) for peer in executor.groups[0].peers]
        drawn = (Attachment("timeline", as_attachment(events, names, typical)),)
    if layout.replicas > 1:
        facts |= _scaling(executor, batch, of_one_replica(request).workload.batch_size) | _memory(executor)
    return facts, drawn


def _memory(executor: SpreadExecutor) -> Facts:
    """What all workers hold together, and what they would if they shared nothing."""
    memory = [peer.memory() for group in executor.groups for peer in group.peers]
    held, alone = sum(each.pss for each in memory), sum(each.rss for each in memory)
    return {"workers_pss_bytes": held, "shared_between_workers_bytes": alone - held}


def _call(request: OpenRequest, executor: SpreadExecutor, batch: Batch, degree: int) -> tuple[Summary, list[list[Event]]]:
    """One call as it will be timed; the first replica's events."""
    if request.card.task is TaskId.CAUSAL_LM:
        executor.generate(batch["input_ids"], min(request.workload.new_tokens, _TOKENS))
    else:
        executor.infer(batch)
    events = executor.trace()[:degree]
    return summarize(events), events


def _scaling(executor: SpreadExecutor, batch: Batch, share: int) -> Facts:
    """Items a second of 1, 2 … all replicas at once, each with a share of its own."""
    reached: dict[int, float] = {}
    for count in range(1, len(executor.groups) + 1):
        some = SpreadExecutor(executor.groups[:count], share, {})
        rows = {name: np.concatenate([value[:share]] * count) for name, value in batch.items()}
        reached[count] = share * count / _seconds(some, rows)
    most = max(reached)
    return {
        "items_per_second": ", ".join(f"{count}: {rate:.4g}" for count, rate in reached.items()),
        "one_replica_items_per_second": reached[1], "all_replicas_items_per_second": reached[most],
        "scaling_efficiency": reached[most] / (most * reached[1]),
    }  # fmt: skip


def _seconds(executor: SpreadExecutor, batch: Batch) -> float:
    executor.infer(batch)
    return median(_timed(executor, batch) for _ in range(_CALLS))


def _timed(executor: SpreadExecutor, batch: Batch) -> float:
    began = time.perf_counter()
    executor.infer(batch)
    return time.perf_counter() - began


def batch_for(batches: Sequence[Batch], rows: int) -> Batch:
    """`rows` rows of real inputs, repeated where there are fewer."""
    joined = {name: np.concatenate([b[name] for b in batches]) for name in batches[0]}
    return {name: np.resize(value, (rows, *value.shape[1:])) for name, value in joined.items()}

