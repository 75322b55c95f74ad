"""The two real models, once each: MiniLM as a Hugging Face directory, SmolLM2 out of a GGUF file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.data.items import Items
from engine.data.parts import choose_parts
from engine.domain.artifact import ArtifactFormat, ModelCard, TaskId, TensorSpec
from engine.domain.deployment import Variant
from engine.domain.workload import Workload
from engine.tasks.loading import load_module, save_variant
from engine.tasks.registry import task_of
from engine.tasks.tokenizing import tokenizer_of
from tests.engine.tasks.conftest import Answers, Load
from tests.models import tiny_card


def test_minilm_tells_likely_pairs_from_unlikely_ones(minilm: Path, load: Load, answers: Answers) -> None:
    pairs = (
        ("A man is playing a guitar.", "Somebody plays the guitar."), ("A cat sleeps on the sofa.", "The stock market fell."),
        ("The train leaves at noon.", "Departure of the train is at 12."), ("She bakes bread.", "The moon orbits the earth."),
        ("How do I reset my password?", "I forgot my password, what now?"), ("It rains in Paris.", "He repairs an old clock."),
        ("Two dogs run on the beach.", "Dogs are running along the shore."), ("A new law was passed.", "Add a pinch of salt."),
    )  # fmt: skip
    items = Items(pairs=pairs, labels=np.array([5.0, 0, 5, 0, 4, 0, 5, 0]))
    card = tiny_card(minilm)
    task, module = task_of(card), load(minilm)
    batches = task.batches(card, minilm, Workload(batch_size=4, sequence_length=16), items)
    answered = answers(task, module, batches)
    assert answered["embedding"].shape == (16, 384)
    scores = {m.name: m.median for m in task.score(answered, answered, task.labels(card, minilm, items))}
    assert scores["spearman"] > 0.8
    assert scores["quality"] == pytest.approx(1)


def test_smollm2_is_dequantized_and_kept_as_a_variant(smollm2: Path, answers: Answers, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / smollm2.name).symlink_to(smollm2)
    card = ModelCard(
        ArtifactFormat.GGUF, TaskId.CAUSAL_LM, "LlamaForCausalLM", 134_515_008, "Q4_1",
        (TensorSpec("input_ids", "int64", ("batch", "sequence")),),
        (TensorSpec("logits", "float32", ("batch", "sequence", 49152)),), max_positions=8192,
    )  # fmt: skip
    module = load_module(Variant(str(tmp_path / "a")), card)
    variant = save_variant(module, tmp_path / "b", {}, Variant(str(tmp_path / "a")))
    again = load_module(variant, card)
    ids = torch.tensor([tokenizer_of(tmp_path / "b").encode("The capital of France is").ids])
    with torch.inference_mode():
        (logits,) = module(ids)
        assert torch.equal(again(ids)[0], logits)
    assert tokenizer_of(tmp_path / "b").decode([int(logits[0, -1].argmax())]) == " Paris"

    task, workload = task_of(card), Workload(batch_size=2, sequence_length=64)
    batches = task.batches(card, tmp_path / "b", workload, choose_parts(card).scored)
    scored = task.score(*[answers(task, again, batches[:1])] * 2, None)
    assert 10 < {m.name: m.median for m in scored}["perplexity"] < 150
