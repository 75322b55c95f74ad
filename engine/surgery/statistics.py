"""Batch-norm statistics anew, after what flows through a network has changed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from engine.domain.ports import Batch
from engine.tasks.traceable import Traceable

_ITEMS = 32
"""In one pass: statistics of a single small image are no statistics."""
_MOST_PASSES = 16


def recalibrate(module: Traceable, batches: Sequence[Batch]) -> int:
    """Take mean and variance of every batch-norm layer from real inputs; how many layers there were.

    A pruned CNN without this has lost most of its accuracy: its layers still shift and
    scale by what the whole network sent through them.
    """
    layers = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not layers:
        return 0
    inputs = [np.concatenate([batch[name] for batch in batches[: _ITEMS * _MOST_PASSES]]) for name in module.inputs]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the plain mean over all passes
        layer.train()
    with torch.no_grad():
        for start in range(0, min(len(inputs[0]), _ITEMS * _MOST_PASSES), _ITEMS):
            module(*(torch.from_numpy(array[start : start + _ITEMS]) for array in inputs))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
        layer.eval()
    return len(layers)
