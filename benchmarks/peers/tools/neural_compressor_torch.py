"""Intel Neural Compressor 3.x for PyTorch. `variant`: static (PT2E on the CPU, then inductor) or rtn_int4, rtn_int8 (weights)."""

from __future__ import annotations

from pathlib import Path

import torch
from neural_compressor.torch.quantization import RTNConfig, StaticQuantConfig, convert
from neural_compressor.torch.quantization import prepare as ready
from stage import Family
from tools.eager import TorchContestant, load_model


def prepare(family: Family, variant: str, scratch: Path) -> TorchContestant:
    model = load_model(family)
    if variant.startswith("rtn"):
        made = convert(ready(model, RTNConfig(bits=int(variant[-1]), group_size=32)))
        return TorchContestant(made, family, model.config)
    from neural_compressor.torch.export import export

    example = {name: torch.from_numpy(array) for name, array in family.timed().items()}
    exported = export(model, example_inputs=tuple(example.values()))
    prepared = ready(exported, StaticQuantConfig())
    for batch in family.batches("calibration")[:16]:
        prepared(*(torch.from_numpy(array) for array in batch.values()))
    return TorchContestant(torch.compile(convert(prepared)), family, model.config)
