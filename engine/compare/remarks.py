"""Why a run gained nothing, in sentences for a person."""

from __future__ import annotations

from engine.compare.causes import Cause, Evidence, causes_of, longest
from engine.compare.speedup import Speedup
from engine.domain.metrics import Verdict


def why_no_gain(speedup: Speedup, evidence: Evidence) -> tuple[str, ...]:
    """Empty when the run is faster. The verdict first, then every reason that is known.

    What the stages themselves remarked (layers that kept their format, say) is among the
    reasons.
    """
    if speedup.verdict is Verdict.FASTER:
        return ()
    findings = causes_of(evidence)
    causes = {finding.cause for finding in findings}
    reasons = [remark for stage in evidence.facts for remark in stage.remarks if not _said(remark, causes)]
    reasons += [finding.sentence for finding in findings]
    if not reasons:
        reasons.append(_untouched(evidence))
    return (_verdict(speedup), *dict.fromkeys(reasons))


def _said(remark: str, causes: set[Cause]) -> bool:
    """Whether a finding says the same with its figures."""
    return Cause.DENSE_MASKS in causes and "dense" in remark


def _verdict(speedup: Speedup) -> str:
    low, high = speedup.ratio.ci95
    measured = f"{speedup.ratio.median:.2f}× (95 % interval {low:.2f}–{high:.2f})"
    if speedup.verdict is Verdict.SLOWER:
        return f"Slower than the baseline: {measured}."
    apart = f"{speedup.band:.1%}" if speedup.band < 1 else f"a factor of {1 + speedup.band:,.0f}"
    advice = " One process of each tells little: measure with processes=3 or more." if speedup.blocks == 1 else ""
    return f"Not distinguishable from the baseline: {measured}, while equal processes may differ by {apart} here.{advice}"


def _untouched(evidence: Evidence) -> str:
    profile = evidence.baseline.operators if evidence.baseline else None
    where = f" (the baseline's time: {longest(profile)})" if profile else _made_of(evidence)
    if not evidence.recipe.choices:
        return f"The runtime runs the same arithmetic on the same tensors; its kernels are no better here for this model{where}."
    return f"What the recipe changes takes too little of a call's time to show{where}."


def _made_of(evidence: Evidence) -> str:
    work = ", ".join(name for name, _ in sorted(evidence.card.operators.items(), key=lambda item: -item[1])[:3])
    return f" (this model is mostly {work})" if work else ""
