"""Headers of safetensors files: what is in them, without reading a weight."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors

from engine.domain.errors import IntakeError
from engine.intake.hostile import reading
from engine.intake.sniff import kind_of, refuse_unusable

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
_SAVE_AGAIN = "Save the model again with save_pretrained and upload the new files."
_REASONS = {
    "not fully covered": "it is truncated, or something was added at its end",
    "header length": "it is cut off within its header",
    "header too small": "it is cut off within its header",
    "header too large": "it does not begin with a safetensors header",
    "offset for tensor `": "its tensors overlap or leave gaps",
    "invalid shape": "a tensor's size does not fit its shape",
    "overflow": "a tensor is absurdly large",
    "header": "its header is not readable",
}
"""What the library says to what a person is told."""


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """Shape and number format (safetensors' own word: `F32`, `BF16`, `I64`) of a tensor."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def is_float(self) -> bool:
        return self.dtype in _FLOATS


_FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def read_headers(home: Path) -> dict[str, TensorHeader]:
    """Every tensor of `model.safetensors`, or of the shards its index names. Raises IntakeError."""
    if (home / WEIGHTS).exists():
        tensors = _headers_of(home / WEIGHTS)
    else:
        tensors = {}
        for shard in shards_of(home):
            tensors |= _headers_of(home / shard)
        _check_index(home, tensors)
    if not tensors:
        raise IntakeError("The file holds no tensors.", mend=_SAVE_AGAIN, where=WEIGHTS)
    return tensors


def shards_of(home: Path) -> list[str]:
    """Names of the weight files that the index lists, all of them there. Raises IntakeError."""
    names = sorted(set(_weight_map(home).values()))
    for name in names:
        if "/" in name or "\\" in name or not name.endswith(".safetensors"):
            raise IntakeError(
                f"The index names {name!r}, which is no .safetensors file beside it.", mend=_SAVE_AGAIN, where=INDEX
            )
        if not (home / name).is_file():
            raise IntakeError(
                f"The index names {name}, and that file is missing.",
                mend="Upload all shards of the model together with the index.",
                where=INDEX,
            )
    return names


def dtype_of(tensors: dict[str, TensorHeader]) -> str:
    """Number format of most weights: `float32`, `bfloat16` …"""
    totals: dict[str, int] = {}
    for tensor in tensors.values():
        if tensor.is_float:
            totals[tensor.dtype] = totals.get(tensor.dtype, 0) + tensor.elements
    return _FLOATS[max(totals, key=lambda name: totals[name])] if totals else "unknown"


def _headers_of(file: Path) -> dict[str, TensorHeader]:
    refuse_unusable(file, kind_of(file), file.name)
    try:
        with (
            reading("This is not a safetensors file.", mend=_SAVE_AGAIN, where=file.name),
            safetensors.safe_open(file, framework="numpy") as opened,
        ):
            tensors = {name: _header(opened.get_slice(name)) for name in opened.keys()}  # noqa: SIM118
    except IntakeError as error:
        raise _explained(error, file) from error
    for name, tensor in tensors.items():
        if tensor.elements == 0:
            raise IntakeError(
                f"The tensor {name} has the shape {list(tensor.shape)}: it holds no data.",
                mend=f"A conversion went wrong. {_SAVE_AGAIN}",
                where=file.name,
            )
    return tensors


def _header(piece: Any) -> TensorHeader:
    return TensorHeader(tuple(piece.get_shape()), str(piece.get_dtype()))


def _explained(error: IntakeError, file: Path) -> IntakeError:
    for word, reason in _REASONS.items():
        if word in error.detail:
            mend = f"Upload it again; if it stays, the file is damaged at its source. {_SAVE_AGAIN}"
            return IntakeError(
                f"This is not a usable safetensors file: {reason}.", mend=mend, where=file.name, detail=error.detail
            )
    return error


def _weight_map(home: Path) -> dict[str, str]:
    with reading("The index is not valid JSON.", mend=_SAVE_AGAIN, where=INDEX):
        index = json.loads((home / INDEX).read_text(encoding="utf-8"))
    found = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(found, dict) or not found or not all(isinstance(v, str) for v in found.values()):
        raise IntakeError("The index has no weight_map.", mend=_SAVE_AGAIN, where=INDEX)
    return found


def _check_index(home: Path, tensors: dict[str, TensorHeader]) -> None:
    lost = sorted(set(_weight_map(home)) - set(tensors))
    if lost:
        raise IntakeError(
            f"The index names {len(lost)} tensors that are in no shard, {lost[0]} first.",
            mend="The shards belong to different models or are damaged. " + _SAVE_AGAIN,
            where=INDEX,
        )
