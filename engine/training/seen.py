"""What a model shows while it answers: its outputs, its layers' hidden states, its attention maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from engine.tasks.traceable import Traceable


@dataclass(slots=True)
class Seen:
    """`outputs` by name as the card has them; `hidden` (batch, positions, size) and `attention`
    (batch, positions, positions; the heads' mean) by the place they were asked for at."""

    outputs: dict[str, Tensor]
    hidden: list[Tensor] = field(default_factory=list)
    attention: list[Tensor] = field(default_factory=list)


class Watched:
    """A module and the places in it that are watched, as paths from its `.model`."""

    def __init__(self, module: Traceable, hidden: Sequence[str] = (), attention: Sequence[str] = ()) -> None:
        self.module = module
        self._hidden = tuple(hidden)
        self._attention = tuple(attention)
        if attention:
            # only the plain implementation makes the maps at all
            model: Any = module.model
            model.set_attn_implementation("eager")

    def __call__(self, inputs: dict[str, Tensor]) -> Seen:
        """Answer `inputs` (by the card's names)."""
        hidden: dict[str, Tensor] = {}
        maps: dict[str, Tensor] = {}
        with _hooks(self.module.model, self._hidden, hidden, _first), _hooks(self.module.model, self._attention, maps, _map):
            outputs = self.module(*(inputs[name] for name in self.module.inputs))
        named = dict(zip(self.module.outputs, outputs, strict=True))
        return Seen(named, [hidden[path] for path in self._hidden], [maps[path] for path in self._attention])


@contextmanager
def _hooks(model: nn.Module, paths: Sequence[str], into: dict[str, Tensor], pick: Callable[[Any], Tensor]) -> Iterator[None]:
    def note(path: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            into[path] = pick(output)

        return hook

    handles = [model.get_submodule(path).register_forward_hook(note(path)) for path in paths]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _first(output: Any) -> Tensor:
    found: Tensor = output[0] if isinstance(output, tuple) else output
    return found


def _map(output: Any) -> Tensor:
    weights: Tensor = output[1]
    return weights.mean(1)
