"""The tokenizer beside a model."""

from __future__ import annotations

from pathlib import Path

import tokenizers

from engine.intake.hostile import reading

TOKENIZER = "tokenizer.json"


def read_tokenizer(home: Path) -> int:
    """How many tokens `tokenizer.json` knows, 0 when there is none. Raises IntakeError when it is broken."""
    file = home / TOKENIZER
    if not file.exists():
        return 0
    with reading(
        "The tokenizer cannot be read.", mend="Save it again with save_pretrained of transformers.", where=TOKENIZER
    ):
        return int(tokenizers.Tokenizer.from_file(str(file)).get_vocab_size(with_added_tokens=True))
