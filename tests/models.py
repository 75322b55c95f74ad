"""Tiny real models for tests: random weights of a fixed seed, saved as a user would upload them.

Each function fills a directory and returns it. Text models carry a byte-level
tokenizer (`tokenizer.json`), image models a `preprocessor_config.json`.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import safetensors.numpy
import torch
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)

from engine.domain.artifact import ArtifactFormat, ModelCard, TaskId, TensorSpec

SPECIALS = ("[PAD]", "[CLS]", "[SEP]", "[UNK]")
VOCABULARY = len(SPECIALS) + 256
IMAGE_SIZE = 32


def tiny_bert(directory: Path, layers: int = 2, heads: int = 4, hidden: int = 32) -> Path:
    """Text encoder: 2 layers, hidden 32, 4 heads, FFN 64 (twice the hidden size), 512 positions."""
    torch.manual_seed(0)
    config = _bert_config(num_hidden_layers=layers, num_attention_heads=heads, hidden_size=hidden, intermediate_size=2 * hidden)
    return _save_text(BertModel(config, add_pooling_layer=False), directory, brackets=True)


def tiny_bert_classifier(directory: Path, labels: int = 3) -> Path:
    """Text classifier on the body of `tiny_bert`."""
    torch.manual_seed(1)
    return _save_text(BertForSequenceClassification(_bert_config(num_labels=labels)), directory, brackets=True)


def tiny_llama(directory: Path, head_dim: int = 8) -> Path:
    """Causal LM: 2 layers, hidden 32, 4 heads on 2 key-value heads, FFN 64, tied embeddings."""
    torch.manual_seed(2)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, initializer_range=0.2, tie_word_embeddings=True,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, head_dim=head_dim,
    )  # fmt: skip
    return _save_text(LlamaForCausalLM(config), directory, brackets=False)


def tiny_resnet(directory: Path, labels: int = 10) -> Path:
    """Image classifier: 2 stages of one basic block, 8 and 16 channels, 3×32×32 images."""
    torch.manual_seed(3)
    config = ResNetConfig(
        num_channels=3, embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=labels
    )
    return _save_vision(ResNetForImageClassification(config), directory)


def tiny_vit(directory: Path, labels: int = 10) -> Path:
    """Image classifier: 2 layers, hidden 32, 4 heads, FFN 64, 8×8 patches of 3×32×32 images."""
    torch.manual_seed(4)
    config = ViTConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=IMAGE_SIZE,
        patch_size=8, num_labels=labels, initializer_range=0.2,
    )  # fmt: skip
    return _save_vision(ViTForImageClassification(config), directory)


def tiny_onnx(directory: Path) -> Path:
    """Generic tensors: `model.onnx`, x float32 (batch, 16) → MatMul, Add, Relu, MatMul, Add → y (batch, 8)."""
    rng = np.random.default_rng(5)
    weights = {
        "w1": rng.normal(0, 0.3, (16, 64)), "b1": rng.normal(0, 0.1, 64),
        "w2": rng.normal(0, 0.3, (64, 8)), "b2": rng.normal(0, 0.1, 8),
    }  # fmt: skip
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w1"], ["h1"]),
            helper.make_node("Add", ["h1", "b1"], ["h2"]),
            helper.make_node("Relu", ["h2"], ["h3"]),
            helper.make_node("MatMul", ["h3", "w2"], ["h4"]),
            helper.make_node("Add", ["h4", "b2"], ["y"]),
        ],
        "tiny_mlp",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 8])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    directory.mkdir(parents=True, exist_ok=True)
    onnx.save_model(model, directory / "model.onnx")
    return directory


def tiny_card(directory: Path) -> ModelCard:
    """The card of one of the models above (or MiniLM), without going through intake."""
    if (directory / "model.onnx").exists():
        x, y = TensorSpec("x", "float32", ("batch", 16)), TensorSpec("y", "float32", ("batch", 8))
        return ModelCard(ArtifactFormat.ONNX, TaskId.TENSORS, "tiny_mlp", 1608, "float32", (x,), (y,))
    config = json.loads((directory / "config.json").read_text())
    architecture = config["architectures"][0]
    task = _task(architecture)
    inputs, output = _SIGNATURES[task]
    heads = config.get("num_attention_heads", 0)
    hidden = config.get("hidden_size", 0)
    weights = safetensors.numpy.load_file(directory / "model.safetensors")
    return ModelCard(
        ArtifactFormat.HUGGINGFACE, task, architecture, sum(w.size for w in weights.values()), "float32", inputs, (output,),
        hidden_size=hidden, intermediate_size=config.get("intermediate_size", 0),
        num_layers=config.get("num_hidden_layers", 0), num_heads=heads,
        num_kv_heads=config.get("num_key_value_heads", heads), head_dim=hidden // heads if heads else 0,
        vocab_size=config.get("vocab_size", 0), max_positions=config.get("max_position_embeddings", 0),
        image_size=IMAGE_SIZE if task is TaskId.IMAGE_CLASSIFIER else 0, num_channels=config.get("num_channels", 0),
        num_labels=len(config.get("id2label", ())), has_tokenizer=(directory / "tokenizer.json").exists(),
    )  # fmt: skip


_IDS = TensorSpec("input_ids", "int64", ("batch", "sequence"))
_MASK = TensorSpec("attention_mask", "int64", ("batch", "sequence"))
_PIXELS = TensorSpec("pixel_values", "float32", ("batch", "channels", "height", "width"))
_LOGITS = TensorSpec("logits", "float32", ("batch", "labels"))
_SIGNATURES: dict[TaskId, tuple[tuple[TensorSpec, ...], TensorSpec]] = {
    TaskId.TEXT_ENCODER: ((_IDS, _MASK), TensorSpec("last_hidden_state", "float32", ("batch", "sequence", "hidden"))),
    TaskId.TEXT_CLASSIFIER: ((_IDS, _MASK), _LOGITS),
    TaskId.CAUSAL_LM: ((_IDS,), TensorSpec("logits", "float32", ("batch", "sequence", "vocabulary"))),
    TaskId.IMAGE_CLASSIFIER: ((_PIXELS,), _LOGITS),
}


def _task(architecture: str) -> TaskId:
    endings = {
        "ForCausalLM": TaskId.CAUSAL_LM, "ForSequenceClassification": TaskId.TEXT_CLASSIFIER,
        "ForImageClassification": TaskId.IMAGE_CLASSIFIER,
    }  # fmt: skip
    return next((task for ending, task in endings.items() if architecture.endswith(ending)), TaskId.TEXT_ENCODER)


def byte_tokenizer(*, brackets: bool) -> Tokenizer:
    """One token a byte; `brackets` puts [CLS] before and [SEP] after each text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate((*SPECIALS, *alphabet))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIALS))
    if brackets:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
        )
    return tokenizer


def _bert_config(**different: int) -> BertConfig:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_labels": 2}
    return BertConfig(
        vocab_size=VOCABULARY, max_position_embeddings=512, initializer_range=0.2, pad_token_id=0, **{**sizes, **different}
    )


def _save_text(model: PreTrainedModel, directory: Path, *, brackets: bool) -> Path:
    model.eval().save_pretrained(directory)
    byte_tokenizer(brackets=brackets).save(str(directory / "tokenizer.json"))
    settings = {"pad_token": "[PAD]", "unk_token": "[UNK]", "tokenizer_class": "PreTrainedTokenizerFast"}
    if brackets:
        settings |= {"cls_token": "[CLS]", "sep_token": "[SEP]"}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    return directory


def _save_vision(model: PreTrainedModel, directory: Path) -> Path:
    model.eval().save_pretrained(directory)
    settings = {
        "do_resize": True, "size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE}, "do_rescale": True,
        "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
        "image_processor_type": "ViTImageProcessor",
    }  # fmt: skip
    (directory / "preprocessor_config.json").write_text(json.dumps(settings))
    return directory
