"""Cutting linear layers, whichever way round they store their weight."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from engine.surgery.importance import Moments

DAMPING = 0.02
"""Of the mean variance, added to each: calibration data are few."""
MEMORY_SHARE = 0.25


def is_linear(module: nn.Module) -> bool:
    # exact types: the weights of subclasses are read by others
    return type(module) in (nn.Linear, Conv1D)


def sizes(module: Any) -> tuple[int, int]:
    """(inputs, outputs) of a linear layer."""
    outputs, inputs = matrix(module).shape
    return inputs, outputs


def matrix(module: Any) -> Tensor:
    """Its weight as (outputs, inputs)."""
    weight: Tensor = module.weight.data
    return weight.t() if isinstance(module, Conv1D) else weight


def in_norms(module: Any) -> Tensor:
    """Norm of the weights that read each input."""
    norms: Tensor = torch.linalg.vector_norm(matrix(module), dim=0)
    return norms


def out_norms(module: Any) -> Tensor:
    """Norm of the weights that make each output."""
    norms: Tensor = torch.linalg.vector_norm(matrix(module), dim=1)
    return norms


def keep_outputs(module: Any, kept: Tensor) -> None:
    _replace(module, matrix(module)[kept])
    if module.bias is not None:
        module.bias = nn.Parameter(module.bias.data[kept].clone(), requires_grad=False)


def keep_inputs(module: Any, kept: Tensor) -> None:
    _replace(module, matrix(module)[:, kept])


def products_fit(inputs: Iterable[int]) -> bool:
    """Whether second moments of so many inputs with one another, a layer each, leave most of the free memory free."""
    return 4 * sum(count * count for count in inputs) < MEMORY_SHARE * psutil.virtual_memory().available


def has_bias(module: nn.Module) -> bool:
    """Whether what is lost on average can go there."""
    return getattr(module, "bias", None) is not None


def make_up(module: Any, kept: Tensor, seen: Moments) -> None:
    """Change what reads the inputs `kept` so that it answers as with all of them, as nearly as a linear layer can.

    Least squares over what was seen (as He et al., arXiv:1707.06168, do for channels): with
    a bias what is lost on average goes there, and the rest is predicted from what stays.
    Without `seen.products` only the average is made up for.
    """
    gone = torch.ones(len(seen.sums), dtype=torch.bool)
    gone[kept] = False
    weight = matrix(module)
    if seen.products is not None:
        moments = seen.products.double() / max(seen.count, 1)
        if module.bias is not None:
            moments = moments - torch.outer(seen.mean.double(), seen.mean.double())
        inner = moments[kept][:, kept]
        inner.diagonal().add_(DAMPING * inner.diagonal().mean() + 1e-12)
        shares = torch.linalg.solve(inner, moments[kept][:, gone]).float()  # of each kept input in those that go
        weight[:, kept] += weight[:, gone] @ shares.t()
        missing = seen.mean[gone] - shares.t() @ seen.mean[kept]
    else:
        missing = seen.mean[gone]
    if module.bias is not None:
        module.bias.data += weight[:, gone] @ missing


def ratio_of(sparsity: float | Mapping[str, float], path: str) -> float:
    """The one share, or the layer's own; a layer that is not named loses nothing."""
    return sparsity if isinstance(sparsity, float) else sparsity.get(path, 0.0)


def _replace(module: Any, weight: Tensor) -> None:
    outputs, inputs = weight.shape
    if isinstance(module, Conv1D):
        module.weight = nn.Parameter(weight.t().clone(), requires_grad=False)
        module.nx, module.nf = inputs, outputs
    else:
        module.weight = nn.Parameter(weight.clone(), requires_grad=False)
        module.in_features, module.out_features = inputs, outputs
