"""Causes of a missing gain, each found in evidence: what the stages did, what the profiler and the counters saw.

A cause is only named where its evidence is there; several may hold at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from engine.domain.artifact import ModelCard
from engine.domain.deployment import NumberFormat, QuantizationMode
from engine.domain.evidence import Examined
from engine.domain.experiment import StageFacts
from engine.domain.host import HostFacts
from engine.domain.operators import OVERHEAD, OperatorProfile, OperatorTime
from engine.domain.recipe import Recipe

DISPATCH_US = 20.0
"""An operator that lasts less is mostly the fixed cost of calling it (an eager one costs 5 to 10 µs)."""
SMALL_MS = 2.0
"""The same for a whole call, where nobody counted its operators."""
MEMORY_SHARE = 0.5
"""Of the host's bandwidth, from which on a call waits for memory."""
CACHED_BYTES = 64 * 2**20
"""Fewer weights than this may live in the caches and need no bandwidth."""
FALLEN_BACK_SHARE = 0.1
"""Of a call's time, from which on operators in another format than asked for are worth a word."""
COMMUNICATION_SHARE = 0.1
IDLE_SHARE = 0.25
"""Of a call, from which on what workers do not compute is worth a word."""
_ZEROS = 0.05
_NAMED = 5
_INTEGERS = frozenset({NumberFormat.INT8, NumberFormat.INT4})
_PRODUCTS = (
    "linear", "mm", "matmul", "gemm", "conv", "convolution", "conv2d", "fullyconnected", "groupconvolution",
)  # fmt: skip
"""Endings of the types that do a model's arithmetic, in lower case, whatever the runtime calls them."""


class Cause(StrEnum):
    DENSE_MASKS = "masks still dense"
    NO_INTEGER_UNITS = "no integer dot product on this host"
    NO_BF16_UNITS = "no bf16 arithmetic on this host"
    FELL_BACK = "operators fell back"
    MEMORY_BOUND = "memory-bound"
    DISPATCH_BOUND = "dispatch-bound"
    COMMUNICATION_BOUND = "communication-bound"
    SHARED_CORES = "cores shared between workers"
    IDLE_WORKERS = "workers wait for each other"
    OVERSUBSCRIBED = "threads oversubscribed"
    RECOMPILED = "recompilation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that is known of a run and its baseline. What is None was not looked at.

    Latencies are medians in ms of one call. `weight_bytes`: what one pass of the run's
    model reads; `passes`: how often it does so in one call (a generation reads its
    weights once a token). `bandwidth`: bytes a second that this host's memory gives.
    """

    recipe: Recipe
    facts: Sequence[StageFacts]
    card: ModelCard
    host: HostFacts
    baseline_ms: float
    run_ms: float
    baseline: Examined | None = None
    run: Examined | None = None
    weight_bytes: int = 0
    passes: int = 1
    bandwidth: float | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """A cause with the sentence that names its evidence."""

    cause: Cause
    sentence: str


def causes_of(evidence: Evidence) -> list[Finding]:
    """Every cause whose evidence is there, what weighs most first."""
    finders = (
        _recompiled, _oversubscribed, _shared_cores, _communication_bound, _idle_workers, _dense_masks, _missing_units, _fell_back, _dispatch_bound,
        _memory_bound,
    )  # fmt: skip
    return [finding for finder in finders for finding in finder(evidence)]


def is_product(operator: OperatorTime) -> bool:
    """Whether it is one of the matrix products or convolutions that do the arithmetic."""
    return operator.type.lower().removeprefix("fused").removesuffix("_default").endswith(_PRODUCTS)


def _recompiled(evidence: Evidence) -> Iterator[Finding]:
    count = evidence.run.counters.compiled_while_timed if evidence.run else 0
    if count:
        yield Finding(
            Cause.RECOMPILED,
            f"torch.compile compiled {count} more graph{'s' if count > 1 else ''} while it was timed: shapes or values "
            "that it had taken for fixed changed from call to call.",
        )


def _oversubscribed(evidence: Evidence) -> Iterator[Finding]:
    counters = evidence.run.counters if evidence.run else None
    if counters and counters.threads > evidence.host.cores:
        yield Finding(
            Cause.OVERSUBSCRIBED,
            f"{counters.threads} threads share {evidence.host.cores} cores: they take the cores from each other "
            f"({counters.involuntary_switches:.0f} times a second). Choose threads up to {evidence.host.cores}.",
        )


def _on_device(evidence: Evidence) -> bool:
    """What this host's processor lacks is then no cause."""
    return any(choice.technique == "gpu" for choice in evidence.recipe.choices)


def _shared_cores(evidence: Evidence) -> Iterator[Finding]:
    counters = evidence.baseline.counters if evidence.baseline else None
    threads = counters.threads if counters else evidence.host.cores
    for stage in evidence.facts:
        workers = stage.facts.get("workers", 1)
        if isinstance(workers, int) and 1 < workers <= threads and "hosts" not in stage.facts and not _on_device(evidence):
            yield Finding(
                Cause.SHARED_CORES,
                f"Its {workers} workers share the {evidence.host.cores} cores of this host, which the baseline has to itself: "
                "they bring no arithmetic of their own.",
            )


def _communication_bound(evidence: Evidence) -> Iterator[Finding]:
    for stage in evidence.facts:
        share = float(stage.facts.get("communication_share", 0.0))
        if share >= COMMUNICATION_SHARE:
            yield Finding(
                Cause.COMMUNICATION_BOUND,
                f"Communication-bound: for {share:.0%} of a call no worker computes, because data is under way.",
            )


def _idle_workers(evidence: Evidence) -> Iterator[Finding]:
    for stage in evidence.facts:
        share = float(stage.facts.get("bubble_share", 0.0))
        if share >= IDLE_SHARE:
            yield Finding(
                Cause.IDLE_WORKERS, f"The workers wait for each other: {share:.0%} of their time they do not compute."
            )


def _dense_masks(evidence: Evidence) -> Iterator[Finding]:
    for stage in evidence.facts:
        zeros = float(stage.facts.get("zero_share_after", 0.0)) - float(stage.facts.get("zero_share_before", 0.0))
        if zeros >= _ZEROS and float(stage.facts.get("parameters_removed", 0.0)) < zeros / 2:
            yield Finding(
                Cause.DENSE_MASKS,
                f"Masks are still dense: {zeros:.0%} of the weights became zeros, and the kernels multiply zeros like any "
                "other number. Structured pruning makes the matrices smaller.",
            )


def _missing_units(evidence: Evidence) -> Iterator[Finding]:
    formats = _formats(evidence.recipe)
    if _on_device(evidence):
        return
    if formats & _INTEGERS and not evidence.host.has_vnni:
        yield Finding(
            Cause.NO_INTEGER_UNITS,
            "This CPU has no integer dot product (VNNI or AMX), which is what makes int8 arithmetic fast.",
        )
    if NumberFormat.BF16 in formats and not evidence.host.has_bf16:
        yield Finding(
            Cause.NO_BF16_UNITS,
            "This CPU has no bf16 arithmetic (AVX-512 BF16 or AMX): every number is widened to fp32 and back.",
        )


def _fell_back(evidence: Evidence) -> Iterator[Finding]:
    """Products that compute in fp32 although the recipe asked for fewer bits."""
    profile = evidence.run.operators if evidence.run else None
    formats = _formats(evidence.recipe)
    if profile is None or not formats & {*_INTEGERS, NumberFormat.BF16, NumberFormat.FP8}:
        return
    wide = [o for o in profile.operators if o.precision == "fp32" and is_product(o)]
    share = sum(profile.share(o) for o in wide)
    if share < FALLEN_BACK_SHARE:
        return
    weights_only = any(stage.facts.get("mode") == QuantizationMode.WEIGHT_ONLY for stage in evidence.facts)
    why = "Only the weights are stored in fewer bits" if weights_only else "Operators fell back to fp32"
    yield Finding(
        Cause.FELL_BACK,
        f"{why}: {share:.0%} of a call's time passes in products that are dequantized and computed in fp32: {_listed(wide)}.",
    )


def _dispatch_bound(evidence: Evidence) -> Iterator[Finding]:
    profile = evidence.baseline.operators if evidence.baseline else None
    if profile is None:
        if evidence.baseline_ms < SMALL_MS:
            yield Finding(
                Cause.DISPATCH_BOUND,
                f"A call of the baseline takes only {evidence.baseline_ms:.2g} ms, most of it fixed cost of each operator; "
                "a larger batch or a longer input gives the recipe something to save.",
            )
        return
    count = sum(o.calls for o in profile.operators if o.type != OVERHEAD)
    if count and evidence.baseline_ms * 1e3 / count < DISPATCH_US:
        yield Finding(
            Cause.DISPATCH_BOUND,
            f"Dispatch-bound: a call of the baseline takes only {evidence.baseline_ms:.2g} ms for {count} operators, "
            f"{evidence.baseline_ms * 1e3 / count:.2g} µs each, which is mostly the fixed cost of calling them; a larger batch "
            "or a longer input gives the recipe something to save.",
        )


def _memory_bound(evidence: Evidence) -> Iterator[Finding]:
    if not evidence.bandwidth or evidence.weight_bytes < CACHED_BYTES or not evidence.run_ms:
        return
    reached = evidence.weight_bytes * evidence.passes / (evidence.run_ms / 1e3)
    if reached >= MEMORY_SHARE * evidence.bandwidth:
        yield Finding(
            Cause.MEMORY_BOUND,
            f"Memory-bound: its {evidence.weight_bytes / 1e6:.0f} MB of weights are read at {reached / 1e9:.3g} GB/s, "
            f"{reached / evidence.bandwidth:.0%} of what this host's memory gives; only fewer bytes make it faster.",
        )


def longest(profile: OperatorProfile, count: int = 3) -> str:
    """`linear 61 %, scaled_dot_product_attention 20 %`: the types with the most time."""
    shares: dict[str, float] = defaultdict(float)
    for operator in profile.operators:
        shares[operator.type] += profile.share(operator)
    first = sorted(shares.items(), key=lambda item: -item[1])[:count]
    return ", ".join(f"{type_} {share * 100:.0f} %" for type_, share in first)


def _listed(operators: Sequence[OperatorTime]) -> str:
    named = list(dict.fromkeys(o.name for o in operators))
    more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    return ", ".join(named[:_NAMED]) + more


def _formats(recipe: Recipe) -> set[str]:
    return {str(choice.config.as_dict().get("format", "")) for choice in recipe.choices}
