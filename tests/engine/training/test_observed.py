"""What a cut looks at: given texts and added sentences, never what a training would hold out; others what calibrates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.data.probes import probe_texts
from engine.domain.deployment import Deployment, Variant
from engine.domain.ports import Context, Material
from engine.domain.recipe import RuntimeId
from engine.domain.workload import Workload
from engine.training import lessons
from engine.training.lessons import lessons_for
from engine.training.observed import observed
from tests.models import tiny_bert, tiny_card, tiny_llama

TEXTS = probe_texts("calibration").texts
MATERIAL = Material(texts=TEXTS[:60])
CALIBRATION = [{"input_ids": np.ones((1, 4), np.int64), "attention_mask": np.ones((1, 4), np.int64)}]


@pytest.fixture(autouse=True)
def sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lessons, "documentation_sentences", lambda most, without: TEXTS[60:][:most])


def opened(directory: Path, material: Material | None = MATERIAL) -> tuple[Deployment, Context]:
    deployment = Deployment(tiny_card(directory), Variant(str(directory)), RuntimeId.EAGER, Workload())
    return deployment, Context(directory, CALIBRATION, lambda _: None, 1, material=material)


def test_an_encoder_sees_given_and_added_texts_but_nothing_held_out(tmp_path: Path) -> None:
    deployment, context = opened(tiny_bert(tmp_path))
    seen = {tuple(row[row > 0]) for batch in observed(deployment, context, 90) for row in batch["input_ids"]}
    taught = lessons_for(deployment.card, tmp_path, MATERIAL, batch_size=4, length=128, extra=90)
    train, held = ({tuple(row[row > 0].tolist()) for batch in part for row in batch["input_ids"]} for part in (taught.train, taught.held))
    assert seen == train
    assert not seen & held


@pytest.mark.parametrize("case", ["no sentences", "no material", "a causal LM"])
def test_others_see_what_calibrates(case: str, tmp_path: Path) -> None:
    directory = tiny_llama(tmp_path) if case == "a causal LM" else tiny_bert(tmp_path)
    deployment, context = opened(directory, None if case == "no material" else MATERIAL)
    assert observed(deployment, context, 0 if case == "no sentences" else 90) is CALIBRATION
