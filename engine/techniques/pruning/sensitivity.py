"""How much each place suffers when it alone is cut, and the shares that hurt least together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from engine.domain.artifact import TaskId
from engine.domain.ports import Batch
from engine.surgery.importance import Evidence
from engine.tasks.traceable import Traceable

SHARES = (0.25, 0.5, 0.75)
MOST_ITEMS = 64
_STEP = 0.01
_MOST = 0.9


@dataclass(frozen=True, slots=True)
class Scan:
    """`damage`: of each place, what the answers lose at each of SHARES (`measure` says in what)."""

    measure: str
    damage: dict[str, tuple[float, ...]]

    def proposal(self, sparsity: float) -> dict[str, float]:
        """Shares whose mean is `sparsity`: always the place that suffers least from a little more gives it."""
        shares = dict.fromkeys(self.damage, 0.0)
        for _ in range(round(sparsity / _STEP * len(shares))):
            open_places = [place for place, share in shares.items() if share + _STEP <= _MOST + 1e-9]
            least = min(open_places, key=lambda place: self._slope(place, shares[place]))
            shares[least] += _STEP
        return {place: round(share, 4) for place, share in shares.items()}

    def data(self, proposed: Mapping[str, float]) -> dict[str, Any]:
        """What a `sensitivity` attachment holds."""
        return {
            "measure": self.measure, "places": list(self.damage), "shares": list(SHARES),
            "damage": [list(values) for values in self.damage.values()], "proposed": [proposed[place] for place in self.damage],
        }  # fmt: skip

    def _slope(self, place: str, share: float) -> float:
        """Of the damage from `share` on, along lines between the points that were measured."""
        points = [(0.0, 0.0), *zip(SHARES, self.damage[place], strict=True)]
        for (low, before), (high, after) in pairwise(points):
            if share < high - 1e-9:
                return (after - before) / (high - low)
        return (points[-1][1] - points[-2][1]) / (points[-1][0] - points[-2][0])


def scan(
    module: Traceable, scores: Mapping[str, Tensor], evidence: Evidence, batches: Sequence[Batch], task: TaskId,
    progress: Callable[[float], None],
) -> Scan:  # fmt: skip
    """Take the least important units of one place after the other out of what flows, and hold the answers against the whole model's."""
    inputs, mask = _some(module, batches)
    whole = _answers(module, inputs, mask, task)
    damage: dict[str, tuple[float, ...]] = {}
    for done, (place, score) in enumerate(scores.items()):
        losses = []
        for share in SHARES:
            gone = torch.zeros(len(score), dtype=torch.bool)
            gone[score.argsort()[: round(len(score) * share)]] = True
            with _without(module.model, place, gone, evidence):
                losses.append(_loss(whole, _answers(module, inputs, mask, task), task))
        damage[place] = tuple(losses)
        progress((done + 1) / len(scores))
    return Scan("1 − cosine" if task is TaskId.TEXT_ENCODER else "KL divergence, nats", damage)


def _some(module: Traceable, batches: Sequence[Batch]) -> tuple[list[Tensor], Tensor | None]:
    size = len(next(iter(batches[0].values())))
    chosen = batches[: max(MOST_ITEMS // size, 1)]
    inputs = [torch.cat([torch.from_numpy(batch[name]) for batch in chosen]) for name in module.inputs]
    mask = dict(zip(module.inputs, inputs, strict=True)).get("attention_mask")
    return inputs, mask


@torch.no_grad()
def _answers(module: Traceable, inputs: list[Tensor], mask: Tensor | None, task: TaskId) -> Tensor:
    """(items, size): embeddings of unit length, or log-probabilities of classes or of each position's next token."""
    answer: Tensor = module(*inputs)[0].float()
    if task is not TaskId.TEXT_ENCODER:
        return answer.reshape(-1, answer.shape[-1]).log_softmax(-1)
    if answer.dim() == 3:
        kept = torch.ones(answer.shape[:2]) if mask is None else mask.float()
        answer = (answer * kept[:, :, None]).sum(1) / kept.sum(1, keepdim=True).clamp_min(1)
    unit: Tensor = nn.functional.normalize(answer, dim=1)
    return unit


def _loss(whole: Tensor, cut: Tensor, task: TaskId) -> float:
    if task is TaskId.TEXT_ENCODER:
        return float(1 - (whole * cut).sum(1).mean())
    return float((whole.exp() * (whole - cut)).sum(1).mean())


@contextmanager
def _without(model: nn.Module, place: str, gone: Tensor, evidence: Evidence) -> Iterator[None]:
    """The layer at `place` gets the mean of the units that are gone, where it is known, else nothing of them."""
    reader: Any = model.get_submodule(place)
    seen = evidence.seen(place)

    def replace(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
        features = gone.repeat_interleave(inputs[0].shape[-1] // len(gone))
        instead = seen.mean if seen is not None and reader.bias is not None else torch.zeros(())
        return (torch.where(features, instead, inputs[0]),)

    handle = reader.register_forward_pre_hook(replace)
    try:
        yield
    finally:
        handle.remove()
