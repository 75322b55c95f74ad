"""Who is scored and who calibrates: two parts that never share content."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.data.items import IMAGES, Items
from engine.data.probes import CALIBRATION, SCORED, probe_images, probe_texts
from engine.domain.artifact import ModelCard, TaskId
from engine.domain.errors import InvalidInput

MOST_CALIBRATION = 128


@dataclass(frozen=True, slots=True)
class Parts:
    """`scored` is what quality and latency are measured on, `calibration` what stages may look at."""

    scored: Items
    calibration: Items


def choose_parts(card: ModelCard, dataset: Items | None = None, calibration: Items | None = None) -> Parts:
    """What a run of this model uses: the user's items, else the built-in ones.

    A dataset alone is split; a dataset beside a calibration set keeps all its items, and
    what they share is dropped from the calibration. Raises InvalidInput when the items
    are not what the model takes or when nothing is left to calibrate with.
    """
    for given in (dataset, calibration):
        if given is not None:
            _check_kind(card, given)
    if dataset is not None and calibration is None:
        return split(dataset)
    return without_overlap(dataset or _probes(card, SCORED), calibration or _probes(card, CALIBRATION))


def split(items: Items) -> Parts:
    """Every k-th item calibrates, a quarter and at most 128; equal items stay on one side."""
    count = max(1, min(len(items) // 4, MOST_CALIBRATION))
    chosen = np.linspace(0, len(items) - 1, count).round().astype(int)
    prints = items.fingerprints()
    held = frozenset[bytes]().union(*(prints[i] for i in chosen))
    scored = [i for i, found in enumerate(prints) if not found & held]
    if not scored:
        raise InvalidInput(
            "All items are the same, so none is left to score.", mend="Give different items, or a calibration set of its own."
        )
    return Parts(items.take(scored), items.take([int(i) for i in chosen]))


def without_overlap(scored: Items, calibration: Items) -> Parts:
    """Drop from the calibration whatever is scored. Raises InvalidInput when nothing remains."""
    held = frozenset[bytes]().union(*scored.fingerprints())
    kept = [i for i, found in enumerate(calibration.fingerprints()) if not found & held]
    if not kept:
        raise InvalidInput(
            "Every calibration item is also scored.",
            mend="Give a calibration set of other items, or leave it out and the dataset is split.",
        )
    return Parts(scored, calibration.take(kept))


def _probes(card: ModelCard, part: str) -> Items:
    return probe_texts(part) if card.task.takes_text else probe_images(part)


def _check_kind(card: ModelCard, items: Items) -> None:
    if card.task.takes_text and not items.flat_texts:
        raise InvalidInput(f"A {card.task.label} needs texts.", mend="Give a .txt, .csv or .jsonl dataset.")
    if not card.task.takes_text and not items.arrays:
        raise InvalidInput(f"{card.task.label} needs arrays.", mend="Give an .npz dataset.")
    if items.pairs and card.task is not TaskId.TEXT_ENCODER:
        raise InvalidInput("Pairs with scores are for text encoders.", mend="Give the columns text and label.")
    names = {spec.name for spec in card.inputs}
    if items.arrays and IMAGES not in items.arrays and not names <= items.arrays.keys():
        missing = ", ".join(sorted(names - items.arrays.keys()))
        raise InvalidInput(f"The NPZ lacks {missing}.", mend="Name its arrays as the model's inputs, or give `images`.")
