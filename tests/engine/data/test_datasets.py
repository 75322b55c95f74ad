"""Every format is read, and every bad line is named."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.data.datasets import LEAST_ITEMS, parse_dataset
from engine.domain.errors import InvalidInput

LINES = [f"line {i}" for i in range(LEAST_ITEMS)]
WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=30).filter(str.strip)


def written(directory: Path, name: str, content: str | bytes) -> Path:
    path = directory / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def test_a_text_a_line(tmp_path: Path) -> None:
    items = parse_dataset(written(tmp_path, "a.txt", "\ufeff" + "\r\n\n".join(f"  {line} " for line in LINES)))
    assert items.texts == tuple(LINES)
    assert not items.labelled


@given(rows=st.lists(st.tuples(WORDS, st.integers(-9, 9)), min_size=LEAST_ITEMS, max_size=20))
def test_csv_with_labels_is_read_as_written(rows: list[tuple[str, int]], tmp_path_factory: pytest.TempPathFactory) -> None:
    buffer = io.StringIO()
    csv.writer(buffer).writerows([("label", "text"), *((label, text) for text, label in rows)])
    items = parse_dataset(written(tmp_path_factory.mktemp("csv"), "a.csv", buffer.getvalue()))
    assert items.texts == tuple(text.strip() for text, _ in rows)
    assert items.labels is not None and items.labels.tolist() == [label for _, label in rows]


@given(rows=st.lists(st.tuples(WORDS, WORDS, st.floats(-5, 5)), min_size=LEAST_ITEMS, max_size=20))
def test_jsonl_pairs_are_read_as_written(
    rows: list[tuple[str, str, float]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    lines = [json.dumps({"text_a": a, "text_b": b, "score": s}, ensure_ascii=True) for a, b, s in rows]
    items = parse_dataset(written(tmp_path_factory.mktemp("jsonl"), "a.jsonl", "\n".join(lines)))
    assert items.pairs == tuple((a.strip(), b.strip()) for a, b, _ in rows)
    assert items.flat_texts[:2] == items.pairs[0]
    assert items.labels is not None
    np.testing.assert_array_equal(items.labels, [s for _, _, s in rows])


def test_class_names_stay_names(tmp_path: Path) -> None:
    rows = "\n".join(json.dumps({"text": line, "label": "good" if i else 1}) for i, line in enumerate(LINES))
    items = parse_dataset(written(tmp_path, "a.jsonl", rows))
    assert items.labels is not None and items.labels.tolist() == ["1", *["good"] * (len(LINES) - 1)]


def test_texts_may_hold_quotes_commas_and_line_breaks(tmp_path: Path) -> None:
    rows = "".join(f'"{line}, she said ""no""\nand left"\n' for line in LINES)
    assert parse_dataset(written(tmp_path, "a.csv", "text\n" + rows)).texts[0] == 'line 0, she said "no"\nand left'


def test_arrays_by_name(tmp_path: Path) -> None:
    x = np.arange(LEAST_ITEMS * 3.0).reshape(-1, 3)
    items = parse_dataset(written(tmp_path, "a.npz", npz(x=x, mask=x > 1, labels=np.arange(LEAST_ITEMS, dtype=np.uint8))))
    np.testing.assert_array_equal(items.arrays["x"], x)
    assert items.labels is not None and items.labels.dtype == np.int64
    assert len(items) == LEAST_ITEMS


@pytest.mark.parametrize(
    "images",
    [
        np.full((9, 5, 4), 200, np.uint8), np.full((9, 5, 4, 1), 200, np.uint8), np.full((9, 5, 4, 3), 200, np.uint8),
        np.full((9, 3, 5, 4), 200, np.uint8), np.full((9, 5, 4), 200 / 255, np.float32),
    ],
)  # fmt: skip
def test_images_become_colour_bytes(images: np.ndarray, tmp_path: Path) -> None:
    read = parse_dataset(written(tmp_path, "a.npz", npz(images=images))).arrays["images"]
    assert read.shape == (9, 5, 4, 3) and read.dtype == np.uint8
    assert (read == 200).all()


BAD = {
    "no ending": ("dataset", "x", "not a dataset format"),
    "unknown ending": ("a.parquet", "x", r"\.parquet is not a dataset format"),
    "empty": ("a.txt", " \n", "is empty"),
    "too few": ("a.txt", "one\ntwo", "Only 2 items"),
    "not utf-8": ("a.txt", b"caf\xe9\n" * 9, r"Not UTF-8 text \(byte 3\)"),
    "binary": ("a.txt", b"ab\0cd", "not a text file"),
    "wrong columns": ("a.csv", "sentence,class\na,1", "The columns are sentence, class"),
    "pair without score": ("a.csv", "text_a,text_b\na,b", "The columns are text_a, text_b"),
    "csv row too short": ("a.csv", "text,label\na,1\nb\n", r"a\.csv, line 3: label is missing"),
    "csv empty text": ("a.csv", 'text\na\n""\n', r"a\.csv, line 3: text is missing"),
    "csv quotes": ("a.csv", 'text\na\n"b" c\n', "Not CSV"),
    "score": ("a.csv", "text_a,text_b,score\na,b,high\n", r"line 2: score 'high' is not a number"),
    "score nan": ("a.csv", "text_a,text_b,score\na,b,nan\n", "score 'nan' is not a number"),
    "not json": ("a.jsonl", '{"text": "a"}\n{"text": }', r"a\.jsonl, line 2: Not JSON"),
    "deep json": ("a.jsonl", "[" * 100_000, "Not JSON"),
    "json array": ("a.jsonl", '["a"]', "Not a JSON object"),
    "json text is a list": ("a.jsonl", '{"text": ["a"]}', "line 1: text is missing"),
    "json null": ("a.jsonl", '{"text": "a"}\n{"text": null}', "line 2: text is missing"),
    "npz is not a zip": ("a.npz", b"x" * 100, "Not an NPZ"),
    "npz truncated": ("a.npz", npz(x=np.zeros(9))[:-30], "Not an NPZ"),
    "npz of objects": ("a.npz", npz(x=np.array([{}] * 9, dtype=object)), "Not an NPZ"),
    "npz of text": ("a.npz", npz(x=np.array(["a"] * 9)), "x is empty or not numeric"),
    "npz nan": ("a.npz", npz(x=np.full(9, np.nan)), "x holds NaN"),
    "npz scalar": ("a.npz", npz(x=np.array(3)), "x is empty or not numeric"),
    "npz only labels": ("a.npz", npz(labels=np.zeros(9, int)), "No arrays but labels"),
    "npz lengths": ("a.npz", npz(x=np.zeros(9), labels=np.zeros(8, int)), "x 9, labels 8"),
    "npz float labels": ("a.npz", npz(x=np.zeros(9), labels=np.zeros(9)), "labels is not a vector"),
    "image shape": ("a.npz", npz(images=np.zeros((9, 5, 5, 7), np.uint8)), r"images has shape \(9, 5, 5, 7\)"),
    "image range": ("a.npz", npz(images=np.full((9, 5, 5), 16.0)), "images is float64 from 16 to 16"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_refused_with_the_place(case: str, tmp_path: Path) -> None:
    name, content, message = BAD[case]
    with pytest.raises(InvalidInput, match=message) as caught:
        parse_dataset(written(tmp_path, name, content))
    assert caught.value.where.startswith(name)


def test_a_bomb_of_arrays_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.data.datasets.MOST_BYTES", 1000)
    with pytest.raises(InvalidInput, match="at most 4 GiB"):
        parse_dataset(written(tmp_path, "a.npz", npz(x=np.zeros(1000))))
