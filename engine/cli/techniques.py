"""`python -m engine techniques`: the catalogue, as text, JSON or Markdown."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from engine import catalogue
from engine.domain.knobs import Knob, format_value
from engine.domain.recipe import RuntimeId
from engine.domain.technique import After, Excludes, RunsOn, TechniqueSpec


def techniques(*, as_json: bool, as_markdown: bool) -> int:
    if as_json:
        print(json.dumps([described(spec) for spec in catalogue.TECHNIQUES], indent=2))
    elif as_markdown:
        print("\n".join(markdown(spec) for spec in catalogue.TECHNIQUES))
    else:
        print("\n".join(_text(spec) for spec in catalogue.TECHNIQUES))
        print(f"\nruntimes: {', '.join(RuntimeId)}")
    return 0


def described(spec: TechniqueSpec) -> dict[str, Any]:
    """A technique as plain data; `runtimes` are those it can serve."""
    return {
        "id": spec.id,
        "title": spec.title,
        "family": str(spec.family),
        "phase": spec.phase.name.lower(),
        "summary": spec.summary,
        "knobs": [_knob(knob) for knob in spec.config.knobs()],
        "rules": [_rule(rule) for rule in spec.rules],
        "runtimes": [str(r) for r in RuntimeId if _serves(spec, r)],
        "suggested": list(spec.suggested),
    }


def markdown(spec: TechniqueSpec) -> str:
    """A section of documentation for one technique."""
    rows = [f"| `{k.name}` | {_values(k)} | `{format_value(k.default)}` | {k.help} |" for k in spec.config.knobs()]
    rules = [f"- {_sentence(rule)}" for rule in spec.rules]
    return "\n".join(
        [
            f"## {spec.title}",
            f"`{spec.id}` · {spec.family}. {spec.summary}",
            "",
            "| knob | values | default | meaning |",
            "|---|---|---|---|",
            *rows,
            *(["", *rules] if rules else []),
            "",
            "Worth trying: " + ", ".join(f"`{recipe}`" for recipe in spec.suggested) + "." if spec.suggested else "",
        ]
    )


def _text(spec: TechniqueSpec) -> str:
    knobs = [f"    {k.name}={format_value(k.default)}  ({_values(k)}) {k.help}" for k in spec.config.knobs()]
    return "\n".join([f"{spec.id}: {spec.summary}", *knobs])


def _knob(knob: Knob) -> dict[str, Any]:
    data = asdict(knob)
    return {**data, "type": knob.type.__name__, "shown_when": {name: list(v) for name, v in knob.shown_when}}


def _values(knob: Knob) -> str:
    if knob.choices:
        return ", ".join(f"`{c}`" for c in knob.choices)
    if knob.type is bool:
        return "`true`, `false`"
    if knob.names_model:
        return "id of an uploaded model"
    unit = f" {knob.unit}" if knob.unit else ""
    return f"{knob.low:g} to {knob.high:g}{unit}"


def _rule(rule: After | Excludes | RunsOn) -> dict[str, Any]:
    data: dict[str, Any] = {"kind": type(rule).__name__, "reason": rule.reason}
    if isinstance(rule, RunsOn):
        return {**data, "runtimes": sorted(rule.runtimes)}
    return {**data, "other": rule.other}


def _sentence(rule: After | Excludes | RunsOn) -> str:
    match rule:
        case After():
            return f"Runs after {rule.other}: {rule.reason}"
        case Excludes():
            return f"Not together with {rule.other}: {rule.reason}"
        case RunsOn():
            return f"Runs on {', '.join(sorted(rule.runtimes))}: {rule.reason}"


def _serves(spec: TechniqueSpec, runtime: RuntimeId) -> bool:
    return all(runtime in rule.runtimes for rule in spec.rules if isinstance(rule, RunsOn))
