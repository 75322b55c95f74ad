"""Each cause of a missing gain is planted and found, and not found where it is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from engine.compare.causes import Cause, Evidence, causes_of
from engine.compare.remarks import why_no_gain
from engine.compare.speedup import Speedup
from engine.domain.artifact import ArtifactFormat, ModelCard, TaskId
from engine.domain.evidence import Counters, Examined
from engine.domain.experiment import StageFacts
from engine.domain.host import HostFacts
from engine.domain.metrics import Ratio, Verdict
from engine.domain.operators import OVERHEAD, OperatorProfile, OperatorTime, profile_of
from engine.grammar import parse_recipe

CARD = ModelCard(ArtifactFormat.HUGGINGFACE, TaskId.TEXT_ENCODER, "BertModel", 22_000_000, "float32", (), operators={"Linear": 36, "LayerNorm": 13})
OLD = HostFacts("h", "old", 2, 2**34, frozenset({"avx2"}))
NEW = HostFacts("h", "new", 2, 2**34, frozenset({"avx512_vnni", "avx512_bf16"}))
ALIKE = Speedup(Ratio(1.004, (0.99, 1.02)), Verdict.NOT_DISTINGUISHABLE, 0.013, 10, blocks=10)
SLOWER = Speedup(Ratio(0.5, (0.49, 0.51)), Verdict.SLOWER, 0.01, 10)
QUIET = Counters(threads=2, busy_cores=1.9, involuntary_switches=3.0)
UNSTRUCTURED = StageFacts("pruning", 1.0, {"zero_share_before": 0.0, "zero_share_after": 0.3, "parameters_removed": 0.0})


def operators(*rows: tuple[str, str, int, float, str]) -> OperatorProfile:
    """(type, name, calls, ms, precision) each."""
    return profile_of(
        "openvino", [OperatorTime(type=t, name=n, calls=c, ms=ms, precision=p) for t, n, c, ms, p in rows], 1
    )


LARGE = operators(("linear", "ffn", 36, 12.0, "fp32"), ("softmax", "attention", 6, 8.0, ""))
INTEGERS = operators(("FullyConnected", "ffn", 36, 9.0, "int8"), ("Softmax", "attention", 6, 1.0, "fp32"))


def evidence(recipe: str = "@inductor", **changes: Any) -> Evidence:
    """Nothing to be found, but for what is changed."""
    given: dict[str, Any] = {
        "recipe": parse_recipe(recipe), "facts": (), "card": CARD, "host": NEW, "baseline_ms": 20.0, "run_ms": 20.0,
        "baseline": Examined(counters=QUIET, operators=LARGE), "run": Examined(counters=QUIET, operators=INTEGERS),
    }  # fmt: skip
    return Evidence(**given | changes)


def ran(profile: OperatorProfile = INTEGERS, **counters: Any) -> Examined:
    return Examined(counters=replace(QUIET, **counters), operators=profile)


WORKERS = StageFacts("spreading", 1.0, {"workers": 2})

PLANTED: dict[Cause, tuple[Evidence, str]] = {
    Cause.DENSE_MASKS: (evidence("pruning(kind=unstructured)", facts=(UNSTRUCTURED,)), "30% of the weights became zeros"),
    Cause.NO_INTEGER_UNITS: (evidence("quantization(format=int8)", host=OLD), "VNNI or AMX"),
    Cause.NO_BF16_UNITS: (evidence("quantization(format=bf16)", host=OLD), "widened to fp32"),
    Cause.FELL_BACK: (
        evidence("quantization(format=int8)@openvino", run=ran(operators(("FullyConnected", "head", 1, 5.0, "fp32"), ("FullyConnected", "ffn", 9, 5.0, "int8")))),
        "50% of a call's time passes in products that are dequantized and computed in fp32: head.",
    ),
    Cause.MEMORY_BOUND: (evidence("@openvino", weight_bytes=400_000_000, run_ms=25.0, bandwidth=20e9), "read at 16 GB/s, 80% of"),
    Cause.DISPATCH_BOUND: (
        evidence("@openvino", baseline_ms=0.4, baseline=ran(operators(("linear", "l", 50, 0.2, "fp32"), (OVERHEAD, OVERHEAD, 1, 0.2, "")))),
        "0.4 ms for 50 operators, 8 µs each",
    ),
    Cause.COMMUNICATION_BOUND: (evidence(facts=(StageFacts("model_parallelism", 1.0, {"communication_share": 0.4}),)), "40% of a call"),
    Cause.SHARED_CORES: (evidence(facts=(WORKERS,)), "2 workers share the 2 cores"),
    Cause.IDLE_WORKERS: (evidence(facts=(StageFacts("spreading", 1.0, {"bubble_share": 0.6}),)), "60% of their time"),
    Cause.OVERSUBSCRIBED: (evidence(run=ran(threads=8, involuntary_switches=911.0)), "8 threads share 2 cores"),
    Cause.RECOMPILED: (evidence(run=ran(compiled_while_timed=3)), "compiled 3 more graphs"),
}


@pytest.mark.parametrize("cause", PLANTED, ids=[c.name for c in PLANTED])
def test_a_planted_cause_is_found_alone(cause: Cause) -> None:
    planted, words = PLANTED[cause]
    (finding,) = causes_of(planted)
    assert finding.cause is cause
    assert words in finding.sentence
    assert finding.sentence in why_no_gain(ALIKE, planted)


def test_every_cause_is_planted() -> None:
    assert set(PLANTED) == set(Cause)


@pytest.mark.parametrize("recipe", ["@openvino", "pruning()", "quantization(format=int8)", "quantization(format=bf16)"])
def test_without_evidence_no_cause_is_named(recipe: str) -> None:
    assert causes_of(evidence(recipe, weight_bytes=30_000_000, run_ms=1.0, bandwidth=20e9)) == []
    assert causes_of(evidence(recipe, weight_bytes=400_000_000, run_ms=200.0, bandwidth=20e9)) == []
    assert causes_of(evidence(recipe, baseline=None, run=None)) == []


@pytest.mark.parametrize("recipe", ["quantization(format=int8)+gpu()", "quantization(format=bf16)+gpu()", "model_parallelism()+gpu()"])
def test_what_the_processor_lacks_is_no_cause_on_a_device(recipe: str) -> None:
    workers = StageFacts("spreading", 1.0, {"workers": 2})
    assert causes_of(evidence(recipe, host=OLD, facts=(workers,))) == []


def test_workers_that_have_more_cores_than_the_baseline_share_none() -> None:
    assert causes_of(evidence(facts=(WORKERS,), baseline=ran(threads=1))) == []


def test_zeros_of_removed_neurons_are_no_masks() -> None:
    shrunk = StageFacts("pruning", 1.0, {"zero_share_before": 0.0, "zero_share_after": 0.06, "parameters_removed": 0.3})
    assert causes_of(evidence("pruning()", facts=(shrunk,))) == []


def test_nobody_counted_the_operators_of_a_short_call() -> None:
    (finding,) = causes_of(evidence(baseline=None, run=None, baseline_ms=0.4))
    assert finding.cause is Cause.DISPATCH_BOUND


def test_weights_that_are_only_stored_in_integers_say_so() -> None:
    wide = operators(*(("FullyConnected", f"layer {i}", 1, 1.0, "fp32") for i in range(9)))
    facts = (StageFacts("openvino", 1.0, {"mode": "weight_only"}),)
    (finding,) = causes_of(evidence("quantization(format=int8)@openvino", facts=facts, run=ran(wide)))
    assert finding.sentence.startswith("Only the weights are stored in fewer bits: 100%")
    assert finding.sentence.endswith("layer 0, layer 1, layer 2, layer 3, layer 4 and 4 more.")


def test_a_faster_run_has_nothing_to_explain() -> None:
    assert why_no_gain(replace(ALIKE, verdict=Verdict.FASTER), evidence(host=OLD, baseline_ms=0.1)) == ()


def test_the_verdict_comes_first() -> None:
    assert why_no_gain(ALIKE, evidence())[0] == (
        "Not distinguishable from the baseline: 1.00× (95 % interval 0.99–1.02), while equal processes may differ by 1.3% here."
    )
    single = why_no_gain(replace(ALIKE, band=726.0, blocks=1), evidence())[0]
    assert single.endswith("may differ by a factor of 727 here. One process of each tells little: measure with processes=3 or more.")
    assert why_no_gain(SLOWER, evidence())[0].startswith("Slower than the baseline: 0.50×")


def test_what_the_stages_remarked_is_a_reason_once() -> None:
    kept = StageFacts("eager", 1.0, {}, ("2 linear layers keep their format.",))
    assert why_no_gain(ALIKE, evidence(facts=(kept, kept)))[1:] == ("2 linear layers keep their format.",)
    masks = replace(UNSTRUCTURED, remarks=("Masks are still dense: the matrices keep their shape.",))
    (_, reason) = why_no_gain(ALIKE, evidence("pruning(kind=unstructured)", facts=(masks,)))
    assert "kernels multiply zeros" in reason


def test_there_is_always_a_reason_with_where_the_time_goes() -> None:
    assert "The runtime runs the same arithmetic" in why_no_gain(ALIKE, evidence())[1]
    assert "(the baseline's time: linear 60 %, softmax 40 %)" in why_no_gain(ALIKE, evidence("pruning()"))[1]
    unknown = evidence("pruning()", baseline=None, run=None)
    assert "takes too little of a call's time to show (this model is mostly Linear, LayerNorm)" in why_no_gain(ALIKE, unknown)[1]
