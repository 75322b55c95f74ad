"""Every architecture that intake promises: a tiny one is taken in, loaded and run, and the card agrees with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoConfig

from engine.domain.artifact import ModelCard, TaskId
from engine.domain.deployment import Variant
from engine.domain.errors import IntakeError
from engine.intake.architectures import CAUSAL_LMS, IMAGE_CLASSIFIERS, TEXT_ENCODERS, architecture_of
from engine.intake.inspection import inspect
from engine.tasks.loading import load_module

_TEXT: dict[str, Any] = {
    "vocab_size": 260, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 128, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
_GPT = {"n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 128}
_SMALL_EMBEDDING = {"embedding_size": 16}
_TEXT_EXTRA: dict[str, dict[str, Any]] = {
    "albert": _SMALL_EMBEDDING, "electra": _SMALL_EMBEDDING,
    "convbert": {"embedding_size": 32}, "roformer": {"embedding_size": 32},
    "distilbert": {"dim": 32, "hidden_dim": 64, "n_heads": 4, "n_layers": 2},
    "mobilebert": {"embedding_size": 32, "intra_bottleneck_size": 32, "true_hidden_size": 32},
    "modernbert": {"local_attention": 16, "global_attn_every_n_layers": 2, "cls_token_id": 1, "sep_token_id": 2},
    "bloom": {"n_head": 4, "n_layer": 2},
    "gemma2": {"query_pre_attn_scalar": 8, "head_dim": 8}, "gemma3_text": {"query_pre_attn_scalar": 8, "head_dim": 8},
    "gpt2": _GPT, "gpt_bigcode": _GPT, "gptj": {**_GPT, "rotary_dim": 4},
    "gpt_neo": {"num_layers": 2, "attention_types": [[["global", "local"], 1]], "num_heads": 4, "window_size": 32},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32}, "phi3": {"original_max_position_embeddings": 128},
    "smollm3": {"no_rope_layers": [1, 0]},
}  # fmt: skip
_GROUPED = {
    "cohere", "exaone4", "gemma", "gemma2", "gemma3_text", "glm", "granite", "helium", "llama", "ministral", "mistral",
    "nemotron", "olmo", "olmo2", "phi3", "qwen2", "qwen3", "smollm3", "stablelm", "starcoder2",
}  # fmt: skip
"""Take fewer key-value heads than heads."""
_HEAD_DIM = {"exaone4", "gemma", "glm", "helium", "ministral", "mistral", "qwen3"}
_TRANSFORMER: dict[str, Any] = {
    "image_size": 32, "patch_size": 8, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4,
}  # fmt: skip
_STAGES = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}
_NEXT = {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2, "image_size": 32}
_WINDOWS = {"image_size": 32, "patch_size": 4, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 4], "window_size": 4}
_IMAGE: dict[str, dict[str, Any]] = {
    "bit": {**_STAGES, "hidden_sizes": [16, 32], "num_groups": 4},
    "convnext": _NEXT, "convnextv2": _NEXT,
    "efficientnet": {"image_size": 32, "width_coefficient": 0.25, "depth_coefficient": 0.25, "hidden_dim": 320},
    "mobilenet_v1": {"image_size": 32, "depth_multiplier": 0.25},
    "mobilenet_v2": {"image_size": 32, "depth_multiplier": 0.25},
    "mobilevit": {
        "image_size": 32, "hidden_sizes": [16, 16, 16], "neck_hidden_sizes": [8, 8, 16, 16, 16, 16, 32],
        "num_attention_heads": 4, "patch_size": 2,
    },
    "regnet": {**_STAGES, "groups_width": 8}, "resnet": {**_STAGES, "layer_type": "basic"},
    "swin": _WINDOWS, "swinv2": _WINDOWS,
}  # fmt: skip
_SIDE = 32


@pytest.mark.parametrize("model_type", sorted(TEXT_ENCODERS))
def test_text_encoder(model_type: str, tmp_path: Path) -> None:
    card, model = _taken_in(model_type, TaskId.TEXT_ENCODER, transformers.AutoModel, tmp_path)
    assert (card.hidden_size, card.num_layers, card.num_heads, card.vocab_size) == (32, 2, 4, 260)
    _runs(card, model, tmp_path, _text(card))


@pytest.mark.parametrize("model_type", sorted(TEXT_ENCODERS))
def test_text_classifier(model_type: str, tmp_path: Path) -> None:
    kind = transformers.AutoModelForSequenceClassification
    card, model = _taken_in(model_type, TaskId.TEXT_CLASSIFIER, kind, tmp_path, num_labels=5)
    assert card.num_labels == 5
    _runs(card, model, tmp_path, _text(card))


@pytest.mark.parametrize("model_type", sorted(CAUSAL_LMS))
def test_causal_lm(model_type: str, tmp_path: Path) -> None:
    card, model = _taken_in(model_type, TaskId.CAUSAL_LM, transformers.AutoModelForCausalLM, tmp_path)
    assert card.num_kv_heads == (2 if model_type in _GROUPED else 1 if model_type == "gpt_bigcode" else 4)
    assert (card.hidden_size, card.num_layers, card.num_heads, card.head_dim) == (32, 2, 4, 8)
    _runs(card, model, tmp_path, _text(card)[:1])


@pytest.mark.parametrize("model_type", sorted(IMAGE_CLASSIFIERS))
def test_image_classifier(model_type: str, tmp_path: Path) -> None:
    kind = transformers.AutoModelForImageClassification
    card, model = _taken_in(model_type, TaskId.IMAGE_CLASSIFIER, kind, tmp_path, num_labels=7)
    assert (card.num_labels, card.num_channels) == (7, 3)
    shape = card.inputs[0].shape
    assert shape[2:] in ((_SIDE, _SIDE), ("height", "width"))
    _runs(card, model, tmp_path, [torch.rand(2, 3, _SIDE, _SIDE)])


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, ("BertForMaskedLM", TaskId.TEXT_ENCODER)),
        ({"model_type": "bert", "architectures": ["BertForPreTraining"]}, ("BertForPreTraining", TaskId.TEXT_ENCODER)),
        ({"model_type": "bert", "architectures": None}, ("bert", TaskId.TEXT_ENCODER)),
        ({"model_type": "bert"}, ("bert", TaskId.TEXT_ENCODER)),
        ({"model_type": "llama", "architectures": []}, ("llama", TaskId.CAUSAL_LM)),
        ({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}, ("GPT2LMHeadModel", TaskId.CAUSAL_LM)),
    ],
)
def test_task_by_architecture(config: dict[str, Any], expected: tuple[str, TaskId]) -> None:
    assert architecture_of(config) == expected


@pytest.mark.parametrize(
    ("model_type", "architecture"),
    [
        ("t5", "T5ForConditionalGeneration"),
        ("llama", "LlamaForSequenceClassification"),
        ("vit", "ViTModel"),
        ("clip", "CLIPModel"),
    ],
)
def test_what_is_not_served_is_refused(model_type: str, architecture: str) -> None:
    with pytest.raises(IntakeError, match=architecture) as caught:
        architecture_of({"model_type": model_type, "architectures": [architecture]})
    assert all(name in caught.value.mend for name in ("bert", "llama", "resnet", "ONNX"))


def _taken_in(model_type: str, task: TaskId, kind: Any, directory: Path, **more: int) -> tuple[ModelCard, Any]:
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **_settings(model_type, task), **more)
    model = kind._model_mapping[type(config)]
    model = (model[0] if isinstance(model, tuple) else model)(config).eval()
    model.save_pretrained(directory)
    assert json.loads((directory / "config.json").read_text())["architectures"] == [type(model).__name__]
    card = inspect(directory)
    assert card.task is task
    assert card.architecture == type(model).__name__
    assert card.parameters == sum(p.numel() for p in model.parameters())
    assert card.dtype == "float32"
    return card, model


def _settings(model_type: str, task: TaskId) -> dict[str, Any]:
    if task is TaskId.IMAGE_CLASSIFIER:
        return _IMAGE.get(model_type, _TRANSFORMER)
    grouped = {"num_key_value_heads": 2} if model_type in _GROUPED else {}
    head = {"head_dim": 8} if model_type in _HEAD_DIM else {}
    return {**_TEXT, **grouped, **head, **_TEXT_EXTRA.get(model_type, {})}


def _text(card: ModelCard) -> list[torch.Tensor]:
    """As long as the card says the model can take."""
    ids = torch.randint(3, card.vocab_size, (2, card.max_positions))
    return [ids, torch.ones_like(ids)]


def _runs(card: ModelCard, model: Any, directory: Path, inputs: list[torch.Tensor]) -> None:
    """The loaded model answers in the shapes that the card announces, and as the original does."""
    assert len(inputs) == len(card.inputs)
    names = [spec.name for spec in card.inputs]
    with torch.no_grad():
        found = load_module(Variant(str(directory)), card)(*inputs)
        expected = model(**dict(zip(names, inputs, strict=True)))[card.outputs[0].name]
    sizes = [n for n in card.outputs[0].shape[1:] if isinstance(n, int)]
    assert list(found[0].shape[-len(sizes) :]) == sizes
    torch.testing.assert_close(found[0], expected, atol=1e-4, rtol=1e-3)
