"""Words of free text and the queries made of them."""

from __future__ import annotations

import sqlite3

from hypothesis import given
from hypothesis import strategies as st

from storage.words import document, fts5_query, phrases, tsquery, words


def test_words_are_letters_and_digits() -> None:
    assert words("Pruning(sparsity=0.3)+quantization_int8@openvino") == [
        "pruning", "sparsity", "0", "3", "quantization", "int8", "openvino",
    ]  # fmt: skip
    assert words("Größe naïve ÉTÉ") == ["grosse", "naive", "ete"]
    assert phrases("sparsity=0.3  == mini") == [["sparsity", "0", "3"], ["mini"]]


def test_queries_ask_for_phrases_with_an_open_end() -> None:
    assert fts5_query("sparsity=0.3 mini") == '"sparsity 0 3" * AND "mini" *'
    assert tsquery("sparsity=0.3 mini") == "(sparsity <-> 0 <-> 3:*) & (mini:*)"
    assert fts5_query(" == ") == tsquery("") == ""


@given(st.text(st.characters(max_codepoint=0x24F), max_size=30))
def test_any_latin_text_is_found_by_itself(text: str) -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE VIRTUAL TABLE t USING fts5(x, tokenize='unicode61')")
    connection.execute("INSERT INTO t VALUES (?)", [document(text)])
    if query := fts5_query(text):
        assert connection.execute("SELECT count(*) FROM t WHERE t MATCH ?", [query]).fetchone() == (1,)
    connection.close()
