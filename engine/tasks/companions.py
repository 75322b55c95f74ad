"""Files beside the weights that a model needs to be fed: tokenizer, preprocessor, pooling."""

from __future__ import annotations

import shutil
from pathlib import Path

from engine.tasks.tokenizing import tokenizer_of

COMPANIONS = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt", "vocab.json",
    "merges.txt", "tokenizer.model", "preprocessor_config.json", "processor_config.json", "generation_config.json",
    "modules.json", "sentence_bert_config.json", "1_Pooling/config.json", "chat_template.jinja",
)  # fmt: skip


def copy_companions(source: Path, target: Path) -> None:
    """Make `target` feedable on its own, so that measuring needs neither the artifact nor torch.

    A GGUF's tokenizer is written as tokenizer.json. Files that `target` has stay. config.json
    is copied as well where there is none (class names are in it).
    """
    for name in (*COMPANIONS, "config.json"):
        if (source / name).is_file() and not (target / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, target / name)
    if not (target / "tokenizer.json").exists() and any(source.glob("*.gguf")):
        tokenizer_of(source).save(str(target / "tokenizer.json"))
