"""Sentences of installed documentation: prose, the same every time, and never what is scored."""

from __future__ import annotations

from engine.data.corpus import documentation_sentences


def test_real_sentences_without_what_is_known() -> None:
    found = documentation_sentences(10**6)
    assert len(found) > 20_000
    assert all(8 <= len(s.split()) <= 45 and s[0].isupper() for s in found)
    known = next(s for s in found if len(s.split()) > 12)
    words = known.split()
    quoted = "he said: " + " ".join(words[2:11]) + " and left"
    kept = documentation_sentences(10**6, [quoted])
    assert known not in kept
    assert set(kept) < set(found)
    assert documentation_sentences(100, [quoted]) == kept[:100]
