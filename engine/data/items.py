"""Items: real inputs that are timed, scored or calibrate."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from engine.domain.ports import Array

IMAGES = "images"
"""Key of uint8 images (items, height, width, 3) among `Items.arrays`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """One kind of content: texts, pairs of texts, or arrays whose first axis is the item.

    `labels`, one an item, are class ids (int64), class names (str) or, for pairs,
    similarity scores (float64).
    """

    texts: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()
    arrays: Mapping[str, Array] = field(default_factory=dict)
    labels: Array | None = None

    def __len__(self) -> int:
        if self.arrays:
            return len(next(iter(self.arrays.values())))
        return len(self.texts) or len(self.pairs)

    @property
    def labelled(self) -> bool:
        return self.labels is not None

    @property
    def flat_texts(self) -> tuple[str, ...]:
        """All texts; of pairs first one, then the other."""
        return self.texts or tuple(text for pair in self.pairs for text in pair)

    def take(self, indices: Sequence[int]) -> Items:
        """The items at these places, in this order."""
        places = np.asarray(indices, dtype=np.int64)
        return replace(
            self,
            texts=tuple(self.texts[i] for i in places) if self.texts else (),
            pairs=tuple(self.pairs[i] for i in places) if self.pairs else (),
            arrays={name: array[places] for name, array in self.arrays.items()},
            labels=None if self.labels is None else self.labels[places],
        )

    def fingerprints(self) -> list[frozenset[bytes]]:
        """Hashes of what each item holds (labels aside); a pair has one for each of its texts."""
        if self.arrays:
            names = sorted(self.arrays)
            return [
                frozenset([_hash(b"".join(np.ascontiguousarray(self.arrays[n][i]).tobytes() for n in names))])
                for i in range(len(self))
            ]
        groups: Sequence[tuple[str, ...]] = self.pairs or [(text,) for text in self.texts]
        return [frozenset(_hash(" ".join(text.split()).encode()) for text in group) for group in groups]


def _hash(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
