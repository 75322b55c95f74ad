"""How much an answer changes, to first order, when a feature is taken away (Molchanov et al., arXiv:1906.10771).

The loss of a model against itself has no slope, so what is followed here is the answer
itself: the square of activation times gradient, for a random direction of an embedding
or a class (token) drawn from the model's own probabilities. Its mean is what the change
of the answer, or its divergence, would be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from engine.domain.artifact import TaskId
from engine.domain.ports import Batch
from engine.tasks.traceable import Traceable

MAX_BATCHES = 64


def first_order(
    module: Traceable,
    paths: Sequence[str],
    batches: Sequence[Batch],
    task: TaskId,
    progress: Callable[[float], None],
    averages: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """Each input feature's share in the answer, by the path of the layer that reads it; no labels are needed.

    averages: of each feature, (features,), where the layer's bias makes up for what is lost on
    average, so that only what a feature departs from it by counts.
    """
    scores: dict[str, Tensor] = {}
    chosen = batches[:MAX_BATCHES]
    generator = torch.Generator().manual_seed(0)
    for index, batch in enumerate(chosen):
        with _inputs_kept(module.model, paths) as inputs, torch.enable_grad():
            mask = torch.from_numpy(batch["attention_mask"]) if "attention_mask" in batch else None
            answer = module(*(torch.from_numpy(batch[name]) for name in module.inputs))[0]
            _followed(answer.float(), mask, task, generator).backward()  # type: ignore[no-untyped-call]
        for path, kept in inputs.items():
            assert kept.grad is not None
            share = ((kept.detach() - averages[path] if path in averages else kept.detach()) * kept.grad).double()
            spread = tuple(range(2, share.dim())) if share.dim() == 4 else tuple(range(1, share.dim() - 1))
            found = (share.sum(spread) if spread else share).square().sum(0)
            scores[path] = scores[path] + found if path in scores else found
        progress((index + 1) / len(chosen))
    return {path: score.float() for path, score in scores.items()}


def _followed(answer: Tensor, mask: Tensor | None, task: TaskId, generator: torch.Generator) -> Tensor:
    """A number whose gradient is followed: the sum over items that do not see each other."""
    if task is TaskId.TEXT_ENCODER:
        if answer.dim() == 3:
            kept = torch.ones(answer.shape[:2]) if mask is None else mask.float()
            answer = (answer * kept[:, :, None]).sum(1) / kept.sum(1, keepdim=True).clamp_min(1)
        embedding = nn.functional.normalize(answer, dim=1)
        return (embedding * torch.randint(0, 2, embedding.shape, generator=generator).mul(2).sub(1)).sum()
    logits = answer.reshape(-1, answer.shape[-1])
    drawn = torch.multinomial(logits.detach().softmax(-1), 1, generator=generator)
    return logits.log_softmax(-1).gather(-1, drawn).sum()


@contextmanager
def _inputs_kept(model: nn.Module, paths: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """The inputs of the layers at `paths` of the next call, with their gradients once there are some."""
    kept: dict[str, Tensor] = {}

    def hook(path: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            kept[path] = inputs[0]
            # nothing before the first of them has a gradient, because the weights need none
            if inputs[0].requires_grad:
                inputs[0].retain_grad()
            else:
                inputs[0].requires_grad_(True)

        return note

    handles = [model.get_submodule(path).register_forward_pre_hook(hook(path)) for path in paths]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()
