"""A run's model as a zip that works without Speedrail. Torch-free: the dashboard calls it."""

from __future__ import annotations

import json
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from engine.domain.artifact import ModelCard, TaskId
from engine.domain.codec import as_data
from engine.domain.deployment import Lowered
from engine.domain.errors import StorageError
from engine.domain.recipe import RuntimeId

_SCRIPTS = Path(__file__).parent / "download_scripts"
_TORCH = ("model_torch.py", ("torch", "transformers", "safetensors"))
_RUNTIMES: dict[RuntimeId, tuple[str, tuple[str, ...]]] = {
    RuntimeId.EAGER: _TORCH,
    RuntimeId.INDUCTOR: _TORCH,
    RuntimeId.ONNXRUNTIME: ("model_onnxruntime.py", ("onnxruntime",)),
    RuntimeId.OPENVINO: ("model_openvino.py", ("openvino",)),
}
"""Script and packages of each runtime."""


def package(lowered: Lowered, card: ModelCard, into: Path, *, artifact_name: str = "", recipe: str = "") -> Path:
    """Write `<into>/model.zip`: model files, `run_model.py`, README and pinned requirements.

    Raises StorageError when the lowered files are gone or `into` cannot be written.
    """
    source = Path(lowered.directory)
    files = sorted(p for p in source.rglob("*") if p.is_file() and not p.is_symlink())
    missing = [name for name in lowered.files if not (source / name).is_file()]
    if missing:
        raise StorageError(f"The model's {missing[0]} is gone.", mend="Run the recipe again.", where=source.name)
    target = into / "model.zip"
    if "device" in lowered.settings:
        return _placement(lowered, source, target, artifact_name=artifact_name, recipe=recipe)
    script, packages = _RUNTIMES[lowered.runtime]
    try:
        # weights hardly compress, and storing them is an order of magnitude quicker
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED, strict_timestamps=False) as archive:
            for file in files:
                archive.write(file, f"model/{file.relative_to(source)}")
            archive.write(_SCRIPTS / "run_model.py", "model/run_model.py")
            archive.write(_SCRIPTS / script, "model/model.py")
            if script == "model_torch.py":
                for layers in ("integer_layers.py", "float8_layers.py"):
                    archive.write(Path(__file__).parent / "runtimes" / layers, f"model/{layers}")
            about = _about(lowered, card, source)
            archive.writestr("model/model.json", json.dumps(about, indent=1))
            needed = (*packages, "numpy", *(("tokenizers",) if (source / "tokenizer.json").exists() else ()))
            archive.writestr("model/requirements.txt", "".join(f"{name}=={_pin(name)}\n" for name in needed))
            archive.writestr("model/README.txt", _readme(lowered, card, artifact_name, recipe))
    except OSError as error:
        target.unlink(missing_ok=True)
        raise StorageError("The download could not be written.", mend="Free some space.", detail=str(error)) from error
    return target


def _placement(lowered: Lowered, source: Path, target: Path, *, artifact_name: str, recipe: str) -> Path:
    """Of a model placed on an FPGA: its integers, how it was placed, the core as a project for other tools."""
    from engine.fpga.handing_out import project

    integers, placement = source / "integers.npz", source / "placement.json"
    try:
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED, strict_timestamps=False) as archive:
            archive.write(placement, "model/placement.json")
            if integers.is_file():
                archive.write(integers, "model/integers.npz")
                archive.writestr("model/gemm-core.zip", project(source))
            archive.writestr("model/README.txt", _PLACEMENT.format(name=artifact_name or "A model", recipe=recipe, **lowered.settings))
    except OSError as error:
        target.unlink(missing_ok=True)
        raise StorageError("The download could not be written.", mend="Free some space.", detail=str(error)) from error
    return target


_PLACEMENT = """{name}, placed on {device} by Speedrail

Recipe:  {recipe}

placement.json  the array that was chosen, each layer's cycles and time, the board's resources
integers.npz    every product's integer weights and its grids (numpy, no code): NNNN.weights is (K, columns), int4 two in a byte,
                NNNN.multiplier, NNNN.shift and NNNN.bias turn its sums into outputs
gemm-core.zip   the core in Verilog with its testbench and some of these weights, for your own simulator or vendor tool

Nothing here was measured on hardware. The licence of the model is that of the model it was made from.
"""


def _about(lowered: Lowered, card: ModelCard, source: Path) -> dict[str, Any]:
    """What `run_model.py` must know. Lower-case settings are ours, the others the runtime's own."""
    own = {name: value for name, value in lowered.settings.items() if name.islower()}
    return {
        "runtime": str(lowered.runtime),
        "task": str(card.task),
        "inputs": as_data(list(card.inputs), list[Any]),
        "outputs": as_data(list(card.outputs), list[Any]),
        "mode": own.get("mode", ""),
        "properties": {name: value for name, value in lowered.settings.items() if name not in own},
        "batch_size": int(own.get("batch_size", 1)),
        "sequence_length": int(own.get("sequence_length", min(128, card.max_positions or 128))),
        "pad_id": _pad_id(source),
    }


def _pad_id(source: Path) -> int:
    file = source / "config.json"
    found = json.loads(file.read_text(encoding="utf-8")).get("pad_token_id") if file.is_file() else 0
    return found if isinstance(found, int) and found >= 0 else 0


def _pin(package: str) -> str:
    return version(package).partition("+")[0]


def _readme(lowered: Lowered, card: ModelCard, artifact_name: str, recipe: str) -> str:
    feed = '--text "A sentence."' if card.task.takes_text else "--input inputs.npz"
    more = " --new-tokens 32" if card.task is TaskId.CAUSAL_LM else ""
    facts = "".join(f"  {name}: {value}\n" for name, value in lowered.facts.facts.items())
    remarks = "".join(f"  {remark}\n" for remark in lowered.facts.remarks)
    return (
        f"{artifact_name or card.architecture}, made by Speedrail\n\n"
        f"Recipe:       {recipe or 'baseline'}\n"
        f"Runtime:      {lowered.runtime} {_pin(_RUNTIMES[lowered.runtime][1][0])}\n"
        f"Architecture: {card.architecture} ({card.task.label}, {card.parameters:,} parameters, uploaded as {card.dtype})\n\n"
        "Run it (Python 3.11 or later):\n\n"
        "  pip install -r requirements.txt\n"
        f"  python run_model.py {feed}{more} --bench\n\n"
        f"What the files hold:\n\n{facts}{remarks}\n"
        "The licence of the model is that of the model it was made from.\n"
    )
