"""Photographs to pixel tensors, as the model's preprocessor_config.json says."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image

from engine.domain.ports import Array

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Cut, resize, scale, normalise. `size` is the side of what comes out, 0 where nobody tells.

    `keeps_aspect` cuts the centre in the shape of what comes out, `crop` of its side;
    without it the whole image is stretched.
    """

    size: int = 0
    keeps_aspect: bool = False
    crop: float = 1.0
    resample: int = Image.Resampling.BILINEAR
    scale: float = 1 / 255
    mean: tuple[float, ...] = _IMAGENET_MEAN
    std: tuple[float, ...] = _IMAGENET_STD

    @classmethod
    def of(cls, directory: Path) -> Self:
        """From preprocessor_config.json; ImageNet's usual numbers where it is silent or missing."""
        file = directory / "preprocessor_config.json"
        told: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        resized, cut = _side(told.get("size")), _side(told.get("crop_size")) if told.get("do_center_crop") else 0
        normal = told.get("do_normalize", True)
        return cls(
            size=cut or resized,
            keeps_aspect=bool(cut) or "shortest_edge" in str(told.get("size")),
            crop=cut / resized if cut and resized else float(told.get("crop_pct") or 1.0),
            resample=int(told.get("resample") or Image.Resampling.BILINEAR),
            scale=float(told.get("rescale_factor") or 1 / 255) if told.get("do_rescale", True) else 1.0,
            mean=tuple(told.get("image_mean") or _IMAGENET_MEAN) if normal else (0.0,),
            std=tuple(told.get("image_std") or _IMAGENET_STD) if normal else (1.0,),
        )

    def pixels(self, images: Array, height: int, width: int, channels: int) -> Array:
        """float32 (items, channels, height, width) from uint8 (items, height, width, 3)."""
        resized = np.stack([self._resized(image, height, width) for image in images]).astype(np.float32)
        if channels == 1:
            resized = resized.mean(axis=-1, keepdims=True)
        mean, std = (np.array(v[:channels] if len(v) >= channels else v, dtype=np.float32) for v in (self.mean, self.std))
        normalised: Array = (resized * np.float32(self.scale) - mean) / std
        return np.ascontiguousarray(normalised.transpose(0, 3, 1, 2))

    def _resized(self, image: Array, height: int, width: int) -> Array:
        picture = Image.fromarray(image)
        if not self.keeps_aspect:
            return np.asarray(picture.resize((width, height), Image.Resampling(self.resample)))
        # in two steps with whole pixels, as transformers does it: a cut while resizing differs by half a pixel
        edge = int(max(height, width) / min(self.crop, 1.0) + 1e-6)
        shorter = min(picture.size)
        wide, high = (int(edge * length / shorter) for length in picture.size)
        left, top = (wide - width) // 2, (high - height) // 2
        resized = picture.resize((wide, high), Image.Resampling(self.resample))
        return np.asarray(resized.crop((left, top, left + width, top + height)))


def _side(size: Any) -> int:
    """The side in pixels of whatever spelling the file uses."""
    if isinstance(size, dict):
        size = size.get("height") or size.get("shortest_edge") or size.get("longest_edge")
    return int(size or 0)
