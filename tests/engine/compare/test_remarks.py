"""Each reason why nothing was gained, and none where something was."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.compare.remarks import why_no_gain
from engine.compare.speedup import Speedup
from engine.domain.artifact import ArtifactFormat, ModelCard, TaskId
from engine.domain.experiment import StageFacts
from engine.domain.host import HostFacts
from engine.domain.metrics import Ratio, Verdict
from engine.grammar import parse_recipe

CARD = ModelCard(ArtifactFormat.HUGGINGFACE, TaskId.TEXT_ENCODER, "BertModel", 22_000_000, "float32", (), operators={"Linear": 36, "LayerNorm": 13})
OLD = HostFacts("h", "old", 2, 2**34, frozenset({"avx2"}))
NEW = HostFacts("h", "new", 2, 2**34, frozenset({"avx512_vnni", "avx512_bf16"}))
ALIKE = Speedup(Ratio(1.004, (0.99, 1.02)), Verdict.NOT_DISTINGUISHABLE, 0.013, 10)
SLOWER = Speedup(Ratio(0.5, (0.49, 0.51)), Verdict.SLOWER, 0.01, 10)


def why(recipe: str, speedup: Speedup = ALIKE, host: HostFacts = NEW, ms: float = 20.0, facts: tuple[StageFacts, ...] = ()) -> str:
    return " ".join(why_no_gain(parse_recipe(recipe), facts, speedup, CARD, host, ms))


def test_a_faster_run_has_nothing_to_explain() -> None:
    assert why("@openvino", replace(ALIKE, verdict=Verdict.FASTER), OLD, 0.1) == ""


def test_the_verdict_comes_first() -> None:
    assert why("@inductor").startswith("Not distinguishable from the baseline: 1.00× (95 % interval 0.99–1.02), while the baseline's own rounds differ by 1.3%.")
    assert why("@inductor", SLOWER).startswith("Slower than the baseline: 0.50×")


def test_what_the_stages_remarked_is_a_reason() -> None:
    masks = StageFacts("pruning", 1.0, {}, ("Masks are still dense: no speedup.",))
    assert "Masks are still dense: no speedup." in why("pruning(kind=unstructured)", facts=(masks, masks))
    assert why("pruning(kind=unstructured)", facts=(masks, masks)).count("Masks") == 1


@pytest.mark.parametrize(("recipe", "word"), [("quantization(format=int8)", "VNNI"), ("quantization(format=bf16)", "bf16")])
def test_arithmetic_the_cpu_lacks(recipe: str, word: str) -> None:
    assert f"This CPU has no {'integer' if word == 'VNNI' else 'bf16'}" in why(recipe, host=OLD)
    assert "This CPU" not in why(recipe, host=NEW)


def test_calls_too_short_to_gain() -> None:
    assert "takes only 0.4 ms" in why("@openvino", ms=0.4)
    assert "takes only" not in why("@openvino", ms=20.0)


def test_several_workers_on_one_host_say_what_they_share_and_wait_for() -> None:
    shares: dict[str, float | int | str | bool] = {"workers": 2, "communication_share": 0.34, "bubble_share": 0.6}
    said = why("model_parallelism()", SLOWER, facts=(StageFacts("spreading", 1.0, shares),))
    assert "2 workers share the 2 cores" in said
    assert "Communication-bound: for 34% of a call" in said and "60% of their time" in said
    quick = StageFacts("spreading", 1.0, {**shares, "communication_share": 0.02, "bubble_share": 0.1})
    assert "bound" not in why("model_parallelism()", SLOWER, facts=(quick,))


def test_there_is_always_a_reason() -> None:
    assert "The runtime runs the same arithmetic" in why("@inductor")
    assert "takes too little of a call's time to show (this model is mostly Linear, LayerNorm)" in why("pruning()")
