"""Removes convolution channels, with everything that depends on them, by torch-pruning."""

from __future__ import annotations

from typing import Any

import torch
import torch_pruning
from torch import Tensor, nn

from engine.domain.errors import StageError
from engine.surgery.importance import Evidence
from engine.tasks.traceable import Traceable

READERS = (nn.Conv2d, nn.Linear)
MOST_OF_A_GROUP = 0.95
"""Of its channels, whatever the scores say: a group with none left would cut the network in two."""


class ObservedImportance:
    """Of a channel, over all layers that read it: the norm of their weights times the activation they meet,
    or what its loss does to the answer."""

    def __init__(self, model: nn.Module, evidence: Evidence) -> None:
        self._paths = {id(model.get_submodule(path)): path for path in evidence.taylor or evidence.moments or ()}
        self._evidence = evidence

    def __call__(self, group: Any) -> Tensor | None:
        scores = [s for s in (self._of(dependency, indices) for dependency, indices in group) if s is not None]
        if not scores:
            return None
        shortest = min(len(s) for s in scores)
        return torch.stack([s for s in scores if len(s) == shortest]).mean(0)

    def _of(self, dependency: Any, indices: list[int]) -> Tensor | None:
        module, kind = dependency.target.module, dependency.handler.__name__
        path = self._paths.get(id(module))
        if path is None or "in_channels" not in kind or (isinstance(module, nn.Conv2d) and module.groups > 1):
            return None
        score = self._score(path, module)
        return score[torch.tensor(indices)] / score.mean().clamp_min(1e-12)


    def _score(self, path: str, module: Any) -> Tensor:
        if self._evidence.taylor is not None:
            return self._evidence.taylor[path]
        seen = self._evidence.seen(path)
        assert seen is not None
        score: Tensor = torch.linalg.vector_norm(module.weight.data.transpose(0, 1).flatten(1), dim=1) * seen.rms
        return score


def readers(model: nn.Module) -> list[str]:
    """Layers whose inputs are channels."""
    return [path for path, m in model.named_modules() if type(m) in READERS]


def prune_channels(
    module: Traceable, sparsity: float, evidence: Evidence, example: tuple[Tensor, ...], *, everywhere: bool = False
) -> None:
    """Cut every group of channels by `sparsity`; `everywhere`: the least important of the whole network, so that
    groups lose unequal shares. The model's outputs keep their size.

    Raises StageError when torch-pruning cannot follow the model.
    """
    model: Any = module.model
    importance = (
        ObservedImportance(model, evidence) if evidence.taylor or evidence.moments
        else torch_pruning.importance.GroupMagnitudeImportance(p=2)
    )
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    step = 8 if min(c.out_channels for c in convolutions if c.groups == 1) >= 32 else None
    try:
        with torch.enable_grad():
            module.requires_grad_(True)
            pruner = torch_pruning.BasePruner(
                module, example, importance=importance, pruning_ratio=sparsity, ignored_layers=_outputs_of(model),
                round_to=step, global_pruning=everywhere, max_pruning_ratio=MOST_OF_A_GROUP, output_transform=lambda outputs: sum(o.float().sum() for o in outputs),
            )  # fmt: skip
            pruner.step()
        module.requires_grad_(False)
        module(*example)
    except (RuntimeError, IndexError, KeyError, ValueError, AttributeError, TypeError, AssertionError) as error:
        raise StageError(
            f"torch-pruning cannot follow the channels of a {type(model).__name__}.",
            mend="Choose kind=unstructured, or target=ffn where the model has feed-forward blocks.",
            detail=f"{type(error).__name__}: {error}",
        ) from error


def _outputs_of(model: nn.Module) -> list[nn.Module]:
    """Linear layers that make the answer: all of a CNN's head."""
    return [m for m in model.modules() if type(m) is nn.Linear and m.out_features == getattr(model, "num_labels", -1)]
