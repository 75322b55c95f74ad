"""Built-in inputs: real text and photographs that ship with Speedrail (see probes/NOTICE.md).

Never random numbers. What is scored and what calibrates come from different books,
chapters and photographs.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from engine.data.items import IMAGES, Items
from engine.domain.ports import Array

SCORED = "scored"
CALIBRATION = "calibration"

_FOLDER = Path(__file__).parent / "probes"
_SIDE = 224
_CROPS = {SCORED: 32, CALIBRATION: 26}
"""Crops of each photograph: 8 × 32 are scored, 5 × 26 calibrate."""


@cache
def probe_texts(part: str) -> Items:
    """English prose and technical text, an item of one to three sentences."""
    return Items(texts=tuple((_FOLDER / f"{part}.txt").read_text(encoding="utf-8").splitlines()))


@cache
def probe_images(part: str) -> Items:
    """Square crops of photographs at several scales, uint8 (items, 224, 224, 3), the photographs taking turns."""
    photographs = sorted((_FOLDER / part).glob("*.jpg"))
    turns = zip(*(_crops(photograph, _CROPS[part]) for photograph in photographs), strict=True)
    return Items(arrays={IMAGES: np.stack([crop for turn in turns for crop in turn])})


def _crops(path: Path, count: int) -> list[Array]:
    """`count` squares: first the largest there is, then finer grids of overlapping ones."""
    with Image.open(path) as opened:
        photograph = opened.convert("RGB")
    side = min(photograph.size)
    crops: list[Array] = []
    for steps in (1, 2, 3, 4, 5):
        edge = round(side * 2 / (steps + 1))
        places = [np.linspace(0, length - edge, steps).round() for length in photograph.size]
        for top in places[1]:
            for left in places[0]:
                box = (int(left), int(top), int(left) + edge, int(top) + edge)
                crops.append(np.asarray(photograph.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC, box=box)))
    return crops[:count]
