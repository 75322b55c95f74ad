"""Frozen domain data to JSON and back, by pydantic's TypeAdapter.

Pydantic is the best-kept validator for dataclasses; everything that crosses a
process boundary passes here and is checked on the way in.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from engine.domain.errors import InvalidInput

T = TypeVar("T")


def _adapter(kind: Any) -> TypeAdapter[Any]:
    return _cached_adapter(kind)


@cache
def _cached_adapter(kind: Hashable) -> TypeAdapter[Any]:
    untyped: Any = kind
    return TypeAdapter(untyped)


def encode(value: Any, kind: Any = None) -> str:
    """JSON text of a domain object."""
    return _adapter(kind or type(value)).dump_json(value).decode()


def as_data(value: Any, kind: Any = None) -> Any:
    """Plain JSON-compatible data of a domain object."""
    return _adapter(kind or type(value)).dump_python(value, mode="json")


def decode(kind: type[T], text: str | bytes) -> T:
    """The domain object that `text` spells. Raises InvalidInput."""
    try:
        value: T = _adapter(kind).validate_json(text)
    except ValidationError as error:
        raise InvalidInput(f"This is not a valid {kind.__name__}.", detail=str(error)) from error
    return value


def from_data(kind: type[T], data: Any) -> T:
    """The domain object that plain data spells. Raises InvalidInput."""
    try:
        value: T = _adapter(kind).validate_python(data)
    except ValidationError as error:
        raise InvalidInput(f"This is not a valid {kind.__name__}.", detail=str(error)) from error
    return value
