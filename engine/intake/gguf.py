"""GGUF files: read by gguf's own reader, run with their weights dequantized."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import gguf

from engine.domain.artifact import ArtifactFormat, ModelCard, TaskId
from engine.domain.errors import IntakeError
from engine.intake.cards import signature, sizes_of
from engine.intake.hostile import reading

_AGAIN = "Download and upload it again; a download that broke off is the usual cause."
SUPPORTED = (
    "falcon", "gemma2", "gemma3", "gpt2", "llama", "nemotron", "phi3", "qwen2", "qwen3", "stablelm", "starcoder2",
)  # fmt: skip
"""Those that transformers can dequantize and the tests have tried."""


def inspect(file: Path) -> ModelCard:
    """The card of a GGUF file with a causal LM. Raises IntakeError."""
    with reading("This is not a usable GGUF file, or it is truncated.", mend=_AGAIN, where=file.name):
        reader = gguf.GGUFReader(file)
        architecture = _text(reader, "general.architecture")
        _refuse_parts(reader)
        tensors = _tensors(reader, file)
    if architecture not in SUPPORTED:
        raise IntakeError(
            f"The GGUF architecture {architecture or '(none)'} is not supported.",
            mend=f"Supported are {', '.join(SUPPORTED)}. Upload the original Hugging Face folder of other models.",
            where=file.name,
        )
    elements = sum(int(t.n_elements) for t in tensors)
    kind = _block_format(tensors)

    from engine.intake.skeleton import blank, operators_of, read_config

    config = read_config(file.parent, gguf_file=file.name)
    model = blank(config, TaskId.CAUSAL_LM)
    _refuse_incomplete(file, elements, sum(p.numel() for p in model.parameters()))
    sizes = sizes_of(config, TaskId.CAUSAL_LM)
    inputs, outputs = signature(TaskId.CAUSAL_LM, sizes)
    return ModelCard(
        ArtifactFormat.GGUF, TaskId.CAUSAL_LM, type(model).__name__, elements, kind, inputs, outputs,
        operators=operators_of(model), has_tokenizer="tokenizer.ggml.tokens" in reader.fields,
        notes=(f"Weights are dequantized from {kind} to fp32: the baseline is the dequantized model.",), **sizes,
    )  # fmt: skip


def _text(reader: Any, key: str) -> str:
    field = reader.fields.get(key)
    value = field.contents() if field is not None else ""
    return value if isinstance(value, str) else ""


def _refuse_parts(reader: Any) -> None:
    field = reader.fields.get("split.count")
    count = int(field.contents()) if field is not None else 0
    if count > 1:
        raise IntakeError(
            f"This is one of {count} parts of a GGUF model.",
            mend="Merge them first: llama-gguf-split --merge FIRST_PART OUT.gguf.",
        )


def _tensors(reader: Any, file: Path) -> list[Any]:
    tensors = list(reader.tensors)
    if not tensors:
        raise IntakeError("The file holds no tensors.", mend=_AGAIN, where=file.name)
    for tensor in tensors:
        if int(tensor.n_elements) == 0:
            raise IntakeError(
                f"The tensor {tensor.name} holds no data.", mend="Convert the model again.", where=file.name
            )
    if sum(int(t.n_bytes) for t in tensors) > file.stat().st_size:
        raise IntakeError("Tensors of the file overlap.", mend="Convert the model again.", where=file.name)
    for kind, tensor in {t.tensor_type: t for t in tensors}.items():
        try:
            gguf.quants.dequantize(tensor.data[:1], kind)
        except NotImplementedError as error:
            raise IntakeError(
                f"Weights in {kind.name} cannot be dequantized.",
                mend="Upload the model in another GGUF format (Q4_K_M, Q8_0, F16), or the original folder.",
                where=file.name,
            ) from error
    return tensors


def _block_format(tensors: list[Any]) -> str:
    totals: Counter[str] = Counter()
    for tensor in tensors:
        totals[tensor.tensor_type.name] += int(tensor.n_elements)
    return totals.most_common(1)[0][0]


def _refuse_incomplete(file: Path, elements: int, expected: int) -> None:
    if elements < expected:
        raise IntakeError(
            f"The file holds {elements:,} of the {expected:,} weights that its architecture needs.",
            mend="Convert the model again, or upload the original Hugging Face folder.",
            where=file.name,
        )
