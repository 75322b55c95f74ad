"""What cards of transformers' models share: sizes from the config, names of inputs and outputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engine.domain.artifact import TaskId, TensorSpec

_PAD_SHIFTED = frozenset({"roberta", "xlm-roberta", "camembert"})
"""Count positions from behind the padding token, so the last ones of the table cannot be reached."""
_MPNET_SHIFT = 2
"""The same with a padding token that is fixed in its code."""
_DEFAULT_IMAGE = 224
_LARGEST_IMAGE = 4096


def sizes_of(config: Any, task: TaskId) -> dict[str, int]:
    """ModelCard's sizes by field name; what the architecture lacks is 0."""
    heads = _number(config, "num_attention_heads")
    hidden = _number(config, "hidden_size", "hidden_sizes", "embed_dim")
    sizes = {
        "hidden_size": hidden,
        "intermediate_size": _number(config, "intermediate_size", "hidden_dim", "ffn_dim", "n_inner"),
        "num_layers": _number(config, "num_hidden_layers", "num_layers") or _depth(config),
        "num_heads": heads,
        "num_kv_heads": _number(config, "num_key_value_heads") or heads,
        "head_dim": _number(config, "head_dim") or (hidden // heads if heads else 0),
        "vocab_size": 0,
        "max_positions": 0,
        "image_size": 0,
        "num_channels": 0,
        "num_labels": 0,
    }
    if task.takes_text:
        positions = _number(config, "max_position_embeddings")
        # GPT-2 and its kin write no width when it is the usual one
        sizes["intermediate_size"] = sizes["intermediate_size"] or 4 * hidden
        sizes |= {"vocab_size": _number(config, "vocab_size"), "max_positions": max(positions - _shift(config), 0)}
    if task is TaskId.IMAGE_CLASSIFIER:
        sizes |= {"image_size": _number(config, "image_size"), "num_channels": _number(config, "num_channels") or 3}
    if task in (TaskId.TEXT_CLASSIFIER, TaskId.IMAGE_CLASSIFIER):
        sizes["num_labels"] = _number(config, "num_labels")
    return sizes


def image_size_of(home: Path) -> int:
    """Side of the images that `preprocessor_config.json` makes; 224 where it does not say."""
    file = home / "preprocessor_config.json"
    try:
        settings = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    except ValueError:
        return _DEFAULT_IMAGE
    for key in ("crop_size", "size"):
        found = settings.get(key) if isinstance(settings, dict) else None
        if isinstance(found, dict):
            found = found.get("height") or found.get("shortest_edge")
        if isinstance(found, int) and 0 < found <= _LARGEST_IMAGE:
            return found
    return _DEFAULT_IMAGE


def signature(
    task: TaskId, sizes: dict[str, int], *, fixed_image: bool = False
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs under the names all parts agree on (docs/architecture.md)."""
    ids = TensorSpec("input_ids", "int64", ("batch", "sequence"))
    mask = TensorSpec("attention_mask", "int64", ("batch", "sequence"))
    labels = TensorSpec("logits", "float32", ("batch", sizes["num_labels"]))
    match task:
        case TaskId.CAUSAL_LM:
            return (ids,), (TensorSpec("logits", "float32", ("batch", "sequence", sizes["vocab_size"])),)
        case TaskId.TEXT_CLASSIFIER:
            return (ids, mask), (labels,)
        case TaskId.IMAGE_CLASSIFIER:
            side: tuple[int | str, ...] = (sizes["image_size"],) * 2 if fixed_image else ("height", "width")
            return (TensorSpec("pixel_values", "float32", ("batch", sizes["num_channels"], *side)),), (labels,)
        case _:
            hidden = TensorSpec("last_hidden_state", "float32", ("batch", "sequence", sizes["hidden_size"]))
            return (ids, mask), (hidden,)


def _number(config: Any, *names: str) -> int:
    """The first of these that is a positive number; of a list the last entry."""
    for name in names:
        found = getattr(config, name, None)
        if isinstance(found, (list, tuple)) and found:
            found = found[-1]
        if isinstance(found, int) and found > 0:
            return int(found)
    return 0


def _depth(config: Any) -> int:
    depths = getattr(config, "depths", None)
    return sum(d for d in depths if isinstance(d, int)) if isinstance(depths, (list, tuple)) else 0


def _shift(config: Any) -> int:
    """How many of the first positions no token ever takes."""
    model_type = getattr(config, "model_type", "")
    if model_type == "mpnet":
        return _MPNET_SHIFT
    return _number(config, "pad_token_id") + 1 if model_type in _PAD_SHIFTED else 0
