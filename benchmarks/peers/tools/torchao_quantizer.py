"""torchao with torch.compile, as its README shows. `variant`: int8_dynamic, int8_weights."""

from __future__ import annotations

from pathlib import Path

import torch
from stage import Family
from tools.eager import TorchContestant, load_model
from torchao.quantization import Int8DynamicActivationInt8WeightConfig, Int8WeightOnlyConfig, quantize_

PACKAGES = ("torchao", "torch", "transformers")

CONFIGS = {"int8_dynamic": Int8DynamicActivationInt8WeightConfig, "int8_weights": Int8WeightOnlyConfig}


def prepare(family: Family, variant: str, scratch: Path) -> TorchContestant:
    model = load_model(family)
    quantize_(model, CONFIGS[variant]())
    return TorchContestant(torch.compile(model, options={"freezing": True}), family, model.config)
