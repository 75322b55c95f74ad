"""Tiny GGUF files, written as llama.cpp's converter writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter
from transformers import AutoConfig, AutoModelForCausalLM

HIDDEN, LAYERS, HEADS, KV_HEADS, VOCABULARY, POSITIONS = 32, 2, 4, 2, 260, 128

_CONFIG: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": HIDDEN, "intermediate_size": 64, "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "max_position_embeddings": POSITIONS,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.2,
}  # fmt: skip
# what transformers does not read from a GGUF file keeps the original's value
_EXTRA: dict[str, dict[str, Any]] = {
    "gpt2": {"max_position_embeddings": 1024},
    "qwen3": {"head_dim": 128},
    "gemma2": {"head_dim": 8},
    "gemma3": {"head_dim": 8},
}
_MODEL_TYPE = {"gemma3": "gemma3_text"}
_NO_GROUPS = {"falcon", "gpt2"}
_NORM_PLUS_ONE = {"gemma2", "gemma3", "nemotron"}
_WIDTH_OF_FOUR = {"falcon", "gpt2"}


def original(architecture: str) -> Any:
    """The Hugging Face model that a GGUF file of `architecture` is made of."""
    model_type = _MODEL_TYPE.get(architecture, architecture)
    settings = {k: v for k, v in _CONFIG.items() if not (k == "num_key_value_heads" and architecture in _NO_GROUPS)}
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **{**settings, **_EXTRA.get(architecture, {})})
    return AutoModelForCausalLM.from_config(config).eval()


def tiny_gguf(file: Path, architecture: str = "llama", kind: GGMLQuantizationType = GGMLQuantizationType.Q8_0) -> Any:
    """Write the file; the model it was made of."""
    model = original(architecture)
    writer = GGUFWriter(file, architecture)
    _write_sizes(writer, architecture, model.config)
    _write_tokenizer(writer)
    enum = next(k for k, v in gguf.MODEL_ARCH_NAMES.items() if v == architecture)
    names = gguf.get_tensor_name_map(enum, LAYERS)
    for name, parameter in model.named_parameters():
        found = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert found is not None, name
        values = _as_converted(architecture, name, parameter.detach().float().numpy())
        if values.ndim == 2:
            writer.add_tensor(found, gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(found, values)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    return model


def _write_sizes(writer: GGUFWriter, architecture: str, config: Any) -> None:
    writer.add_context_length(POSITIONS)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(4 * HIDDEN if architecture in _WIDTH_OF_FOUR else 64)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS if architecture in _NO_GROUPS else KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_layer_norm_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(VOCABULARY)
    head = getattr(config, "head_dim", None) or HIDDEN // HEADS
    writer.add_key_length(head)
    writer.add_value_length(head)


def _write_tokenizer(writer: GGUFWriter) -> None:
    tokens = ["<pad>", "<s>", "</s>", "<unk>", *(f"<0x{i:02X}>" for i in range(256))]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types([1] * len(tokens))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)


def _as_converted(architecture: str, name: str, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What llama.cpp's converter does to some tensors."""
    part = name.split(".")[-2]
    if architecture == "gpt2" and part in ("c_attn", "c_proj", "c_fc") and values.ndim == 2:
        return np.ascontiguousarray(values.T)
    if architecture in _NORM_PLUS_ONE and "norm" in part and name.endswith("weight"):
        return values + 1
    if architecture == "llama" and part in ("q_proj", "k_proj"):
        heads = HEADS if part == "q_proj" else KV_HEADS
        return values.reshape(heads, 2, -1, values.shape[1]).swapaxes(1, 2).reshape(values.shape)
    return values
