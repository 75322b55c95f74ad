"""Unlabelled English for training: sentences of the documentation that installed Python packages carry.

Real prose by many hands, there wherever Speedrail runs, under the packages' own licences;
nothing of it is copied into a model or kept beside one. Which sentences there are depends
on the installed versions, so a stage that trains on them reports how many it took.
"""

from __future__ import annotations

import hashlib
import re
import sysconfig
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

_DOCSTRING = re.compile(r'^[ \t]*[rRuU]?"""(.*?)"""', re.DOTALL | re.MULTILINE)
_END_OF_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_PARAGRAPH = re.compile(r"\n\s*\n")
_NOT_PROSE = (">>>", "::", "---", "===", "http", ":param", "@")
_WORDS = (8, 45)
"""The built-in probes' items have 12 to 45 words."""
_LETTERS = 0.94
"""Share of letters and spaces below which a sentence is a formula or a listing."""
_SHINGLE = 7
"""Words in a row that make a sentence known."""


def documentation_sentences(most: int, without: Iterable[str] = ()) -> tuple[str, ...]:
    """At most `most` sentences, none of which shares seven words in a row with any text of `without`.

    The same installation gives the same ones, in an order that mixes the packages.
    """
    kept = _unlike(_prose(), without)
    return tuple(sorted(kept, key=lambda sentence: hashlib.sha256(sentence.encode()).digest())[:most])


@cache
def _prose() -> frozenset[str]:
    return frozenset(sentence for file in _files() for sentence in _sentences(file))


def _files() -> Iterator[Path]:
    """Source files of the standard library and of what is installed beside us, without tests."""
    places = sysconfig.get_paths()
    roots = (Path(places["stdlib"]), Path(places["purelib"]))
    for root in dict.fromkeys(root.resolve() for root in roots):
        for file in sorted(root.rglob("*.py")):
            inner = file.relative_to(root).parts
            if not {"tests", "test", "testing", "site-packages", "dist-packages"} & set(inner):
                yield file


def _sentences(file: Path) -> Iterator[str]:
    try:
        source = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return  # unreadable to this process or in another encoding: there is enough without it
    for text in _DOCSTRING.findall(source):
        for paragraph in _PARAGRAPH.split(text):
            if not any(mark in paragraph for mark in _NOT_PROSE):
                yield from filter(_is_prose, _END_OF_SENTENCE.split(" ".join(paragraph.split())))


def _is_prose(sentence: str) -> bool:
    if not sentence or not sentence[0].isupper() or sentence[-1] not in ".!?":
        return False
    if not _WORDS[0] <= sentence.count(" ") + 1 <= _WORDS[1]:
        return False
    return sum(c.isalpha() or c == " " for c in sentence) >= _LETTERS * len(sentence)


def _unlike(sentences: Iterable[str], texts: Iterable[str]) -> list[str]:
    known = {shingle for text in texts for shingle in _shingles(text)}
    return [s for s in sentences if known.isdisjoint(_shingles(s))]


def _shingles(text: str) -> Iterator[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    for start in range(max(len(words) - _SHINGLE, 0) + 1):
        yield tuple(words[start : start + _SHINGLE])
