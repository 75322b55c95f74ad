"""What differs between runs, and when their times may not be compared."""

from __future__ import annotations

from dataclasses import replace

from engine.compare.difference import differences_of, unlike_environments
from engine.domain.experiment import StageFacts
from engine.domain.host import Environment
from tests.engine.compare.runs import run

ENVIRONMENT = Environment("h", "cpu", 2, 2**34, "6.1", "3.11", ("avx2",), 2, "unknown", "full", {"torch": "2.13.0"})


def test_knobs_and_runtimes_that_differ() -> None:
    one = replace(run("pruning(sparsity=0.3)@openvino"), runtime="openvino")
    other = replace(run("pruning(sparsity=0.5)@eager"), runtime="eager")
    found = {d.what: d.values for d in differences_of([one, other])}
    assert found == {"runtime": ("openvino", "eager"), "pruning: sparsity": ("0.3", "0.5")}


def test_a_technique_that_only_one_has() -> None:
    found = {d.what: d.values for d in differences_of([run("quantization(format=bf16)"), run("")])}
    assert found["quantization: format"] == ("bf16", "")


def test_defaults_are_shown_beside_another_choice_alone() -> None:
    recipes = ("quantization(format=int4)", "quantization(format=int4, ratio=0.2)", "")
    found = {d.what: d.values for d in differences_of([run(recipe) for recipe in recipes])}
    assert found == {"quantization: format": ("int4", "int4", ""), "quantization: ratio": ("1.0", "0.2", "")}


def test_facts_that_differ() -> None:
    facts = [StageFacts("pruning", 1.0, {"parameters_after": count, "kind": "structured"}) for count in (10, 20)]
    found = differences_of([replace(run("pruning()"), facts=(each,)) for each in facts])
    assert [(d.what, d.values) for d in found] == [("pruning: parameters after", ("10", "20"))]


def test_equal_runs_do_not_differ() -> None:
    assert differences_of([run("pruning()"), run("pruning()")]) == []


def test_recipes_of_another_version_are_compared_by_their_spelling() -> None:
    found = {d.what: d.values for d in differences_of([run("teleport(x=1)"), run("")])}
    assert found["recipe"] == ("teleport(x=1)", "")


def test_unlike_environments_are_named() -> None:
    alike = [replace(run(r), environment=ENVIRONMENT) for r in ("", "@openvino")]
    assert unlike_environments(alike) == []
    newer = replace(ENVIRONMENT, versions={"torch": "2.14.0"}, threads=1)
    sentences = unlike_environments([alike[0], replace(alike[1], environment=newer)])
    assert len(sentences) == 1
    assert "threads 1 / 2" in sentences[0] and "torch 2.13.0 / 2.14.0" in sentences[0]
    assert "kernel" not in sentences[0]
