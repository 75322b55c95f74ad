"""Models of a variant's directory as torch modules, and back.

A directory holds what was uploaded (config.json + safetensors, or one GGUF file) or
what a stage wrote: config.json, `model.safetensors` keyed by module path, and
`variant.json`:

    {"attributes": {"encoder.layer.0.attention.self": {"num_attention_heads": 8}}}

Whatever config.json cannot say of a pruned model is in these two: module sizes are
those of the tensors in model.safetensors, and `attributes` are set on the modules they
name (paths from the Hugging Face model, `Traceable.model`). No code from the directory
is ever run and the network is never asked.
"""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers.initialization import no_init_weights

from engine.domain.artifact import ArtifactFormat, ModelCard, TaskId
from engine.domain.deployment import Variant
from engine.domain.errors import StageError
from engine.tasks.companions import copy_companions
from engine.tasks.resizing import place_tensor
from engine.tasks.traceable import Traceable, traceable_for

# a missing weight is an error of ours, not a report on standard error
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

Attributes = Mapping[str, Mapping[str, Any]]
"""Module path to attribute name to value (number, flag, text or a list of them)."""

Adopt = Callable[[nn.Module, dict[str, Tensor]], bool]
"""Replaces modules of the empty model by layers of the tensors it takes out of the dict; whether it did."""

WEIGHTS = "model.safetensors"
VARIANT = "variant.json"

_AUTO: dict[TaskId, Any] = {
    TaskId.TEXT_ENCODER: transformers.AutoModel,
    TaskId.CAUSAL_LM: transformers.AutoModelForCausalLM,
    TaskId.TEXT_CLASSIFIER: transformers.AutoModelForSequenceClassification,
    TaskId.IMAGE_CLASSIFIER: transformers.AutoModelForImageClassification,
}

def load_module(variant: Variant, card: ModelCard, adopt: Adopt | None = None) -> Traceable:
    """The model in fp32, in eval mode, without gradients.

    `adopt` lets a runtime open a directory of its own making: see `Adopt`.

    Raises StageError when the files do not make this model (weights missing, a class
    that transformers does not know, a format that has no torch module).
    """
    if card.format is ArtifactFormat.ONNX or card.task not in _AUTO:
        raise StageError(
            "An ONNX graph cannot be turned into a torch module.",
            mend="Use @onnxruntime or @openvino for it, or upload the Hugging Face directory it was made from.",
        )
    directory = Path(variant.directory)
    try:
        written_here = (directory / VARIANT).exists()
        model = _load_variant(directory, card, adopt) if written_here else _load_pretrained(directory, card)
    except (ValueError, KeyError, OSError, RuntimeError, ImportError, AttributeError) as error:
        raise StageError(
            f"The {card.architecture} does not load.", mend="Check that config.json and the weights belong together.",
            where=directory.name, detail=f"{type(error).__name__}: {error}",
        ) from error  # fmt: skip
    return traceable_for(model, card)


def save_variant(traceable: Traceable, directory: Path, attributes: Attributes, like: Variant) -> Variant:
    """Write the module to `directory` so that `load_module` returns the very same one.

    `attributes` are what this stage changed on modules beyond tensor shapes; those of
    `like` stay in force. `like` also gives the tokenizer and preprocessor files.
    """
    directory.mkdir(parents=True, exist_ok=True)
    model: Any = traceable.model
    save_file(_tensors_of(model), directory / WEIGHTS, metadata={"format": "pt"})
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(directory)
    earlier = _attributes_of(Path(like.directory))
    paths = dict.fromkeys([*earlier, *attributes])
    merged = {path: {**earlier.get(path, {}), **attributes.get(path, {})} for path in paths}
    (directory / VARIANT).write_text(json.dumps({"attributes": merged}, indent=1))
    copy_companions(Path(like.directory), directory)
    return Variant(str(directory), changed=True)


def _load_pretrained(directory: Path, card: ModelCard) -> nn.Module:
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    if card.format is ArtifactFormat.GGUF:
        options["gguf_file"] = gguf_file(directory).name
    config = transformers.AutoConfig.from_pretrained(directory, **options)
    auto = _AUTO[card.task]
    model, info = auto.from_pretrained(
        directory, config=config, dtype=torch.float32, attn_implementation=_attention(auto, config),
        use_safetensors=card.format is not ArtifactFormat.GGUF, output_loading_info=True, **options,
    )  # fmt: skip
    _drop_unused(model, card)
    known = model.state_dict().keys()
    missing = sorted(name for name in info["missing_keys"] if name in known)
    if missing:
        raise StageError(
            f"{len(missing)} weights are missing, {missing[0]} first.",
            mend="Upload all weight files of the model.", where=directory.name, detail="\n".join(missing),
        )  # fmt: skip
    return model  # type: ignore[no-any-return]


def _load_variant(directory: Path, card: ModelCard, adopt: Adopt | None) -> nn.Module:
    config = transformers.AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    auto = _AUTO[card.task]
    with no_init_weights():
        model = auto.from_config(config, dtype=torch.float32, attn_implementation=_attention(auto, config))
    model.tie_weights()
    _drop_unused(model, card)
    tensors, shared = load_file(directory / WEIGHTS), _shared(model)
    replaced = adopt(model, tensors) if adopt else False
    expected = _names_of(model)
    if tensors.keys() != expected:
        odd = sorted(tensors.keys() ^ expected)
        raise StageError(
            f"The variant's weights do not fit its config: {odd[0]} is on one side only.",
            mend="Run the experiment again; if it stays, report it.", where=directory.name, detail="\n".join(odd),
        )
    for name, tensor in tensors.items():
        place_tensor(model, name, tensor.float() if tensor.is_floating_point() else tensor)
    if replaced:
        _share(model, shared)
    else:
        model.tie_weights()
    _set_attributes(model, _attributes_of(directory))
    return model  # type: ignore[no-any-return]


def _attention(auto: Any, config: Any) -> str:
    kinds = auto._model_mapping.get(type(config), ())
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    return "sdpa" if any(kind._supports_sdpa for kind in kinds) else "eager"


def _drop_unused(model: Any, card: ModelCard) -> None:
    """A pooler nobody asked for is often missing from the file; left in, its random weights would be saved."""
    if card.task is TaskId.TEXT_ENCODER and isinstance(getattr(model, "pooler", None), nn.Module):
        model.pooler = None


def _tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """What a file must hold: parameters (tied ones once) and persistent buffers."""
    state = model.state_dict()
    return {name: state[name].detach().cpu().contiguous() for name in _names_of(model)}


def _names_of(model: nn.Module) -> set[str]:
    shared = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    first = {name for name, _ in model.named_parameters()}
    return set(model.state_dict()) - (shared - first)


def _shared(model: nn.Module) -> dict[str, str]:
    """Names of parameters that are another one's as well, with the name under which a file holds it."""
    first = {id(parameter): name for name, parameter in model.named_parameters()}
    every = model.named_parameters(remove_duplicate=False)
    return {name: first[id(parameter)] for name, parameter in every if first[id(parameter)] != name}


def _share(model: nn.Module, shared: dict[str, str]) -> None:
    """As tie_weights, which knows no layers that keep something else than a parameter."""
    for name, first in shared.items():
        path, _, leaf = name.rpartition(".")
        module = model.get_submodule(path)
        if leaf in module._parameters:
            module._parameters[leaf] = model.get_parameter(first)


def _attributes_of(directory: Path) -> dict[str, dict[str, Any]]:
    file = directory / VARIANT
    if not file.exists():
        return {}
    return dict(json.loads(file.read_text())["attributes"])


def _set_attributes(model: nn.Module, attributes: Attributes) -> None:
    for path, values in attributes.items():
        module = model.get_submodule(path)
        for name, value in values.items():
            present = getattr(module, name)
            if callable(present) or isinstance(present, (nn.Module, Tensor)):
                raise ValueError(f"{path}.{name} is not a plain attribute")
            setattr(module, name, tuple(value) if isinstance(value, list) else value)


def gguf_file(directory: Path) -> Path:
    """The GGUF file of a directory. Raises StageError when there is none, or several."""
    files = sorted(directory.glob("*.gguf"))
    if len(files) != 1:
        raise StageError(f"Expected one GGUF file, found {len(files)}.", where=directory.name)
    return files[0]
