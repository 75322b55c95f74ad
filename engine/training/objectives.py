"""What a student is trained towards, by task. Every loss is a mean over what is real, padding left out.

Sources: soft targets at a temperature (Hinton, Vinyals, Dean, arXiv:1503.02531), hidden
states and attention (TinyBERT, arXiv:1909.10351), the answer's direction for embeddings
(DistilBERT's cosine loss, arXiv:1910.01108).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (PyTorch's own name for it)

from engine.domain.artifact import TaskId
from engine.training.seen import Seen

TOP_TOKENS = 64
"""Of a teacher's next-token distribution; the rest is kept as one probability."""

Targets = dict[str, Tensor]
Inputs = dict[str, Tensor]
"""A batch: the card's inputs; of texts `mask` (batch, positions); for classifiers `labels`, negative where unknown."""


@dataclass(frozen=True, slots=True)
class Weights:
    """How much each part of a loss counts beside the answer's, and the temperature of soft targets."""

    hidden: float = 1.0
    attention: float = 0.0
    labels: float = 0.1
    temperature: float = 2.0


class Objective(Protocol):
    """`metric` names what `quality` sums."""

    metric: str

    def targets(self, seen: Seen, batch: Inputs) -> Targets:
        """What is kept of the teacher's answer."""
        ...

    def loss(self, seen: Seen, targets: Targets, batch: Inputs) -> Tensor: ...

    def quality(self, seen: Seen, targets: Targets, batch: Inputs) -> Tensor:
        """One value an item, higher is better; 1 is as good as the teacher."""
        ...


def objective_for(task: TaskId, weights: Weights, pooling: str = "mean") -> Objective:
    """The one of a task. Pooling is a text encoder's."""
    match task:
        case TaskId.TEXT_ENCODER:
            return Embeddings(weights, pooling)
        case TaskId.CAUSAL_LM:
            return NextTokens(weights)
        case _:
            return Classes(weights)


class Embeddings:
    """The direction of each text's embedding, ten times one minus its cosine, and the hidden states."""

    metric = "cosine"

    def __init__(self, weights: Weights, pooling: str) -> None:
        self._weights = weights
        self._pooling = pooling

    def targets(self, seen: Seen, batch: Inputs) -> Targets:
        return {"embedding": self._embedding(seen, batch)} | _inner(seen)

    def loss(self, seen: Seen, targets: Targets, batch: Inputs) -> Tensor:
        return 10 * (1 - self.quality(seen, targets, batch)).mean() + _inner_loss(seen, targets, batch, self._weights)

    def quality(self, seen: Seen, targets: Targets, batch: Inputs) -> Tensor:
        return F.cosine_similarity(self._embedding(seen, batch), targets["embedding"].float(), dim=1)

    def _embedding(self, seen: Seen, batch: Inputs) -> Tensor:
        states = next(iter(seen.outputs.values())).float()
        if states.dim() == 2:
            return states
        if self._pooling == "cls":
            return states[:, 0]
        kept = batch["mask"][:, :, None].bool()
        if self._pooling == "max":
            return states.masked_fill(~kept, -torch.inf).amax(1)
        return (states * kept).sum(1) / kept.sum(1).clamp_min(1)


class Classes:
    """The teacher's class probabilities at a temperature, and labels where the data has them."""

    metric = "probability overlap"

    def __init__(self, weights: Weights) -> None:
        self._weights = weights

    def targets(self, seen: Seen, batch: Inputs) -> Targets:
        return {"logits": seen.outputs["logits"]} | _inner(seen)

    def loss(self, seen: Seen, targets: Targets, batch: Inputs) -> Tensor:
        weights, logits = self._weights, seen.outputs["logits"].float()
        loss = _soft(logits, targets["logits"].float(), weights.temperature).mean()
        known = batch["labels"] >= 0
        if weights.labels and known.any():
            loss = (1 - weights.labels) * loss + weights.labels * F.cross_entropy(logits[known], batch["labels"][known])
        return loss + _inner_loss(seen, targets, batch, weights)

    def quality(self, seen: Seen, targets: Targets, batch: Inputs) -> Tensor:
        """1 minus the total variation distance: of the few items that are held out, agreement would see too little."""
        ours, theirs = (logits.float().softmax(-1) for logits in (seen.outputs["logits"], targets["logits"]))
        return torch.minimum(ours, theirs).sum(-1)


class NextTokens:
    """The teacher's next-token distribution (its likeliest tokens and what they leave over), and the text's own next token."""

    metric = "perplexity retained"

    def __init__(self, weights: Weights) -> None:
        self._weights = weights

    def targets(self, seen: Seen, batch: Inputs) -> Targets:
        logits = seen.outputs["logits"][:, :-1].float()
        likely = (logits / self._weights.temperature).log_softmax(-1).topk(min(TOP_TOKENS, logits.shape[-1]), -1)
        truth = _truth(logits.log_softmax(-1), batch)
        return {"likely": likely.values, "tokens": likely.indices.int(), "truth": truth} | _inner(seen)

    def loss(self, seen: Seen, targets: Targets, batch: Inputs) -> Tensor:
        weights, logits = self._weights, seen.outputs["logits"][:, :-1].float()
        ours = (logits / weights.temperature).log_softmax(-1).gather(-1, targets["tokens"].long())
        soft = (_divergence(ours, targets["likely"].float()) * _scored(batch)).sum() / _scored(batch).sum().clamp_min(1)
        hard = -(_truth(logits.log_softmax(-1), batch) * _scored(batch)).sum() / _scored(batch).sum().clamp_min(1)
        loss = (1 - weights.labels) * weights.temperature**2 * soft + weights.labels * hard
        return loss + _inner_loss(seen, targets, batch, weights)

    def quality(self, seen: Seen, targets: Targets, batch: Inputs) -> Tensor:
        """The teacher's perplexity of the text ÷ the student's, a sequence at a time."""
        scored = _scored(batch)
        ours = _truth(seen.outputs["logits"][:, :-1].float().log_softmax(-1), batch)
        gap = ((ours - targets["truth"].float()) * scored).sum(1) / scored.sum(1).clamp_min(1)
        return gap.exp()


def _scored(batch: Inputs) -> Tensor:
    return batch["mask"][:, 1:].float()


def _truth(log_probabilities: Tensor, batch: Inputs) -> Tensor:
    return log_probabilities.gather(-1, batch["input_ids"][:, 1:, None]).squeeze(-1)


def _soft(ours: Tensor, theirs: Tensor, temperature: float) -> Tensor:
    """KL divergence of classes, times the temperature squared so that gradients keep their size."""
    divergence = F.kl_div(
        (ours / temperature).log_softmax(-1), (theirs / temperature).log_softmax(-1), reduction="none", log_target=True
    )
    return divergence.sum(-1) * temperature**2


def _divergence(ours: Tensor, theirs: Tensor) -> Tensor:
    """KL divergence over some log-probabilities, and over what each side leaves to all others."""
    named = (theirs.exp() * (theirs - ours)).sum(-1)
    rest_theirs, rest_ours = ((1 - p.exp().sum(-1)).clamp_min(1e-6) for p in (theirs, ours))
    return named + rest_theirs * (rest_theirs.log() - rest_ours.log())


def _inner(seen: Seen) -> Targets:
    hidden = {f"hidden_{place}": state for place, state in enumerate(seen.hidden)}
    return hidden | {f"attention_{place}": weights for place, weights in enumerate(seen.attention)}


def _inner_loss(seen: Seen, targets: Targets, batch: Inputs, weights: Weights) -> Tensor:
    """Mean squared error of the hidden states in units of their variance, and KL of the attention maps."""
    mask = batch.get("mask")
    loss = torch.zeros(())
    for place, state in enumerate(seen.hidden):
        theirs = targets[f"hidden_{place}"].float()
        kept = _kept(state, mask)
        error = ((state.float() - theirs).square() * kept).sum()
        loss = loss + weights.hidden / len(seen.hidden) * error / (theirs.square() * kept).sum().clamp_min(1e-6)
    for place, ours in enumerate(seen.attention):
        theirs = targets[f"attention_{place}"].float()
        divergence = (theirs * (theirs.clamp_min(1e-8).log() - ours.clamp_min(1e-8).log())).sum(-1)
        rows = mask.float() if mask is not None else torch.ones_like(divergence)
        loss = loss + weights.attention / len(seen.attention) * (divergence * rows).sum() / rows.sum().clamp_min(1)
    return loss


def _kept(state: Tensor, mask: Tensor | None) -> Tensor:
    if mask is not None and state.dim() == 3 and state.shape[:2] == mask.shape:
        return mask[:, :, None].float()
    return torch.ones((1,) * state.dim())
