"""Watches a module's products on calibration inputs and chooses an integer grid for each.

What is observed of a product: rows of its first operand, the range of its second where
that is an activation, the range of each output channel after a batch normalisation and a
ReLU that follow it and nothing else reads: both become part of the product.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.fpga.grids import Reals
from engine.fpga.interception import BATCH_NORM, RELU, Interceptor, Product, module_paths, plain
from engine.fpga.observed import Observed, ProductKind
from engine.tasks.traceable import Traceable

_LAYOUT = frozenset({
    "view", "reshape", "transpose", "permute", "t", "contiguous", "expand", "expand_as", "flatten", "unflatten", "squeeze",
    "unsqueeze", "getitem", "to", "type_as", "float", "detach", "clone", "dropout", "split", "chunk", "unbind", "get",
    "repeat_interleave", "repeat", "zeros", "ones", "empty", "full", "arange", "new_zeros", "new_ones", "zeros_like", "ones_like",
})  # fmt: skip
"""Functions that compute nothing: a change of shape, type or owner."""
_ABOUT = (int, str, torch.Size, torch.dtype, torch.device, torch.layout, type(None))
"""What a question about a tensor answers: nobody has read its values."""
ROWS = 256
"""Rows of a first operand that are kept of a batch."""
MOST_ROWS = 4096


@dataclass
class _Reading:
    """What was seen of one output in this pass: stages behind the product and who read them."""

    place: int
    value: Tensor
    stage: str = "product"
    readers: int = 0


class Watcher:
    """Runs passes in floating point and collects. `observed` in the order of calls; `others` counts what is not a product."""

    def __init__(self, module: Traceable) -> None:
        self._module = module
        self.observed: list[Observed] = []
        self._multiplied: set[int] = set()
        self.others: Counter[str] = Counter()
        self._running: list[str] = [""]
        self._generator = np.random.default_rng(0)

    def watch(self, batches: Sequence[tuple[Tensor, ...]], report: Callable[[float], None]) -> None:
        with torch.inference_mode(), module_paths(self._module) as self._running:
            for index, batch in enumerate(batches):
                self._begin()
                with Interceptor(self._product, self._other):
                    self._module(*batch)
                self._end()
                report((index + 1) / len(batches))

    def weight_names(self) -> list[str]:
        """Parameters of the Hugging Face model that products alone read (not an embedding as well), as its state names them."""
        names: dict[int, list[str]] = {}
        for name, parameter in self._module.model.named_parameters(remove_duplicate=False):
            names.setdefault(_storage(parameter), []).append(name)
        return [found[0] for storage, found in names.items() if storage in self._multiplied and len(found) == 1]

    def _begin(self) -> None:
        self._place = 0
        self._readings: dict[int, _Reading] = {}
        self._all_readings: list[_Reading] = []
        self._inputs: dict[int, int] = {}
        self._alive: list[Tensor] = []
        self._outputs: dict[int, dict[str, Tensor]] = {}
        self._made_by: dict[int, int] = {}
        self._first_pass = not self.observed

    def _product(self, product: Product) -> Tensor:
        place, self._place = self._place, self._place + 1
        feeding = self._read(product.first)
        if product.kind is ProductKind.MATMUL:
            self._read(product.second)
        if self._first_pass:
            self.observed.append(self._new(product, place, feeding))
            self._between_products(product)
        seen = self.observed[place]
        self._collect(seen, product, place)
        out = plain(product)
        self._alive += [out, product.first]
        self._made_by[id(out)] = place
        self._note(_Reading(place, out))
        self._outputs[place] = {"product": out}
        return out

    def _new(self, product: Product, place: int, feeding: _Reading | None) -> Observed:
        shared = self._inputs.setdefault(id(product.first), place)
        has_weight = product.kind is not ProductKind.MATMUL
        if has_weight:
            self._multiplied.add(_storage(product.second))
        return Observed(
            # as engine.hardware.tracing names it
            name=self._running[-1].removeprefix("model."), product=product.kind, shape=shape_of(product),
            weight=_array(product.second) if has_weight else None,
            bias=_array(product.bias) if product.bias is not None else None, shared_with=shared,
            fed_by=feeding.place if feeding else None, from_array=id(product.first) in self._made_by,
        )  # fmt: skip

    def _between_products(self, product: Product) -> None:
        """Products whose outputs this one reads do not go to the host."""
        for operand in (product.first, product.second):
            if (maker := self._made_by.get(id(operand))) is not None:
                self.observed[maker].to_array = True

    def _other(self, func: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        source = args[0] if args and isinstance(args[0], Tensor) else None
        reading = self._readings.get(id(source)) if source is not None else None
        result = func(*args, **options)
        is_norm, is_relu = func in BATCH_NORM, func in RELU
        if reading is not None and isinstance(result, Tensor) and (is_norm or is_relu):
            self._follow(reading, result, "norm" if is_norm else "relu", func, args, options)
        elif not isinstance(result, _ABOUT):
            for each in args:
                if isinstance(each, Tensor):
                    self._read(each)
        if self._first_pass:
            self._note_other(getattr(func, "__name__", str(func)).strip("_"), source, result)
        return result

    def _note_other(self, name: str, source: Tensor | None, result: Any) -> None:
        """Count what the host makes; another layout of a product's output is still that."""
        made = [each for each in (result if isinstance(result, (tuple, list)) else [result]) if isinstance(each, Tensor)]
        if name not in _LAYOUT:
            self.others[name] += sum(each.numel() for each in made if each.is_floating_point())
        elif (maker := self._made_by.get(id(source))) is not None:
            self._made_by |= {id(each): maker for each in made}
            self._alive += made

    def _follow(self, reading: _Reading, result: Tensor, stage: str, func: Any, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        """A normalisation or ReLU behind a product; whether it alone reads it is known at the end of the pass."""
        alone = reading.readers == 0
        reading.readers += 1
        stages = self._outputs[reading.place]
        allowed = stage == "relu" or reading.stage == "product"
        if not (alone and allowed and stage not in stages):
            return
        stages[stage] = result
        if stage == "norm":
            self.observed[reading.place].normalisation = normalisation_of(func, args, options)
        self._alive.append(result)
        self._note(_Reading(reading.place, result, stage))

    def _note(self, reading: _Reading) -> None:
        self._all_readings.append(reading)
        self._readings[id(reading.value)] = reading

    def _read(self, tensor: Tensor) -> _Reading | None:
        reading = self._readings.get(id(tensor))
        if reading is not None:
            reading.readers += 1
        return reading

    def _end(self) -> None:
        """Settle what is folded (the same in every pass) and take the outputs' ranges there."""
        readers: dict[tuple[int, str], int] = {}
        for reading in self._all_readings:
            readers[reading.place, reading.stage] = reading.readers
        for place, stages in self._outputs.items():
            seen, stage = self.observed[place], "product"
            for following in ("norm", "relu"):
                if following in stages and readers[place, stage] <= 1:
                    stage = following
                elif following == "norm":
                    seen.normalisation = None
            seen.relu = stage == "relu"
            _widen(seen, stages[stage])
        self._readings, self._all_readings, self._alive, self._outputs, self._made_by = {}, [], [], {}, {}

    def _collect(self, seen: Observed, product: Product, place: int) -> None:
        first = _array(product.first)
        if seen.product is ProductKind.MATMUL:
            seen.first_heads = _widen_heads(seen.first_heads, by_head(first))
            seen.second_heads = _widen_heads(seen.second_heads, by_head(_array(product.second)))
            return
        if seen.shared_with != place:
            return
        channels = np.moveaxis(first, 1, -1) if seen.product is ProductKind.CONV2D else first
        rows = channels.reshape(-1, channels.shape[-1])
        greatest = np.abs(rows).max(axis=0)
        seen.first_greatest = greatest if seen.first_greatest is None else np.maximum(seen.first_greatest, greatest)
        if sum(len(r) for r in seen.rows) < MOST_ROWS:
            kept = self._generator.choice(len(rows), min(ROWS, len(rows)), replace=False)
            seen.rows.append(rows[kept])


def shape_of(product: Product) -> tuple[int, int, int, int]:
    """(m, k, n, groups) as the array sees it."""
    first, second = product.first, product.second
    match product.kind:
        case ProductKind.LINEAR:
            return first.numel() // first.shape[-1], first.shape[-1], second.shape[0], 1
        case ProductKind.CONV2D:
            (batch, _, height, width), (filters, depth, high, wide) = first.shape, second.shape
            sides = zip((height, width), (high, wide), product.stride, product.padding, product.dilation, strict=True)
            rows = batch
            for size, kernel, stride, padding, dilation in sides:
                rows *= (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            return rows, depth * high * wide, filters // product.groups, product.groups
        case _:
            return first.shape[-2], first.shape[-1], second.shape[-1], first.numel() // (first.shape[-2] * first.shape[-1])


def by_head(values: Reals) -> Reals:
    """(batch, heads, rows, columns) of a matrix product's operand; whatever has no heads has one."""
    return values if values.ndim == 4 else values.reshape(-1, 1, *values.shape[-2:])


def _widen(seen: Observed, out: Tensor) -> None:
    values = _array(out)
    if seen.product is ProductKind.MATMUL:
        heads = by_head(values)
        low, high = heads.min(axis=(0, 2, 3)), heads.max(axis=(0, 2, 3))
    else:
        rows = np.moveaxis(values, 1, -1) if seen.product is ProductKind.CONV2D else values
        rows = rows.reshape(-1, rows.shape[-1])
        low, high = rows.min(axis=0), rows.max(axis=0)
    finite = np.finfo(np.float32)
    low, high = np.maximum(low, finite.min), np.minimum(high, finite.max)
    seen.out_low = low if seen.out_low is None else np.minimum(seen.out_low, low)
    seen.out_high = high if seen.out_high is None else np.maximum(seen.out_high, high)


def _widen_heads(known: Reals | None, values: Reals) -> Reals:
    found = np.stack([values.min(axis=(0, 2, 3)), values.max(axis=(0, 2, 3))])
    return found if known is None else np.stack([np.minimum(known[0], found[0]), np.maximum(known[1], found[1])])


def normalisation_of(func: Any, args: tuple[Any, ...], options: dict[str, Any]) -> tuple[Reals, Reals]:
    """(factor, offset) of each channel, from the arguments of either of torch's two batch normalisations."""
    if func is torch.batch_norm:
        weight, bias, mean, variance, _, _, eps = args[1:8]
        return _normalisation(mean, variance, weight, bias, eps=eps)
    return _normalisation(*args[1:], **options)


def _normalisation(
    mean: Tensor, variance: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, training: bool = False,
    momentum: float = 0.1, eps: float = 1e-5,
) -> tuple[Reals, Reals]:  # fmt: skip
    factor = 1.0 / np.sqrt(_array(variance) + eps)
    if weight is not None:
        factor = factor * _array(weight)
    offset = -_array(mean) * factor
    return factor, offset if bias is None else offset + _array(bias)


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _array(tensor: Tensor) -> Reals:
    return tensor.detach().float().numpy()
