"""Sensible recipes for a newcomer: what she gets by pressing only primary buttons."""

from __future__ import annotations

from engine.catalogue import TECHNIQUES
from engine.domain.artifact import ModelCard
from engine.domain.host import HostFacts
from engine.domain.recipe import Recipe, RuntimeId
from engine.grammar import parse_recipe
from engine.plan import default_runtime, make_plan

_RUNTIMES_ALONE = (RuntimeId.OPENVINO, RuntimeId.ONNXRUNTIME, RuntimeId.INDUCTOR)


def suggested_recipes(card: ModelCard, host: HostFacts, limit: int = 6) -> list[Recipe]:
    """At most `limit` recipes that can run here, the most promising first.

    Each technique's own suggestions first, then their combination on the first
    suggested runtime, then the runtimes alone (what the runtime brings by itself).
    """
    by_technique = [[parse_recipe(text) for text in spec.suggested] for spec in TECHNIQUES]
    firsts = [recipes[0] for recipes in by_technique if recipes]
    wanted = [recipe for recipes in by_technique for recipe in recipes]
    if len(firsts) > 1:
        wanted.append(Recipe(tuple(c for recipe in firsts for c in recipe.choices), firsts[-1].runtime))
    wanted[:0] = [Recipe((), r) for r in _RUNTIMES_ALONE[:1] if r is not default_runtime(card)]
    wanted += [Recipe((), r) for r in _RUNTIMES_ALONE[1:] if r is not default_runtime(card)]
    able = {str(r): r for r in wanted if make_plan(r, card, host).runs}
    return list(able.values())[:limit]
