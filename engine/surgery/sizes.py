"""How much of a size is left after a cut. Torch-free: plans know it before anything runs."""

from __future__ import annotations


def kept_size(size: int, sparsity: float) -> int:
    """How many of `size` stay: near size·(1 − sparsity), fewer than `size`, at least one step.

    Steps are of 16 (8 when there are few), because kernels work in such tiles.
    """
    step = 16 if size >= 256 else 8 if size >= 32 else 1
    count = round(size * (1 - sparsity) / step) * step
    return max(min(count, (size - 1) // step * step), step)


def kept_of_heads(count: int, sparsity: float) -> int:
    """How many (key-value) heads stay: at least one goes and one stays."""
    return max(count - max(round(count * sparsity), 1), 1)


def layers_kept(count: int, share: float) -> int:
    """How many of `count` layers a share of them is: at least one."""
    return max(round(count * share), 1)
