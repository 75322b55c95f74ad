"""What the activations say of the weights they meet: moments of each layer's inputs over calibration batches,
and how much the answer would change without each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from engine.domain.ports import Batch
from engine.tasks.traceable import Traceable

MAX_BATCHES = 128
"""Beyond this the moments hardly move (measured on MiniLM), but the time grows."""


@dataclass(slots=True)
class Moments:
    """First and second moment of each input feature (channel), in fp64.

    `products` are the features' second moments with one another, where they were asked for.
    """

    count: float
    sums: Tensor
    squares: Tensor
    products: Tensor | None = None

    @property
    def mean(self) -> Tensor:
        return (self.sums / max(self.count, 1)).float()

    @property
    def rms(self) -> Tensor:
        return (self.squares / max(self.count, 1)).sqrt().float()

    @property
    def deviation(self) -> Tensor:
        variance = self.squares / max(self.count, 1) - (self.sums / max(self.count, 1)) ** 2
        return variance.clamp_min(0).sqrt().float()


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of each reading layer's inputs, by its path. Neither: only the weights' size counts.

    `taylor`: how much the answer changes, to first order, when an input feature is taken away.
    """

    moments: Mapping[str, Moments] | None = None
    taylor: Mapping[str, Tensor] | None = None

    def seen(self, path: str) -> Moments | None:
        return self.moments.get(path) if self.moments is not None else None


def observe(
    module: Traceable,
    paths: Iterable[str],
    batches: Sequence[Batch],
    progress: Callable[[float], None],
    *,
    products: bool = False,
) -> dict[str, Moments]:
    """Moments of the inputs of the modules at `paths` (relative to `module.model`). Padding does not count.

    products: of the features with one another too, which takes features² numbers a module.
    """
    moments: dict[str, Moments] = {}
    chosen = batches[:MAX_BATCHES]
    current: list[Tensor | None] = [None]
    with _hooks(module.model, paths, moments, current, products), torch.inference_mode():
        for index, batch in enumerate(chosen):
            mask = batch.get("attention_mask")
            current[0] = None if mask is None else torch.from_numpy(mask)
            module(*(torch.from_numpy(batch[name]) for name in module.inputs))
            progress((index + 1) / len(chosen))
    return moments


@contextmanager
def _hooks(
    model: nn.Module, paths: Iterable[str], moments: dict[str, Moments], current: list[Tensor | None], products: bool
) -> Iterator[None]:
    def hook(path: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            _add(moments, path, _rows(inputs[0], current[0]), products)

        return note

    handles = [model.get_submodule(path).register_forward_pre_hook(hook(path)) for path in paths]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _rows(x: Tensor, mask: Tensor | None) -> Tensor:
    """Inputs as (samples, features); images (batch, channels, height, width) a pixel a sample."""
    if x.dim() == 4:
        return x.transpose(1, -1).reshape(-1, x.shape[1])
    if mask is not None and x.shape[:2] == mask.shape:
        return x[mask.bool()]
    return x.reshape(-1, x.shape[-1])


def _add(moments: dict[str, Moments], path: str, rows: Tensor, products: bool) -> None:
    wide = rows.double()
    sums, squares = wide.sum(0), wide.square().sum(0)
    if path in moments:
        known = moments[path]
        known.count += len(rows)
        known.sums += sums
        known.squares += squares
    else:
        known = moments[path] = Moments(len(rows), sums, squares)
    if products:
        found = rows.t() @ rows
        known.products = found if known.products is None else known.products + found
