"""Knobs: a setting is declared once, as a dataclass field.

The form, the validation, the help text, the command line, the recipe grammar and
the JSON are all derived from the field:

    @dataclass(frozen=True, slots=True, kw_only=True)
    class PruningConfig(Config):
        sparsity: float = knob(0.3, low=0.0, high=0.95, help="Share of weights to remove")
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self, get_type_hints

from engine.domain.errors import RecipeError

KnobValue = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Knob:
    """What a field says of itself: type, default, bounds or choices, help."""

    name: str
    type: type
    default: KnobValue
    help: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    unit: str = ""
    grid: tuple[KnobValue, ...] = ()
    """Values worth trying, which the form offers for a grid of recipes."""
    shown_when: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Other knobs' values under which this one has any effect."""
    spelled: bool = False
    """Spelled in a recipe even at its default, because a reader wants to know it."""
    names_model: bool = False
    """Its value is the id of another uploaded model, or empty."""

    def matters_among(self, values: Mapping[str, KnobValue]) -> bool:
        """Whether it has an effect beside these values of the other knobs."""
        return all(format_value(values[name]) in wanted for name, wanted in self.shown_when)

    def parse(self, text: str) -> KnobValue:
        """The value that `text` spells. Raises RecipeError."""
        try:
            if self.type is bool:
                return {"true": True, "false": False}[text.strip().lower()]
            if self.type is int:
                return int(text)
            if self.type is float:
                return float(text)
        except (ValueError, KeyError):
            raise RecipeError(
                f"{self.name}={text} is not {_KINDS[self.type]}.",
                mend=f"Write for example {self.name}={format_value(self.default)}.",
                where=self.name,
            ) from None
        return text.strip()

    def check(self, value: KnobValue) -> None:
        """Raises RecipeError when `value` is outside this knob's bounds or choices."""
        shown = f"{self.name}={format_value(value)}"
        if self.choices and value not in self.choices:
            raise RecipeError(
                f"{shown} is not a choice.", mend=f"Choose one of: {', '.join(self.choices)}.", where=self.name
            )
        if self.names_model and value and not re.fullmatch("[0-9a-f]+", str(value)):
            raise RecipeError(f"{shown} is not the id of a model.", mend="Copy it from the model's card: hexadecimal digits.", where=self.name)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and not self._within(value):
            raise RecipeError(
                f"{shown} is out of range.", mend=f"Choose a value from {self.low:g} to {self.high:g}.", where=self.name
            )

    def _within(self, value: float) -> bool:
        # written so that NaN is outside
        above = self.low is None or value >= self.low
        below = self.high is None or value <= self.high
        return above and below and value == value


def knob(
    default: Any,
    *,
    help: str,
    low: float | None = None,
    high: float | None = None,
    unit: str = "",
    grid: tuple[KnobValue, ...] = (),
    shown_when: Mapping[str, tuple[str, ...]] | None = None,
    spelled: bool = False,
    names_model: bool = False,
) -> Any:
    """Declare a knob. Numbers need `low` and `high`; choices are a StrEnum's members; other texts are a model's id."""
    return dataclasses.field(
        default=default,
        metadata={
            "help": help, "low": low, "high": high, "unit": unit, "grid": grid,
            "shown_when": tuple((shown_when or {}).items()), "spelled": spelled, "names_model": names_model,
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Base of every technique's settings. Construction validates."""

    def __post_init__(self) -> None:
        for each in self.knobs():
            each.check(getattr(self, each.name))

    @classmethod
    def knobs(cls) -> tuple[Knob, ...]:
        hints = get_type_hints(cls)
        return tuple(_knob_of(field, hints[field.name]) for field in dataclasses.fields(cls))

    @classmethod
    def parse(cls, words: Mapping[str, str]) -> Self:
        """From `{"sparsity": "0.3"}`. Raises RecipeError on unknown names and bad values."""
        known = {k.name: k for k in cls.knobs()}
        unknown = [w for w in words if w not in known]
        if unknown:
            raise RecipeError(
                f"There is no knob {unknown[0]!r}.", mend=f"Known knobs: {', '.join(known) or 'none'}.", where=unknown[0]
            )
        return cls.of({name: known[name].parse(text) for name, text in words.items()})

    @classmethod
    def of(cls, values: Mapping[str, KnobValue]) -> Self:
        """From typed values, as forms and JSON have them. Raises RecipeError."""
        hints = get_type_hints(cls)
        known = {k.name: k for k in cls.knobs()}
        typed: dict[str, Any] = {}
        for name, value in values.items():
            if name not in known:
                raise RecipeError(f"There is no knob {name!r}.", mend=f"Known knobs: {', '.join(known)}.", where=name)
            known[name].check(value)
            typed[name] = hints[name](value)
        return cls(**typed)

    def spelled(self) -> dict[str, KnobValue]:
        """The knobs a recipe spells: those off their defaults and those always spelled that have an effect, in declaration order."""
        values = self.as_dict()
        return {k.name: getattr(self, k.name) for k in self.knobs() if values[k.name] != k.default or (k.spelled and k.matters_among(values))}

    def as_dict(self) -> dict[str, KnobValue]:
        return {k.name: _plain(getattr(self, k.name)) for k in self.knobs()}


def format_value(value: KnobValue) -> str:
    """As the recipe grammar spells it; `Knob.parse` reads it back to the same value."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value)
    return str(value)


_KINDS: dict[type, str] = {bool: "true or false", int: "a whole number", float: "a number"}


def _plain(value: KnobValue) -> KnobValue:
    return value.value if isinstance(value, StrEnum) else value


def _knob_of(field: dataclasses.Field[Any], hint: type) -> Knob:
    choices = tuple(str(m) for m in hint) if issubclass(hint, StrEnum) else ()
    default: Any = field.default
    return Knob(
        name=field.name, type=str if choices else hint, default=_plain(default), choices=choices, **field.metadata
    )
