"""Which files of an upload are the model, and under which names they are kept.

Only these are stored, so that the same model is the same artifact whatever lay
beside it or however it was packed:

    huggingface   config.json, model.safetensors or its index and shards, tokenizer and processor files
    gguf          model.gguf
    onnx          model.onnx, its external data, tokenizer and processor files
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.domain.artifact import ArtifactFormat
from engine.domain.errors import IntakeError
from engine.intake.config import CONFIG
from engine.intake.onnx_graph import external_files, load
from engine.intake.safetensors import INDEX, WEIGHTS, shards_of
from engine.intake.sniff import CONVERT, PICKLE, TAKEN, Kind, kind_of, refuse_unusable

_COMPANION = re.compile(
    r"^(\d+_\w+/config\.json"  # sentence-transformers' modules
    r"|[^/]+\.(json|txt|model|spm|bpe|vocab|jinja)"
    r"|(README|LICEN[CS]E|NOTICE)[^/]*)$"
)
_FOREIGN_WEIGHTS = re.compile(r"\.(bin|pt|pth|pkl|ckpt|h5|msgpack|pb|tflite|mlmodel|npz|ot|params)$")
_FOREIGN_INDEX = re.compile(r"\.(bin|h5|msgpack)\.index\.json$")


@dataclass(frozen=True, slots=True)
class Selection:
    """`files`: the name a file is kept under to where it lies now."""

    format: ArtifactFormat
    files: Mapping[str, Path]


def arrange(unpacked: Path, into: Path) -> tuple[str, ...]:
    """Move the model's files from `unpacked` to `into`; what a person should know of the rest. Raises IntakeError."""
    selection = select(unpacked)
    kept = {path.resolve() for path in selection.files.values()}
    notes = _notes_on(f for f in _files(unpacked) if f.resolve() not in kept)
    for name, source in selection.files.items():
        target = into / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(source, target)
    return notes


def select(folder: Path) -> Selection:
    """Find the one model in `folder`. Raises IntakeError when there is none, several or an unusable one."""
    files = _files(folder)
    if len(files) == 1:
        refuse_unusable(files[0], kind_of(files[0]), files[0].name)
    _refuse_adapters(folder)
    homes = _huggingface_homes(folder, files)
    if homes:
        return _huggingface(_only(homes, folder, "Hugging Face folders"))
    onnx = [f for f in files if f.suffix.lower() == ".onnx"]
    if onnx:
        return _onnx(_only(onnx, folder, "ONNX models"), folder)
    gguf = [f for f in files if f.suffix.lower() == ".gguf" or (len(files) == 1 and kind_of(f) is Kind.GGUF)]
    if gguf:
        return _gguf(_only(gguf, folder, "GGUF files"))
    raise _no_model(folder, files)


def _huggingface_homes(folder: Path, files: list[Path]) -> list[Path]:
    """Folders with config.json and safetensors; the top one alone if it is one."""
    homes = sorted({f.parent for f in files if f.name.endswith(".safetensors") or f.name == INDEX})
    homes = [home for home in homes if (home / CONFIG).is_file()]
    return [folder] if folder in homes else homes


def _huggingface(home: Path) -> Selection:
    weights = sorted(home.glob("*.safetensors"))
    if (home / WEIGHTS).exists():
        chosen = {WEIGHTS: home / WEIGHTS}
    elif (home / INDEX).exists():
        chosen = {INDEX: home / INDEX, **{name: home / name for name in shards_of(home)}}
    elif len(weights) == 1:
        chosen = {WEIGHTS: weights[0]}
    else:
        raise IntakeError(
            f"There are {len(weights)} .safetensors files and no {INDEX} that says which tensor lies where.",
            mend=f"Add {INDEX}, or save the model again with save_pretrained.",
        )
    return Selection(ArtifactFormat.HUGGINGFACE, {**_companions(home), **chosen})


def _onnx(model: Path, folder: Path) -> Selection:
    refuse_unusable(model, kind_of(model), model.name)
    data = {name: model.parent / name for name in external_files(load(model), model.parent)}
    companions = _companions(model.parent) or _companions(folder)
    return Selection(ArtifactFormat.ONNX, {**companions, **data, "model.onnx": model})


def _gguf(model: Path) -> Selection:
    refuse_unusable(model, kind_of(model), model.name)
    return Selection(ArtifactFormat.GGUF, {"model.gguf": model})


def _companions(home: Path) -> dict[str, Path]:
    names = {f.relative_to(home).as_posix(): f for f in _files(home)}
    return {n: f for n, f in names.items() if _COMPANION.match(n) and not _FOREIGN_INDEX.search(n) and n != INDEX}


def _refuse_adapters(folder: Path) -> None:
    if (folder / "adapter_config.json").exists() and not (folder / CONFIG).exists():
        raise IntakeError(
            "This is an adapter (LoRA), not a whole model.",
            mend="Merge it into its base model (merge_and_unload of peft), save that with save_pretrained and upload it.",
        )


def _no_model(folder: Path, files: list[Path]) -> IntakeError:
    for file in sorted(files):
        kind = kind_of(file)
        if kind is Kind.PICKLE or (_FOREIGN_WEIGHTS.search(file.name) and (folder / CONFIG).exists()):
            return IntakeError(
                f"The only weights are in a form that is not opened here. {PICKLE if kind is Kind.PICKLE else ''}".strip(),
                mend=CONVERT, where=file.name,
            )  # fmt: skip
    if any(f.suffix == ".safetensors" for f in files):
        return IntakeError(
            "There are weights but no config.json beside them, so the architecture is unknown.",
            mend="Upload the whole Hugging Face folder as a zip or tar: config.json, weights and tokenizer.json.",
        )
    if (folder / CONFIG).exists():
        return IntakeError(
            "There is a config.json but no weights.",
            mend="Add model.safetensors (or its shards and index) to the upload.",
        )
    return IntakeError("This is not a model in a format that Speedrail reads.", mend=TAKEN, where=_some(files, folder))


def _only(found: list[Path], folder: Path, title: str) -> Path:
    if len(found) > 1:
        raise IntakeError(
            f"The upload holds {len(found)} {title}: {_some(found, folder)}.", mend="Upload one model at a time."
        )
    return found[0]


def _notes_on(left: Iterable[Path]) -> tuple[str, ...]:
    names = sorted({f.name for f in left})
    code = [n for n in names if n.endswith((".py", ".pyc"))]
    weights = [n for n in names if _FOREIGN_WEIGHTS.search(n)]
    notes = []
    if code:
        notes.append(f"Python files were left out, no code of an upload is ever run: {', '.join(code[:5])}.")
    if weights:
        notes.append(f"Weights in other forms were left out: {', '.join(weights[:5])}.")
    return tuple(notes)


def _files(folder: Path) -> list[Path]:
    return sorted(f for f in folder.rglob("*") if f.is_file())


def _some(files: list[Path], folder: Path) -> str:
    names = [f.relative_to(folder).as_posix() for f in files]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
