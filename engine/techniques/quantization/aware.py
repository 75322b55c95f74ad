"""Quantization-aware training: the weights learn to be rounded before the runtime rounds them.

torchao puts the rounding of weights and activations into the linear layers (gradients pass
through it unchanged, Bengio et al. 2013), the student is the model itself, and its
teacher is the model in full precision. What is written is full precision again, so that
every runtime quantizes it as it would any other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torchao.quantization import quantize_
from torchao.quantization.qat import IntxFakeQuantizeConfig, QATConfig
from torchao.quantization.quant_primitives import ZeroPointDomain

from engine.domain.deployment import Deployment, Variant
from engine.domain.errors import StageError
from engine.domain.ports import Context
from engine.tasks.loading import load_module, save_variant
from engine.techniques.quantization.spec import Format, Mode, QuantizationConfig
from engine.training.distil import Course, Taught, distil

GROUP = 32
"""Weights of four bits that share a scale where the recipe does not say."""


def train_aware(deployment: Deployment, config: QuantizationConfig, context: Context) -> tuple[Variant, Taught]:
    """A variant in `context.scratch` whose weights bear rounding, and what its training did.

    Raises StageError when no layer fits the group size, or as `distil` does.
    """
    module = load_module(deployment.variant, deployment.card)
    course = Course(minutes=config.minutes, steps=config.steps, sentences=config.sentences)
    with _rounding(module.model, config) as count:
        taught = distil(module, deployment, context, course, title="Quantization-aware training", start=0.1)
    taught.facts["layers_trained_rounded"] = count
    return save_variant(module, context.scratch, {}, deployment.variant), taught


@contextmanager
def _rounding(model: Any, config: QuantizationConfig) -> Iterator[int]:
    """While open, `model`'s linear layers round as they will have to; how many. A causal LM's head stays: runtimes keep it finer."""
    group = (config.group_size or GROUP) if config.format is Format.INT4 else 1
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    fitting = {name for name, m in model.named_modules() if isinstance(m, nn.Linear) and m is not head and m.in_features % group == 0}
    if not fitting:
        raise StageError(f"No linear layer has inputs that groups of {group} fill.", mend="Choose another group_size, or qat=false.")
    quantize_(model, QATConfig(activation_config=_activations(config), weight_config=_weights(config)), lambda _, name: name in fitting)
    try:
        yield len(fitting)
    finally:
        quantize_(model, QATConfig(step="convert"))


def _weights(config: QuantizationConfig) -> IntxFakeQuantizeConfig:
    if config.format is Format.INT8:
        return IntxFakeQuantizeConfig(torch.int8, "per_channel", is_symmetric=True)
    # torchao finds a group's zero point as a number of its own domain, and with its defaults would cut it off to an integer
    return IntxFakeQuantizeConfig(
        torch.int4, group_size=config.group_size or GROUP, is_symmetric=False,  # type: ignore[attr-defined]
        zero_point_domain=ZeroPointDomain.FLOAT, zero_point_precision=torch.float32,
    )  # fmt: skip


def _activations(config: QuantizationConfig) -> IntxFakeQuantizeConfig | None:
    return None if config.mode is Mode.WEIGHT_ONLY else IntxFakeQuantizeConfig(torch.int8, "per_token", is_symmetric=False)
