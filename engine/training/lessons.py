"""Batches to learn from: texts of like length and words at random, packed sequences for causal LMs, images slightly moved.

The batches are formed once and keep their members, so that a teacher answers each of
them once. Nothing here ever sees an item that is scored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from engine.data.corpus import documentation_sentences
from engine.data.items import IMAGES
from engine.domain.artifact import ModelCard, TaskId
from engine.domain.errors import StageError
from engine.domain.ports import Array, Material
from engine.domain.workload import Workload
from engine.tasks.base import fitted
from engine.tasks.image_classifier import image_shape
from engine.tasks.images import Preprocessing
from engine.tasks.tokenizing import pad_id, stream, tokenizer_of
from engine.training.objectives import Inputs
from engine.training.wordlists import with_random_words, words_of

LEAST_ITEMS = 16
"""Below this a part held out says nothing."""
MOST_HELD = 256
VIEWS = 8
"""Of each image: itself, and moved by up to an eighth of its side."""
LEFT = 3
"""One of so many added sentences stays as it is; the others become random words (measured: benchmarks/README.md)."""
GIVEN = 3
"""One of so many texts is a given one where only some are drawn: theirs is the kind that counts."""
NO_LABEL = -100
_LENGTH = 128


@dataclass(frozen=True, slots=True)
class Lessons:
    """`train` and `held` are batches of input tensors by name; `sources` says what they were made of."""

    train: tuple[Inputs, ...]
    held: tuple[Inputs, ...]
    sources: dict[str, int]


def lessons_for(
    card: ModelCard, directory: Path, material: Material, *, batch_size: int, length: int, extra: int, image_size: int = 0, most: int = 0
) -> Lessons:
    """Everything a student of this model learns from, in batches of at most `batch_size`.

    directory: has the tokenizer or preprocessor. length: most tokens of a text. extra:
    most sentences added from the documentation of installed packages (texts only). most: texts
    of an encoder or classifier that are drawn to train on, a third of them given ones, which
    repeat where they are fewer; 0: all, once. What is held out depends on neither `length` nor `most`.
    Raises StageError when there is too little, or it is not of the model's shape.
    """
    if card.task is TaskId.CAUSAL_LM:
        return _of_stream(card, directory, material, batch_size, length, extra)
    if card.task.takes_text:
        return _of_texts(card, directory, material, batch_size, length, extra, most)
    return _of_images(card, directory, material, batch_size, image_size)


def _texts(material: Material, extra: int) -> tuple[tuple[str, ...], dict[str, int]]:
    added = documentation_sentences(extra, (*material.scored_texts, *material.texts)) if extra else ()
    sources = {"training_items": len(material.texts), "training_sentences_added": len(added)}
    return (*material.texts, *added), sources


def _of_stream(
    card: ModelCard, directory: Path, material: Material, batch_size: int, length: int, extra: int
) -> Lessons:
    texts, sources = _texts(material, extra)
    _, ids = stream(directory, texts)
    length = _within(card, length)
    rows = ids[: len(ids) // length * length].reshape(-1, length)
    _demand(len(rows), f"sequences of {length} tokens")
    whole = np.ones_like(rows)
    positions = np.broadcast_to(np.arange(length), rows.shape)
    inputs = {"input_ids": rows, "attention_mask": whole, "position_ids": positions}

    def batch(places: Array) -> Inputs:
        chosen = fitted(card, {name: array[places] for name, array in inputs.items()})
        return _tensors(chosen) | {"input_ids": _tensor(rows[places]), "mask": _tensor(whole[places])}

    return _lessons(_parts(len(rows)), batch_size, batch, sources)


def _of_texts(
    card: ModelCard, directory: Path, material: Material, batch_size: int, length: int, extra: int, most: int
) -> Lessons:
    texts, sources = _texts(material, extra)
    _demand(len(texts), "texts")
    tokenizer = tokenizer_of(directory)
    tokenizer.enable_truncation(_within(card, length))
    rows = tokenizer.encode_batch(list(texts))
    ids = [np.array(row.ids) for row in rows]
    train, held = _parts(len(rows))
    given, added = train[train < len(material.texts)], train[train >= len(material.texts)]
    if most:
        given, added = np.resize(given, most // GIVEN), added[: most - most // GIVEN]
    words, rng = words_of(tokenizer), np.random.default_rng(0)
    strange = np.delete(added, slice(None, None, LEFT)) if len(words) else added[:0]
    for i in strange:
        ids[i] = with_random_words(rows[i], words, rng)
    padding = pad_id(directory, tokenizer)
    labels = np.full(len(rows), NO_LABEL)
    if material.labels is not None and card.task is TaskId.TEXT_CLASSIFIER:
        labels[: len(material.labels)] = material.labels

    def batch(places: Array) -> Inputs:
        longest = max(len(ids[i]) for i in places)
        tokens = np.full((len(places), longest), padding)
        mask, kinds = np.zeros_like(tokens), np.zeros_like(tokens)
        for row, i in enumerate(places):
            count = len(ids[i])
            tokens[row, :count], mask[row, :count], kinds[row, :count] = ids[i], 1, rows[i].type_ids
        chosen = fitted(card, {"input_ids": tokens, "attention_mask": mask, "token_type_ids": kinds})
        return _tensors(chosen) | {"mask": _tensor(mask), "labels": _tensor(labels[places])}

    sources |= {"training_sentences_of_random_words": len(strange)}
    parts = [part[np.argsort([len(ids[i]) for i in part], kind="stable")] for part in (np.concatenate((given, added)), held)]
    return _lessons(parts, batch_size, batch, sources)


def _of_images(card: ModelCard, directory: Path, material: Material, batch_size: int, image_size: int) -> Lessons:
    name = card.inputs[0].name
    if IMAGES in material.arrays:
        pixels = _pixels(card, directory, material.arrays[IMAGES], image_size)
    elif name in material.arrays:
        pixels = material.arrays[name]
    else:
        raise StageError("There are no images to train on.", mend=f"Give an .npz with `images` or {name}.")
    _demand(len(pixels), "images")
    fitted(card, {name: pixels[:1]})
    labels = np.full(len(pixels), NO_LABEL) if material.labels is None else material.labels
    most = max(pixels.shape[-1] // 8, 1)
    moves = np.random.default_rng(0).integers(-most, most + 1, (VIEWS, 2))
    moves[0] = 0

    def batch(places: Array) -> Inputs:
        views = [_moved(pixels[place // VIEWS], moves[place % VIEWS]) for place in places]
        return {name: _tensor(np.stack(views)), "labels": _tensor(labels[places // VIEWS])}

    parts = _parts(len(pixels), VIEWS)
    sources = {"training_items": len(pixels), "training_views": VIEWS, "held_out": len(parts[1]) // VIEWS}
    return _lessons(parts, batch_size, batch, sources)


def _parts(groups: int, together: int = 1) -> list[Array]:
    """Places of what is trained on and, drawn at random, of what is held out (a twentieth, at least eight groups).

    The `together` items of a group never part.
    """
    order = np.random.default_rng(0).permutation(groups)
    held = min(max(groups // 20, 8), MOST_HELD, groups // 2)
    return [(order[some][:, None] * together + np.arange(together)).ravel() for some in (slice(held, None), slice(held))]


def _lessons(parts: Sequence[Array], batch_size: int, batch: Callable[[Array], Inputs], sources: dict[str, int]) -> Lessons:
    train, held = (tuple(batch(part[start : start + batch_size]) for start in range(0, len(part), batch_size)) for part in parts)
    return Lessons(train, held, {"held_out": len(parts[1])} | sources)


def _pixels(card: ModelCard, directory: Path, images: Array, image_size: int) -> Array:
    preprocessing = Preprocessing.of(directory)
    channels, height, width = image_shape(card, card.inputs[0], Workload(image_size=image_size), preprocessing.size)
    return preprocessing.pixels(images, height, width, channels)


def _moved(image: Array, move: Array) -> Array:
    """Shifted by (down, right) pixels, the edge repeated into what comes free."""
    most = int(np.abs(move).max())
    if not most:
        return image
    padded = np.pad(image, ((0, 0), (most, most), (most, most)), mode="edge")
    top, left = most - move
    return padded[:, top : top + image.shape[1], left : left + image.shape[2]]


def text_length(card: ModelCard, workload: Workload) -> int:
    """Most tokens of a text that is learnt from."""
    return max(min(_LENGTH, workload.sequence_length), 16) if card.task is not TaskId.CAUSAL_LM else _LENGTH


def _within(card: ModelCard, length: int) -> int:
    return min(length, card.max_positions) if card.max_positions else length


def _demand(count: int, what: str) -> None:
    if count < LEAST_ITEMS:
        raise StageError(
            f"Only {count} {what} to train on.",
            mend=f"Give calibration data with at least {LEAST_ITEMS}; some thousands train well.",
        )


def _tensors(arrays: dict[str, Array]) -> Inputs:
    return {name: _tensor(array) for name, array in arrays.items()}


def _tensor(array: Array) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))
