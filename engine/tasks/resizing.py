"""Put tensors of any size into a module's places, sizes of the module following."""

from __future__ import annotations

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D


def place_tensor(model: nn.Module, name: str, tensor: Tensor) -> None:
    """Make `tensor` the parameter or buffer called `name`, resizing its module to it."""
    path, _, leaf = name.rpartition(".")
    module = model.get_submodule(path)
    if leaf in module._parameters:
        module._parameters[leaf] = nn.Parameter(tensor, requires_grad=False)
    else:
        module._buffers[leaf] = tensor
    if leaf in ("weight", "running_mean"):
        _follow(module, tensor)


def _follow(module: nn.Module, tensor: Tensor) -> None:
    """Set the sizes that a module keeps beside its tensors."""
    match module:
        case nn.Linear():
            module.out_features, module.in_features = tensor.shape
        case Conv1D():
            module.nx, module.nf = tensor.shape
        case nn.Conv1d() | nn.Conv2d():
            depthwise = module.groups == module.in_channels > 1
            module.out_channels = tensor.shape[0]
            module.groups = tensor.shape[0] if depthwise else module.groups
            module.in_channels = tensor.shape[1] * module.groups
        case nn.LayerNorm():
            module.normalized_shape = tuple(tensor.shape)
        case nn.GroupNorm():
            module.num_channels = tensor.shape[0]
        case nn.modules.batchnorm._BatchNorm():
            module.num_features = tensor.shape[0]
        case nn.Embedding():
            module.num_embeddings, module.embedding_dim = tensor.shape
        case _:
            pass
