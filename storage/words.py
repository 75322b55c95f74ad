"""Free text to words and to the two databases' full-text queries.

Both databases are given words that were split here, so that they find the same runs.
"""

from __future__ import annotations

import re
import unicodedata

_WORD = re.compile(r"[^\W_]+")


def words(text: str) -> list[str]:
    """Letters and digits, without case or accents: `MiniLM-L6` is `minilm`, `l6`."""
    bare = text.casefold()
    if not bare.isascii():
        bare = "".join(c for c in unicodedata.normalize("NFKD", bare) if not unicodedata.combining(c))
    return _WORD.findall(bare)


def document(text: str) -> str:
    """What the index is given for one field."""
    return " ".join(words(text))


def phrases(text: str) -> list[list[str]]:
    """One phrase for each space-separated part of a query; all must be found.

    `sparsity=0.3 mini` asks for `sparsity 0 3` in this order, and for `mini`.
    """
    return [found for part in text.split() if (found := words(part))]


def fts5_query(text: str) -> str:
    """A MATCH expression; the last word of each part may be a beginning. Empty: no words."""
    return " AND ".join('"' + " ".join(phrase) + '" *' for phrase in phrases(text))


def tsquery(text: str) -> str:
    """The same for PostgreSQL's to_tsquery('simple', …)."""
    return " & ".join("(" + " <-> ".join([*phrase[:-1], f"{phrase[-1]}:*"]) + ")" for phrase in phrases(text))
