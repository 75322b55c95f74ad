"""Which matrices of a model are split by columns and which by rows.

transformers' own `tp_plan` where the model has one; BERT-likes and image transformers
have none and get ours.
"""

from __future__ import annotations

import re
from typing import Any

from torch import nn

from engine.domain.errors import StageError

COLUMNS, ROWS, GATHERED = "columns", "rows", "gathered"
_STYLES = {"colwise": COLUMNS, "rowwise": ROWS, "colwise_gather_output": GATHERED, "colwise_rep": GATHERED}
_OURS: tuple[tuple[str, str], ...] = (
    (r"attention\.self\.(query|key|value)", COLUMNS), (r"attention\.output\.dense", ROWS),  # BERT and its kin
    (r"(q|k|v)_lin", COLUMNS), (r"out_lin", ROWS), (r"ffn\.lin1", COLUMNS), (r"ffn\.lin2", ROWS),  # DistilBERT
    (r"attention\.(q|k|v)_proj", COLUMNS), (r"attention\.o_proj", ROWS),  # ViT
    (r"mlp\.fc1", COLUMNS), (r"mlp\.fc2", ROWS),
    (r"intermediate\.dense", COLUMNS), (r"(?<!attention\.)output\.dense", ROWS),
)  # fmt: skip
_ATTENTION = re.compile(r"\.?(self_attn|attention|attn)\.")


def plan_of(model: Any, ranks: int, *, attention: bool) -> dict[str, str]:
    """Path of each matrix to its style. attention: split the heads too, else the MLPs alone.

    Raises StageError where there is no plan, or a size does not divide.
    """
    theirs: dict[str, str] = getattr(model, "tp_plan", None) or getattr(model, "_tp_plan", None) or {}
    patterns = [(_pattern(path), style) for path, style in theirs.items()] or [
        (re.compile(rf"(.*\.)?{path}$"), style) for path, style in _OURS
    ]
    found: dict[str, str] = {}
    for path, module in model.named_modules():
        style = next((s for pattern, s in patterns if pattern.fullmatch(path)), None)
        if style is None or not isinstance(module, nn.Linear):
            continue
        kind = _STYLES.get(style, style)
        if kind not in (COLUMNS, ROWS, GATHERED):
            raise StageError(f"{path} wants to be split as {style}, which is not known here.", mend="Choose kind=pipeline.")
        if _ATTENTION.search(path) and not attention:
            continue
        if kind == GATHERED and module.out_features % ranks:
            continue
        size = module.in_features if kind == ROWS else module.out_features
        if size % ranks:
            raise StageError(f"{path} has {size} features, which do not divide by {ranks}.", mend="Choose another degree, or another sparsity before it.")
        found[path] = kind
    if ROWS not in found.values():
        raise StageError(f"There is no plan to split a {type(model).__name__}.", mend="Choose kind=pipeline.")
    return found


def _pattern(path: str) -> re.Pattern[str]:
    """transformers writes `model.layers.*.self_attn.q_proj`."""
    return re.compile(r"\d+".join(map(re.escape, path.split("*"))))
