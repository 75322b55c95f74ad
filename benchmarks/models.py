"""Models that benchmarks and tests train themselves, on real labelled images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from transformers import ResNetConfig, ResNetForImageClassification

from engine.data.items import IMAGES
from engine.tasks.images import Preprocessing

TRAINED_ON = 700
CALIBRATED_ON = 200
BATCH = 50


@dataclass(frozen=True, slots=True)
class TrainedClassifier:
    """`model` is a Hugging Face directory; `test` and `calibration` are labelled NPZ
    datasets it has not seen; `accuracy` is on `test`."""

    model: Path
    test: Path
    calibration: Path
    accuracy: float


def resnet18_digits(
    directory: Path,
    *,
    channels: Sequence[int] = (64, 128, 256, 512),
    blocks: int = 2,
    image_size: int = 64,
    epochs: int = 3,
) -> TrainedClassifier:
    """ResNet-18 (by default) trained on 700 of scikit-learn's 1,797 handwritten digits.

    Deterministic for a given torch build and number of threads. About two minutes on one
    core at 64 px; few images and epochs keep the accuracy below 100 %.
    """
    images, labels = _digits()
    model = untrained_resnet(directory / "model", channels=channels, blocks=blocks, image_size=image_size)
    pixels = torch.from_numpy(Preprocessing.of(directory / "model").pixels(images, image_size, image_size, 3))
    targets = torch.from_numpy(labels)
    _train(model, pixels[:TRAINED_ON], targets[:TRAINED_ON], epochs)
    model.save_pretrained(directory / "model")
    unseen = TRAINED_ON + CALIBRATED_ON
    np.savez(directory / "calibration.npz", images=images[TRAINED_ON:unseen], labels=labels[TRAINED_ON:unseen])
    np.savez(directory / "test.npz", **{IMAGES: images[unseen:], "labels": labels[unseen:]})
    accuracy = _accuracy(model, pixels[unseen:], targets[unseen:])
    return TrainedClassifier(directory / "model", directory / "test.npz", directory / "calibration.npz", accuracy)


def untrained_resnet(
    directory: Path, *, channels: Sequence[int] = (64, 128, 256, 512), blocks: int = 2, image_size: int = 64
) -> ResNetForImageClassification:
    """ResNet-18 (by default) for ten classes as `resnet18_digits` begins with it, its preprocessor written to `directory`."""
    torch.manual_seed(0)
    model = ResNetForImageClassification(
        ResNetConfig(
            num_channels=3, embedding_size=channels[0], hidden_sizes=list(channels), depths=[blocks] * len(channels),
            layer_type="basic", num_labels=10,
        )
    )  # fmt: skip
    _save_preprocessor(directory, image_size)
    return model


def _digits() -> tuple[np.ndarray, np.ndarray]:
    """uint8 (1797, 8, 8, 3) and int64 labels, in a fixed random order."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.images))
    grey = np.round(digits.images[order] * (255 / 16)).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1), digits.target[order].astype(np.int64)


def _train(model: nn.Module, pixels: Tensor, targets: Tensor, epochs: int) -> None:
    model.train()
    steps = epochs * (len(pixels) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
    generator = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        for rows in torch.randperm(len(pixels), generator=generator).split(BATCH):
            loss = nn.functional.cross_entropy(model(pixel_values=pixels[rows]).logits, targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    model.eval()


@torch.inference_mode()
def _accuracy(model: nn.Module, pixels: Tensor, targets: Tensor) -> float:
    right = [
        (model(pixel_values=p).logits.argmax(1) == t).sum()
        for p, t in zip(pixels.split(BATCH), targets.split(BATCH), strict=True)
    ]
    return float(sum(right)) / len(targets)


def _save_preprocessor(directory: Path, side: int) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    settings = {
        "do_resize": True, "size": {"height": side, "width": side}, "do_rescale": True, "rescale_factor": 1 / 255,
        "do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "image_processor_type": "ViTImageProcessor",
    }  # fmt: skip
    (directory / "preprocessor_config.json").write_text(json.dumps(settings))
