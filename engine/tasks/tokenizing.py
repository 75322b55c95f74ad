"""Texts to token ids with the `tokenizers` library; torch-free wherever tokenizer.json exists."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import lru_cache
from itertools import cycle
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
from tokenizers import Encoding, Tokenizer

from engine.domain.errors import StageError
from engine.domain.ports import Array

_NO_TOKENS = "Give texts in a language the model knows."
_OLD_VOCABULARIES = ("vocab.txt", "vocab.json", "tokenizer.model", "spiece.model")


def tokenizer_of(directory: Path) -> Tokenizer:
    """The directory's tokenizer, without truncation or padding.

    From tokenizer.json, else converted by transformers from the GGUF file or an older
    vocabulary (which loads torch; `copy_companions` saves the result). Raises StageError
    when there is none.
    """
    tokenizer = _tokenizer(str(directory))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


@lru_cache(maxsize=8)
def _tokenizer(name: str) -> Tokenizer:
    directory = Path(name)
    try:
        if (directory / "tokenizer.json").is_file():
            return Tokenizer.from_file(str(directory / "tokenizer.json"))
        if gguf := sorted(directory.glob("*.gguf")):
            return _converted(directory, gguf_file=gguf[0].name)
        if any((directory / vocabulary).is_file() for vocabulary in _OLD_VOCABULARIES):
            return _converted(directory)
    except Exception as error:  # the tokenizers library raises nothing narrower for bad files
        raise StageError(
            "The tokenizer does not load.", mend="Upload the tokenizer.json that belongs to the model.",
            where=directory.name, detail=f"{type(error).__name__}: {error}",
        ) from error  # fmt: skip
    raise StageError("This model has no tokenizer.", mend="Upload tokenizer.json next to the weights.", where=directory.name)


def _converted(directory: Path, **options: str) -> Tokenizer:
    import transformers

    slow: Any = transformers.AutoTokenizer.from_pretrained(
        directory, local_files_only=True, trust_remote_code=False, **options
    )
    tokenizer: Tokenizer = slow.backend_tokenizer
    return tokenizer


def padded(directory: Path, texts: Sequence[str], length: int) -> dict[str, Array]:
    """`input_ids`, `attention_mask` and `token_type_ids`, int64 (texts, length): cut or padded."""
    tokenizer = tokenizer_of(directory)
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(length=length, pad_id=pad_id(directory, tokenizer))
    return _as_arrays(tokenizer.encode_batch(list(texts)))


def exact(directory: Path, texts: Sequence[str], count: int, length: int) -> dict[str, Array]:
    """`count` rows of exactly `length` tokens, all real: texts one after another, cut, from the start again when used up."""
    tokenizer = tokenizer_of(directory)
    tokenizer.enable_truncation(length)
    if not tokenizer.encode("\n".join(texts), add_special_tokens=False).ids:
        raise StageError("The texts have no tokens.", mend=_NO_TOKENS)
    source = cycle(texts)
    rows = []
    for _ in range(count):
        row = next(source)
        while len(tokenizer.encode(row)) < length:
            # doubling keeps the number of encodings logarithmic in the length
            for _ in range(row.count("\n") + 1):
                row += "\n" + next(source)
        rows.append(tokenizer.encode(row))
    return _as_arrays(rows)


def stream(directory: Path, texts: Sequence[str]) -> tuple[Array, Array]:
    """(prefix, ids): the tokens the tokenizer puts before any text, and all texts as one int64 stream.

    Raises StageError when there is not a single token.
    """
    tokenizer = tokenizer_of(directory)
    ids = tokenizer.encode("\n".join(texts), add_special_tokens=False).ids
    if not ids:
        raise StageError("The texts have no tokens.", mend=_NO_TOKENS)
    framed = tokenizer.encode("a")
    first_real = framed.special_tokens_mask.index(0)
    return np.array(framed.ids[:first_real], dtype=np.int64), np.array(ids, dtype=np.int64)


def pad_id(directory: Path, tokenizer: Tokenizer) -> int:
    """The padding token's id; 0 where the model has none (masked anyway)."""
    token = _settings(directory / "tokenizer_config.json").get("pad_token")
    if isinstance(token, dict):
        token = token.get("content")
    known = tokenizer.token_to_id(token) if isinstance(token, str) else None
    if known is None:
        known = _settings(directory / "config.json").get("pad_token_id")
    return known if isinstance(known, int) and known >= 0 else 0


def _settings(file: Path) -> dict[str, Any]:
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}


def _as_arrays(encodings: Sequence[Encoding]) -> dict[str, Array]:
    return {
        "input_ids": np.array([e.ids for e in encodings], dtype=np.int64),
        "attention_mask": np.array([e.attention_mask for e in encodings], dtype=np.int64),
        "token_type_ids": np.array([e.type_ids for e in encodings], dtype=np.int64),
    }
