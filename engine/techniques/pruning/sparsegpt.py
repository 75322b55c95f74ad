"""SparseGPT (Frantar & Alistarh, arXiv:2301.00774): zero weights one input after another, the ones that are left make up for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from engine.domain.errors import StageError
from engine.domain.ports import Batch
from engine.surgery.importance import MAX_BATCHES
from engine.surgery.matrices import products_fit
from engine.tasks.traceable import Traceable

_BLOCK = 128
"""Inputs among which the weights to zero are chosen together."""
_DAMPING = 0.01


def sparsify(
    module: Traceable, paths: Sequence[str], sparsity: float, batches: Sequence[Batch], progress: Callable[[float], None]
) -> None:
    """Zero the share `sparsity` of each layer's weights and adjust the others, from what the layer meets in `batches`."""
    _demand_memory(module, paths)
    correlations = _correlations(module, paths, batches, progress)
    for path in paths:
        layer: Any = module.model.get_submodule(path)
        matrix = _matrix(layer)
        if layer.weight.dim() == 4 and layer.groups > 1:
            continue  # a group's inputs are its own: too few to make up for each other
        _write(layer, _pruned(matrix, correlations[path], sparsity))


def _demand_memory(module: Traceable, paths: Sequence[str]) -> None:
    """Raises StageError when the correlations of all layers are too many to keep."""
    inputs = [_matrix(module.model.get_submodule(path)).shape[1] for path in paths]
    if not products_fit(inputs):
        gib = 4 * sum(count * count for count in inputs) / 2**30
        raise StageError(
            f"SparseGPT keeps {gib:.1f} GiB of correlations for this model, more than this host can spare.",
            mend="Choose importance=activation, which needs next to nothing.",
        )


def _correlations(
    module: Traceable, paths: Sequence[str], batches: Sequence[Batch], progress: Callable[[float], None]
) -> dict[str, Tensor]:
    """Second moments of each layer's inputs with one another: (inputs, inputs)."""
    sums: dict[str, Tensor] = {}
    mask: Tensor | None = None

    def hook(path: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            rows = _rows(layer, inputs[0], mask).float()
            found = rows.t() @ rows
            sums[path] = sums[path] + found if path in sums else found

        return note

    handles = [module.model.get_submodule(path).register_forward_pre_hook(hook(path)) for path in paths]
    try:
        with torch.no_grad():
            chosen = batches[:MAX_BATCHES]
            for index, batch in enumerate(chosen):
                mask = torch.from_numpy(batch["attention_mask"]) if "attention_mask" in batch else None
                module(*(torch.from_numpy(batch[name]) for name in module.inputs))
                progress((index + 1) / len(chosen))
    finally:
        for handle in handles:
            handle.remove()
    return sums


def _rows(layer: Any, x: Tensor, mask: Tensor | None) -> Tensor:
    """What a weight's row is multiplied with: (samples, inputs)."""
    if isinstance(layer, nn.Conv2d):
        patches = nn.functional.unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride)  # type: ignore[arg-type]
        return patches.transpose(1, 2).flatten(0, 1)
    if mask is not None and x.shape[:2] == mask.shape:
        return x[mask.bool()]
    return x.reshape(-1, x.shape[-1])


def _matrix(layer: Any) -> Tensor:
    weight: Tensor = layer.weight.data.float()
    return weight.t().clone() if isinstance(layer, Conv1D) else weight.flatten(1).clone()


def _write(layer: Any, matrix: Tensor) -> None:
    layer.weight.data.copy_(matrix.t() if isinstance(layer, Conv1D) else matrix.view_as(layer.weight))


def _pruned(weight: Tensor, correlation: Tensor, sparsity: float) -> Tensor:
    """(outputs, inputs) with the share `sparsity` zero."""
    dead = correlation.diagonal() == 0
    correlation[dead, dead] = 1
    weight[:, dead] = 0
    correlation.diagonal().add_(_DAMPING * correlation.diagonal().mean())
    inverse = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(correlation)), upper=True)
    for start in range(0, weight.shape[1], _BLOCK):
        stop = min(start + _BLOCK, weight.shape[1])
        block, within = weight[:, start:stop], inverse[start:stop, start:stop]
        saliency = (block / within.diagonal()).square()
        gone = torch.zeros_like(block, dtype=torch.bool)
        count = round(block.numel() * sparsity)
        gone.view(-1)[saliency.flatten().topk(count, largest=False).indices] = True
        errors = torch.zeros_like(block)
        for place in range(stop - start):
            column = block[:, place]
            kept = column.masked_fill(gone[:, place], 0)
            errors[:, place] = (column - kept) / within[place, place]
            block[:, place:] -= errors[:, place, None] * within[place, place:]
            block[:, place] = kept
        weight[:, stop:] -= errors @ inverse[start:stop, stop:]
    return weight
