"""The model on PyTorch and transformers: `infer` any model, `generate` causal LMs.

model.safetensors holds tensors of the sizes that pruning left, variant.json the
attributes that went with them, and quantized layers are `path.qweight` with their scales.
"""

import json
import os
from types import SimpleNamespace

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers
from safetensors.torch import load_file
from torch import nn

CLASSES = {
    "text_encoder": transformers.AutoModel,
    "causal_lm": transformers.AutoModelForCausalLM,
    "text_classifier": transformers.AutoModelForSequenceClassification,
    "image_classifier": transformers.AutoModelForImageClassification,
}


class Model:
    def __init__(self, directory, about, threads=0):
        if threads:
            torch.set_num_threads(threads)
        self.about = about
        self.model = load(directory, about).eval().requires_grad_(False)
        self.dtype = next((p.dtype for p in self.model.parameters() if p.is_floating_point()), torch.float32)
        if about["runtime"] == "inductor":
            self.model.compile(options={"freezing": True})

    @torch.inference_mode()
    def infer(self, batch):
        tensors = {spec["name"]: torch.from_numpy(batch[spec["name"]]) for spec in self.about["inputs"]}
        tensors = {k: t.to(self.dtype) if t.is_floating_point() else t for k, t in tensors.items()}
        extra = {"use_cache": False} if self.about["task"] == "causal_lm" else {}
        outputs = self.model(**tensors, **extra)
        return {spec["name"]: outputs[spec["name"]].float().numpy() for spec in self.about["outputs"]}

    @torch.inference_mode()
    def generate(self, ids, new_tokens):
        cache, step, tokens = transformers.DynamicCache(config=self.model.config), torch.from_numpy(ids), []
        for _ in range(new_tokens):
            logits = self.model(input_ids=step, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
            step = logits[:, -1:].argmax(-1)
            tokens.append(step)
        return torch.cat(tokens, dim=1).numpy()


def load(directory, about):
    """The model class of config.json with every tensor of model.safetensors in its place."""
    kind = CLASSES[about["task"]]
    config = transformers.AutoConfig.from_pretrained(directory, local_files_only=True)
    model = kind.from_config(config, dtype=torch.float32)
    model.tie_weights()
    if "pooler_output" not in {spec["name"] for spec in about["outputs"]} and about["task"] == "text_encoder":
        model.pooler = None
    tensors = load_file(directory / "model.safetensors")
    install_quantized(model, tensors, about["mode"])
    for name, tensor in tensors.items():
        place(model, name, tensor)
    model.tie_weights()
    attributes = json.loads((directory / "variant.json").read_text(encoding="utf-8"))["attributes"]
    for path, values in attributes.items():
        for name, value in values.items():
            setattr(model.get_submodule(path), name, tuple(value) if isinstance(value, list) else value)
    return model


def place(model, name, tensor):
    """Put one tensor into the model; its module takes the tensor's sizes."""
    path, _, leaf = name.rpartition(".")
    module = model.get_submodule(path)
    if leaf in module._parameters:
        module._parameters[leaf] = nn.Parameter(tensor, requires_grad=False)
    else:
        module._buffers[leaf] = tensor
    if leaf not in ("weight", "running_mean"):
        return
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = tensor.shape
    elif isinstance(module, nn.Conv2d):
        depthwise = module.groups == module.in_channels > 1
        module.out_channels = tensor.shape[0]
        module.groups = tensor.shape[0] if depthwise else module.groups
        module.in_channels = tensor.shape[1] * module.groups
    elif isinstance(module, nn.LayerNorm):
        module.normalized_shape = tuple(tensor.shape)
    elif isinstance(module, nn.BatchNorm2d):
        module.num_features = tensor.shape[0]
    elif isinstance(module, transformers.pytorch_utils.Conv1D):
        module.nx, module.nf = tensor.shape


def install_quantized(model, tensors, mode):
    """Replace the layers that `tensors` has fewer bits for, and take those out of it."""
    firsts = [name.removesuffix(".qweight") for name in tensors if name.endswith(".qweight")]
    if not firsts:
        return
    import integer_layers as layers
    from float8_layers import Float8Linear

    owners = {}
    for path, module in model.named_modules():
        if isinstance(getattr(module, "weight", None), nn.Parameter):
            owners.setdefault(id(module.weight), []).append(path)
    sharing = {paths[0]: paths for paths in owners.values()}
    for first in firsts:
        parts = SimpleNamespace(**{key: tensors.pop(f"{first}.{key}", None) for key in ("qweight", "scale", "zero")})
        for path in sharing[first]:
            parent, _, leaf = path.rpartition(".")
            bias = tensors.pop(f"{path}.bias", None)
            if isinstance(model.get_submodule(path), nn.Embedding):
                layer = layers.EightBitEmbedding(parts.qweight, parts.scale)
            elif parts.qweight.is_floating_point():
                layer = Float8Linear(parts.qweight, parts.scale, bias)
            elif parts.zero is not None:
                layer = layers.WeightInt4Linear(parts.qweight, parts.scale, parts.zero, bias)
            elif mode == "dynamic":
                layer = layers.DynamicInt8Linear(parts.qweight, parts.scale, bias)
            else:
                layer = layers.WeightInt8Linear(parts.qweight, parts.scale, bias)
            setattr(model.get_submodule(parent), leaf, layer)
