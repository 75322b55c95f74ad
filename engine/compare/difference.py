"""What differs between runs: recipes knob by knob, facts, environments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.domain.errors import InvalidInput, RecipeError
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
    """Runtime, knobs and stage facts that are not the same in all runs.

    A knob that every run which has it leaves at its default says nothing, though others lack the technique.
    """
    chosen = {name for run in runs for name in _knobs(run, spelled=True)}
    tables = [{name: value for name, value in _knobs(run).items() if name in chosen} | _facts(run) for run in runs]
    names = list(dict.fromkeys(name for table in tables for name in table))
    rows = [Difference(name, tuple(table.get(name, "") for table in tables)) for name in names]
    return [row for row in rows if len(set(row.values)) > 1]


def differing_environments(runs: Sequence[Run]) -> list[Difference]:
    """What makes these runs' times incomparable; empty when they were measured in one environment.

    A run without an environment was not measured and has no say.
    """
    known = [run.environment for run in runs if run.environment is not None]
    if len({e.comparable_key for e in known}) < 2:
        return []
    tables = [_environment(run.environment) if run.environment else {} for run in runs]
    names = list(dict.fromkeys(name for table in tables for name in table))
    rows = [Difference(name, tuple(table.get(name, "") for table in tables)) for name in names]
    return [row for row in rows if len(set(row.values) - {""}) > 1 or _lacks(row, tables)]


def unlike_environments(runs: Sequence[Run]) -> list[str]:
    """The refusal to compare these runs' times, with what differs; empty when they may be compared."""
    found = differing_environments(runs)
    if not found:
        return []
    unlike = "; ".join(f"{d.what} {' / '.join(sorted({value or 'none' for value in d.values}))}" for d in found)
    return [f"These runs were measured in unlike environments, so their times cannot be compared: {unlike}."]


def refuse_unlike(runs: Sequence[Run]) -> None:
    """Raises InvalidInput when these runs' times cannot be compared."""
    if sentences := unlike_environments(runs):
        raise InvalidInput(sentences[0], mend="Measure their recipes in one experiment.")


def _lacks(row: Difference, tables: Sequence[Mapping[str, str]]) -> bool:
    """Whether a measured run lacks what another has: a library, say."""
    return any(table and not value for value, table in zip(row.values, tables, strict=True)) and any(row.values)


def _environment(environment: Environment) -> dict[str, str]:
    fields = ("host", "cpu", "cores", "threads", "kernel", "python", "governor")
    named = {f: str(getattr(environment, f)) for f in fields}
    return {**named, "CPU features": " ".join(environment.cpu_flags), **environment.versions}


def _knobs(run: Run, *, spelled: bool = False) -> dict[str, str]:
    """The runtime and the knobs by technique; spelled: only those that the recipe names."""
    table = {"runtime": run.runtime}
    try:
        choices = parse_recipe(run.recipe).choices
    except RecipeError:
        # written by another version: the spelling is all there is to compare
        return {**table, "recipe": run.recipe}
    for choice in choices:
        values: Mapping[str, KnobValue] = choice.config.spelled() if spelled else choice.config.as_dict()
        table |= {f"{choice.technique}: {name}": format_value(value) for name, value in values.items()}
    return table


def _facts(run: Run) -> dict[str, str]:
    """What lowering did is one row for all runtimes; what was requested, the knobs say."""
    return {
        f"{'lowering' if stage.technique == run.runtime else stage.technique}: {name.replace('_', ' ')}": _shown(value)
        for stage in run.facts
        for name, value in stage.facts.items()
        if not name.endswith("_requested")
    }


def _shown(value: float | int | str | bool) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
