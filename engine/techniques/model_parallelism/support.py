"""Which models tensor parallelism can split, and at which degrees. Torch-free."""

from __future__ import annotations

import json
from pathlib import Path

from engine.domain.artifact import ModelCard

SPLITTABLE = {
    "bert": "BERT", "camembert": "CamemBERT", "distilbert": "DistilBERT", "electra": "ELECTRA", "ernie": "ERNIE",
    "roberta": "RoBERTa", "roformer": "RoFormer", "xlmroberta": "XLM-RoBERTa", "deit": "DeiT", "dinov2": "DINOv2", "vit": "ViT",
    "cohere": "Cohere", "exaone4": "EXAONE", "gemma": "Gemma", "llama": "Llama",
    "gptneox": "GPT-NeoX", "granite": "Granite", "helium": "Helium", "ministral": "Ministral", "mistral": "Mistral",
    "nemotron": "Nemotron", "olmofor": "OLMo", "phifor": "Phi", "qwen2": "Qwen2", "qwen3": "Qwen3", "smollm3": "SmolLM3",
    "starcoder2": "StarCoder2",
}  # fmt: skip
"""Beginning of the class's name, in small letters, to what people call it. A tiny one of each was split over two
ranks and answered as the whole."""

UNCUT = ("GPTNeoFor",)
"""Causal LMs that were tried and do not run with a part of their blocks."""

UNTRACED = ("Gte", "ModernBert", "NomicBert", "RoFormer")
"""Single-pass models whose graph was traced but not cut in two: a value of their rotary positions crosses every place.
The other encoders and image classifiers that intake takes were cut and answered as the whole, tiny ones of each."""

PACKED = ("int8", "int4", "fp8")
"""Number formats whose weights are laid out for the kernels of one worker."""

HEAD_COUNTS = ("num_attention_heads", "num_heads", "n_heads", "num_key_value_heads")
"""What attentions call the number of their heads."""

MOST = 64


def is_splittable(card: ModelCard) -> bool:
    """Whether there is a plan for this architecture's layers."""
    return card.num_heads > 0 and card.architecture.lower().replace("_", "").replace("-", "").startswith(tuple(SPLITTABLE))


def splittable_names() -> str:
    return ", ".join(dict.fromkeys(SPLITTABLE.values()))


def degrees_for(card: ModelCard, *, attention: bool) -> tuple[int, ...]:
    """Degrees from 2 on that divide the MLPs and, if `attention`, heads and key-value heads."""
    sizes = [card.intermediate_size]
    if attention:
        sizes += [card.num_heads, card.num_kv_heads or card.num_heads]
    return tuple(n for n in range(2, MOST + 1) if all(size > 0 and size % n == 0 for size in sizes))


def heads_of_cut(directory: Path) -> set[int]:
    """(Key-value) heads of the attentions that an earlier stage cut, as its variant says."""
    written = directory / "variant.json"
    if not written.exists():
        return set()
    attributes = json.loads(written.read_text())["attributes"].values()
    return {value for found in attributes for name, value in found.items() if name in HEAD_COUNTS}
