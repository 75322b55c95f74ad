"""Zeroes single weights. The matrices keep their shape."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from engine.surgery.importance import Moments

MASKED = (nn.Linear, Conv1D, nn.Conv2d)


def maskable(model: nn.Module) -> list[str]:
    """Layers whose weights are masked: linear and convolution, but not one that is shared with an embedding."""
    shared = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    return [path for path, m in model.named_modules() if type(m) in MASKED and id(m.weight) not in shared]


def mask_weights(model: nn.Module, sparsity: float, moments: Mapping[str, Moments] | None) -> list[str]:
    """Zero the share `sparsity` of each layer's weights; the layers' paths.

    With `moments`, those with the least magnitude times input activation go, an equal
    share of every output (Wanda, arXiv:2306.11695); without, the smallest of the layer.
    """
    paths = maskable(model)
    for path in paths:
        module = model.get_submodule(path)
        weight: Tensor = module.weight.data  # type: ignore[assignment]
        if moments is None:
            score = weight.abs().flatten()[None]
        else:
            score = _outputs_first(weight.abs() * _along_inputs(module, moments[path].rms), module)
        count = round(score.shape[1] * sparsity)
        if not count:
            continue
        gone = torch.zeros_like(score, dtype=torch.bool).scatter_(1, score.topk(count, largest=False).indices, value=True)
        weight.masked_fill_(_as_weight(gone, module, weight), 0)
    return paths


def mask_two_of_four(model: nn.Module, moments: Mapping[str, Moments] | None) -> list[str]:
    """Zero the two least of every four neighbouring inputs of each linear layer; the layers' paths.

    The pattern that the tensor cores of NVIDIA's GPUs skip (Mishra et al. 2021, arXiv:2104.08378).
    Scored as in `mask_weights`.
    """
    paths = [path for path in maskable(model) if type(m := model.get_submodule(path)) is nn.Linear and m.in_features % 4 == 0]
    for path in paths:
        module = model.get_submodule(path)
        weight: Tensor = module.weight.data  # type: ignore[assignment]
        score = weight.abs() if moments is None else weight.abs() * _along_inputs(module, moments[path].rms)
        fours = score.reshape(-1, 4)
        gone = torch.zeros_like(fours, dtype=torch.bool).scatter_(1, fours.topk(2, largest=False).indices, value=True)
        weight.masked_fill_(gone.reshape(weight.shape), 0)
    return paths


def _along_inputs(module: nn.Module, activation: Tensor) -> Tensor:
    """Activations shaped to multiply the weight input by input."""
    if isinstance(module, nn.Conv2d):
        # a group's weights meet that group's channels
        groups = activation.view(module.groups, -1)
        return groups.repeat_interleave(module.out_channels // module.groups, 0)[..., None, None]
    return activation[:, None] if isinstance(module, Conv1D) else activation


def _outputs_first(score: Tensor, module: nn.Module) -> Tensor:
    return score.t() if isinstance(module, Conv1D) else score.flatten(1)


def _as_weight(gone: Tensor, module: nn.Module, weight: Tensor) -> Tensor:
    return gone.t().reshape(weight.shape) if isinstance(module, Conv1D) and len(gone) > 1 else gone.reshape(weight.shape)
