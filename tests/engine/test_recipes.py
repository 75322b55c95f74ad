"""The recipe grammar, the planner and the grid, for all recipes that can be written."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.catalogue import TECHNIQUES, spec_of
from engine.domain.artifact import ArtifactFormat, ModelCard, TaskId
from engine.domain.errors import RecipeError
from engine.domain.host import HostFacts
from engine.domain.knobs import Config, Knob
from engine.domain.recipe import Choice, Recipe, RuntimeId
from engine.domain.technique import After, Excludes, RunsOn
from engine.grammar import make_recipe, parse_recipe
from engine.grid import Column, expand
from engine.plan import make_plan
from engine.suggest import suggested_recipes

HOST = HostFacts("host", "a CPU", 2, 2**34, frozenset({"avx2"}))
CARD = ModelCard(
    ArtifactFormat.HUGGINGFACE, TaskId.TEXT_ENCODER, "BertModel", 22_000_000, "float32", (),
    operators={"Linear": 36}, num_layers=6, num_heads=12, hidden_size=384, intermediate_size=1536,
)  # fmt: skip
CARDS = st.sampled_from(
    [replace(CARD, task=task, format=format_) for task in TaskId for format_ in ArtifactFormat]
)


def _values(knob: Knob) -> st.SearchStrategy[object]:
    if knob.choices:
        return st.sampled_from(knob.choices)
    if knob.type is bool:
        return st.booleans()
    if knob.names_model:
        return st.text("0123456789abcdef", max_size=64)
    if knob.type is int:
        return st.integers(int(knob.low or 0), int(knob.high or 0))
    return st.floats(knob.low, knob.high)


@st.composite
def configs(draw: st.DrawFn, kind: type[Config]) -> Config:
    return kind.of({k.name: draw(_values(k)) for k in kind.knobs() if draw(st.booleans())})  # type: ignore[misc]


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    chosen = [spec for spec in TECHNIQUES if draw(st.booleans())]
    choices = tuple(Choice(spec.id, draw(configs(spec.config))) for spec in chosen)
    return make_recipe(choices, draw(st.sampled_from([None, *RuntimeId])))


@given(recipes())
def test_every_recipe_parses_back_to_itself(recipe: Recipe) -> None:
    assert parse_recipe(str(recipe)) == recipe


@given(recipes(), st.data())
def test_writing_order_and_spaces_do_not_matter(recipe: Recipe, data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(recipe.choices))
    text = " + ".join(str(c).replace("=", " = ") for c in shuffled) + (f" @ {recipe.runtime}" if recipe.runtime else "")
    assert parse_recipe(text) == recipe


@given(st.text(max_size=60))
def test_any_text_is_a_recipe_or_a_clear_error(text: str) -> None:
    try:
        recipe = parse_recipe(text)
    except RecipeError as error:
        assert error.what
        assert error.mend
    else:
        assert parse_recipe(str(recipe)) == recipe


@given(recipes(), CARDS)
def test_every_plan_obeys_every_rule(recipe: Recipe, card: ModelCard) -> None:
    plan = make_plan(recipe, card, HOST)
    order = [stage.technique for stage in plan.stages]
    assert sorted(order) == sorted(c.technique for c in recipe.choices)
    phases = [spec_of(t).phase for t in order]
    assert phases == sorted(phases)
    for position, technique in enumerate(order):
        for rule in spec_of(technique).rules:
            match rule:
                case After(other):
                    assert other not in order[position:]
                case Excludes(other):
                    assert other not in order or plan.refusals
                case RunsOn(runtimes):
                    assert plan.runtime in runtimes or plan.refusals
    assert all(stage.reason for stage in plan.stages)
    assert all(obstacle.reason for obstacle in plan.refusals)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("pruning(sparsity=2)", "out of range"),
        ("pruning(sparsity=nan)", "out of range"),
        ("pruning(sparsity=much)", "not a number"),
        ("pruning(kind=weird)", "not a choice"),
        ("pruning(colour=red)", "no knob"),
        ("pruning()+pruning()", "stands twice"),
        ("pruning(sparsity=0.1, sparsity=0.2)", "stands twice"),
        ("sorcery()", "no technique"),
        ("pruning()@abacus", "no runtime"),
        ("pruning()quantization()", "not understood"),
        ("pruning(", "not understood"),
        ("+", "does not start with a technique"),
    ],
)
def test_bad_recipes_say_what_is_wrong_and_what_to_do(text: str, says: str) -> None:
    with pytest.raises(RecipeError, match=says) as caught:
        parse_recipe(text)
    assert caught.value.mend


def test_quantization_comes_after_pruning_with_the_reason() -> None:
    plan = make_plan(parse_recipe("quantization()+pruning()@openvino"), CARD, HOST)
    assert [s.technique for s in plan.stages] == ["pruning", "quantization"]
    assert "cannot be cut" in plan.stages[1].reason
    assert plan.runs


def test_an_onnx_graph_is_refused_on_torch_with_the_way_out() -> None:
    plan = make_plan(parse_recipe("@inductor"), replace(CARD, format=ArtifactFormat.ONNX), HOST)
    assert not plan.runs
    assert "@openvino" in plan.refusals[0].mend


def test_a_grid_has_one_recipe_a_combination_and_no_baseline() -> None:
    grid = expand(
        [Column("pruning", {"sparsity": [0.2, 0.5]}, optional=True), Column("quantization", {}, optional=True)],
        [None, RuntimeId.OPENVINO],
    )
    assert len(grid) == len(set(map(str, grid))) == 11
    assert not any(recipe.is_baseline for recipe in grid)


@given(CARDS)
def test_suggestions_can_run(card: ModelCard) -> None:
    suggestions = suggested_recipes(card, HOST)
    assert 1 <= len(suggestions) <= 6
    assert all(make_plan(r, card, HOST).runs for r in suggestions)
