"""Datasets a user gives, checked line by line. Nothing in them is ever executed.

    .txt            a text a line
    .csv, .jsonl    `text` and optional `label`; or `text_a`, `text_b`, `score`
    .npz            arrays named as the model's inputs, or `images`; optional `labels`
"""

from __future__ import annotations

import csv
import io
import json
import math
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from engine.data.items import IMAGES, Items
from engine.domain.errors import InvalidInput
from engine.domain.ports import Array

LEAST_ITEMS = 8
"""Below this no interval means anything."""

MOST_BYTES = 4 * 2**30
"""Of an NPZ's arrays in memory."""

_PAIR_COLUMNS = ("text_a", "text_b", "score")

Rows = Iterator[tuple[int, Mapping[str, Any]]]


def parse_dataset(path: Path) -> Items:
    """What the file holds. Raises InvalidInput naming the file and the bad line."""
    readers = {".txt": _read_lines, ".csv": _read_csv, ".jsonl": _read_jsonl, ".npz": _read_npz}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InvalidInput(
            f"{path.suffix or 'A file without an ending'} is not a dataset format.",
            mend=f"Give one of: {', '.join(readers)}.", where=path.name,
        )  # fmt: skip
    items = reader(path)
    if len(items) < LEAST_ITEMS:
        raise InvalidInput(
            f"Only {len(items)} items.", mend=f"Give at least {LEAST_ITEMS}; 256 make a good interval.", where=path.name
        )
    return items


def _read_lines(path: Path) -> Items:
    return Items(texts=tuple(line.strip() for line in _text_of(path).splitlines() if line.strip()))


def _read_csv(path: Path) -> Items:
    csv.field_size_limit(16 * 2**20)
    reader = csv.DictReader(io.StringIO(_text_of(path), newline=""), strict=True, skipinitialspace=True)
    try:
        columns = [name.strip() for name in reader.fieldnames or ()]
        reader.fieldnames = columns
        return _from_rows(columns, ((reader.line_num, row) for row in reader), path)
    except csv.Error as error:
        raise InvalidInput(f"Not CSV: {error}.", where=f"{path.name}, line {reader.line_num}") from error


def _read_jsonl(path: Path) -> Items:
    rows: list[tuple[int, Mapping[str, Any]]] = []
    for number, line in enumerate(_text_of(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InvalidInput(f"Not JSON: {error}.", where=f"{path.name}, line {number}") from error
        if not isinstance(row, dict):
            raise InvalidInput(
                "Not a JSON object.", mend='Write for example {"text": "…", "label": 1}.', where=f"{path.name}, line {number}"
            )
        rows.append((number, row))
    return _from_rows(list(rows[0][1]) if rows else [], iter(rows), path)


def _from_rows(columns: list[str], rows: Rows, path: Path) -> Items:
    if all(name in columns for name in _PAIR_COLUMNS):
        return _pairs_of(rows, path)
    if "text" not in columns:
        raise InvalidInput(
            f"The columns are {', '.join(columns) or 'none'}.",
            mend="Name them text and optionally label, or text_a, text_b and score.", where=path.name,
        )  # fmt: skip
    texts, labels = [], []
    for number, row in rows:
        texts.append(_word(row, "text", path, number))
        if "label" in columns:
            labels.append(_word(row, "label", path, number))
    return Items(texts=tuple(texts), labels=_classes(labels) if labels else None)


def _pairs_of(rows: Rows, path: Path) -> Items:
    pairs, scores = [], []
    for number, row in rows:
        pairs.append((_word(row, "text_a", path, number), _word(row, "text_b", path, number)))
        spelled = _word(row, "score", path, number)
        try:
            score = float(spelled)
        except ValueError:
            score = math.nan
        if not math.isfinite(score):
            raise InvalidInput(f"score {spelled!r} is not a number.", where=f"{path.name}, line {number}")
        scores.append(score)
    return Items(pairs=tuple(pairs), labels=np.array(scores))


def _word(row: Mapping[str, Any], name: str, path: Path, number: int) -> str:
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, (str, int, float)) or not str(value).strip():
        raise InvalidInput(
            f"{name} is missing or empty.", mend="Every row needs every column; quote texts that hold commas.",
            where=f"{path.name}, line {number}",
        )  # fmt: skip
    return str(value).strip()


def _classes(labels: list[str]) -> Array:
    """Class ids where every label is a whole number, else names."""
    try:
        return np.array([int(label) for label in labels], dtype=np.int64)
    except (ValueError, OverflowError):
        return np.array(labels)


def _text_of(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"Not UTF-8 text (byte {error.start}).", mend="Save it as UTF-8.", where=path.name
        ) from error
    if not text.strip():
        raise InvalidInput("The file is empty.", mend="Give a text a line.", where=path.name)
    if "\0" in text:
        raise InvalidInput("This is not a text file.", mend="Give .txt, .csv, .jsonl or .npz.", where=path.name)
    return text


def _read_npz(path: Path) -> Items:
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > MOST_BYTES:
            raise InvalidInput(f"{size / 2**30:.1f} GiB of arrays.", mend="Give at most 4 GiB.", where=path.name)
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (zipfile.BadZipFile, ValueError, OSError, EOFError, KeyError, NotImplementedError) as error:
        raise InvalidInput(
            "Not an NPZ of plain arrays.", mend="Write it with numpy.savez, without objects.", where=path.name, detail=str(error)
        ) from error
    labels = arrays.pop("labels", None)
    return _checked_arrays(arrays, labels, path)


def _checked_arrays(arrays: dict[str, Array], labels: Array | None, path: Path) -> Items:
    if not arrays:
        raise InvalidInput("No arrays but labels.", mend="Add `images` or arrays named as the model's inputs.", where=path.name)
    for name, array in arrays.items():
        if array.ndim < 1 or array.dtype.kind not in "fiub" or array.size == 0:
            raise InvalidInput(f"{name} is empty or not numeric.", where=path.name)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InvalidInput(f"{name} holds NaN or infinity.", where=path.name)
    counts = {name: len(array) for name, array in arrays.items()}
    if labels is not None:
        if labels.ndim != 1 or labels.dtype.kind not in "iuU":
            raise InvalidInput("labels is not a vector of class ids or names.", where=path.name)
        counts["labels"] = len(labels)
        labels = labels if labels.dtype.kind == "U" else labels.astype(np.int64)
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise InvalidInput(f"The arrays differ in length: {told}.", where=path.name)
    if IMAGES in arrays:
        arrays = {IMAGES: _as_images(arrays[IMAGES], path)}
    return Items(arrays=arrays, labels=labels)


def _as_images(images: Array, path: Path) -> Array:
    """uint8 (items, height, width, 3), from grey or colour, bytes or floats in [0, 1]."""
    if images.ndim == 4 and images.shape[-1] not in (1, 3) and images.shape[1] in (1, 3):
        images = images.transpose(0, 2, 3, 1)
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise InvalidInput(
            f"images has shape {images.shape}.", mend="Give (items, height, width) or (items, height, width, 3).", where=path.name
        )
    if images.dtype.kind == "f" and images.min() >= 0 and images.max() <= 1:
        images = np.round(images * 255).astype(np.uint8)
    if images.dtype != np.uint8:
        raise InvalidInput(
            f"images is {images.dtype} from {images.min():g} to {images.max():g}.",
            mend="Give uint8 from 0 to 255, or floats from 0 to 1.", where=path.name,
        )  # fmt: skip
    return np.repeat(images, 3 // images.shape[-1], axis=-1)
