"""Intel Neural Compressor 3.x for PyTorch. `variant`: static (PT2E on the CPU, then inductor) or rtn_int4, rtn_int8 (weights)."""

from __future__ import annotations

from pathlib import Path

import torch
import torch._inductor.config
from neural_compressor.torch.quantization import RTNConfig, convert, get_default_static_config
from neural_compressor.torch.quantization import prepare as ready
from stage import Family
from tools.eager import TorchContestant, load_model

PACKAGES = ("neural-compressor-pt", "torch", "torchao", "transformers")


def prepare(family: Family, variant: str, scratch: Path) -> TorchContestant:
    model = load_model(family)
    if variant.startswith("rtn"):
        made = convert(ready(model, RTNConfig(bits=int(variant[-1]), group_size=32)))
        return TorchContestant(made, family, model.config)
    from neural_compressor.torch.export import export

    torch._inductor.config.freezing = True  # as its examples do before they compile
    example = {name: torch.from_numpy(array) for name, array in family.timed().items()}
    exported = export(model, example_inputs=tuple(example.values()))
    prepared = ready(exported, get_default_static_config())
    with torch.no_grad():
        for batch in family.batches("calibration"):
            prepared(*(torch.from_numpy(array) for array in batch.values()))
    return TorchContestant(torch.compile(convert(prepared)), family, model.config)
