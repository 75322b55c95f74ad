"""What differs between runs: recipes knob by knob, facts, environments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.domain.errors import RecipeError
from engine.domain.experiment import Run
from engine.domain.host import Environment
from engine.domain.knobs import KnobValue, format_value
from engine.grammar import parse_recipe


@dataclass(frozen=True, slots=True)
class Difference:
    """`values`: one a run, in the runs' order; empty where the run has none."""

    what: str
    values: tuple[str, ...]


def differences_of(runs: Sequence[Run]) -> list[Difference]:
    """Runtime, knobs and stage facts that are not the same in all runs."""
    tables = [{**_knobs(run), **_facts(run)} for run in runs]
    names = list(dict.fromkeys(name for table in tables for name in table))
    rows = [Difference(name, tuple(table.get(name, "") for table in tables)) for name in names]
    return [row for row in rows if len(set(row.values)) > 1]


def unlike_environments(runs: Sequence[Run]) -> list[str]:
    """One sentence a difference that makes these runs' times incomparable; empty when alike."""
    known = [run.environment for run in runs if run.environment is not None]
    if len({e.comparable_key for e in known}) < 2:
        return []
    tables = [_environment(e) for e in known]
    names = list(dict.fromkeys(name for table in tables for name in table))
    unlike = [n for n in names if len({table.get(n, "none") for table in tables}) > 1]
    return [
        "These runs were measured in unlike environments, so their times cannot be compared: "
        + "; ".join(f"{n} {' / '.join(sorted({t.get(n, 'none') for t in tables}))}" for n in unlike)
        + "."
    ]


def _environment(environment: Environment) -> dict[str, str]:
    fields = ("host", "cpu", "cores", "threads", "kernel")
    return {**{f: str(getattr(environment, f)) for f in fields}, **environment.versions}


def _knobs(run: Run) -> dict[str, str]:
    table = {"runtime": run.runtime}
    try:
        choices = parse_recipe(run.recipe).choices
    except RecipeError:
        # written by another version: the spelling is all there is to compare
        return {**table, "recipe": run.recipe}
    for choice in choices:
        values: Mapping[str, KnobValue] = choice.config.as_dict()
        table |= {f"{choice.technique}: {name}": format_value(value) for name, value in values.items()}
    return table


def _facts(run: Run) -> dict[str, str]:
    return {
        f"{stage.technique}: {name.replace('_', ' ')}": f"{value:.4g}" if isinstance(value, float) else str(value)
        for stage in run.facts
        for name, value in stage.facts.items()
    }
