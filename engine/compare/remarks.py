"""Why a run gained nothing, in sentences for a person."""

from __future__ import annotations

from collections.abc import Sequence

from engine.compare.speedup import Speedup
from engine.domain.artifact import ModelCard
from engine.domain.deployment import NumberFormat
from engine.domain.experiment import StageFacts
from engine.domain.host import HostFacts
from engine.domain.metrics import Verdict
from engine.domain.recipe import Recipe

SMALL_MS = 2.0
"""Below this a call spends most of its time on dispatching operators, not on arithmetic."""
COMMUNICATION_BOUND = 0.1
IDLE = 0.25
"""Shares of a call from which on they are worth a sentence."""
_INTEGERS = (NumberFormat.INT8, NumberFormat.INT4)


def why_no_gain(
    recipe: Recipe,
    facts: Sequence[StageFacts],
    speedup: Speedup,
    card: ModelCard,
    host: HostFacts,
    baseline_ms: float,
) -> tuple[str, ...]:
    """Empty when the run is faster. The verdict first, then every reason that is known.

    What the stages themselves remarked (masks that are still dense, say) is among the
    reasons. baseline_ms: the baseline's median latency.
    """
    if speedup.verdict is Verdict.FASTER:
        return ()
    reasons = [remark for stage in facts for remark in stage.remarks]
    reasons += _arithmetic(recipe, host)
    reasons += _spread(facts, host)
    if baseline_ms < SMALL_MS:
        reasons.append(
            f"A call of the baseline takes only {baseline_ms:.2g} ms, most of it fixed cost of each operator; "
            "a larger batch or a longer input gives the recipe something to save."
        )
    if not reasons:
        reasons.append(_untouched(recipe, card))
    return (_verdict(speedup), *dict.fromkeys(reasons))


def _verdict(speedup: Speedup) -> str:
    low, high = speedup.ratio.ci95
    measured = f"{speedup.ratio.median:.2f}× (95 % interval {low:.2f}–{high:.2f})"
    if speedup.verdict is Verdict.SLOWER:
        return f"Slower than the baseline: {measured}."
    return (
        f"Not distinguishable from the baseline: {measured}, while the baseline's own rounds "
        f"differ by {speedup.band:.1%}."
    )


def _arithmetic(recipe: Recipe, host: HostFacts) -> list[str]:
    formats = {str(choice.config.as_dict().get("format", "")) for choice in recipe.choices}
    found = []
    if formats & set(_INTEGERS) and not host.has_vnni:
        found.append("This CPU has no integer dot product (VNNI or AMX), which is what makes int8 arithmetic fast.")
    if NumberFormat.BF16 in formats and not host.has_bf16:
        found.append("This CPU has no bf16 arithmetic (AVX-512 BF16 or AMX): every number is widened to fp32 and back.")
    return found


def _spread(facts: Sequence[StageFacts], host: HostFacts) -> list[str]:
    """Of several workers on one host: what they share, and how long they wait."""
    known = {name: value for stage in facts for name, value in stage.facts.items()}
    workers, communication, bubble = (known.get(name, 0) for name in ("workers", "communication_share", "bubble_share"))
    if not isinstance(workers, int) or workers < 2:
        return []
    found = [
        f"Its {workers} workers share the {host.cores} cores of this host, which the baseline has to itself: "
        "they bring no arithmetic of their own."
    ]
    if float(communication) >= COMMUNICATION_BOUND:
        found.append(f"Communication-bound: for {float(communication):.0%} of a call no worker computes, because data is under way.")
    if float(bubble) >= IDLE:
        found.append(f"The workers wait for each other: {float(bubble):.0%} of their time they do not compute.")
    return found


def _untouched(recipe: Recipe, card: ModelCard) -> str:
    if not recipe.choices:
        return "The runtime runs the same arithmetic on the same tensors; its kernels are no better here for this model."
    work = ", ".join(name for name, _ in sorted(card.operators.items(), key=lambda item: -item[1])[:3])
    told = f" (this model is mostly {work})" if work else ""
    return f"What the recipe changes takes too little of a call's time to show{told}."
