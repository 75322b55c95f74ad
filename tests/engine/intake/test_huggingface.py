from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForMaskedLM

from engine.domain.artifact import ArtifactFormat, ModelCard, TaskId
from engine.domain.codec import decode, encode
from engine.domain.deployment import Variant
from engine.intake.inspection import inspect
from engine.tasks.loading import load_module
from tests import models
from tests.engine.intake.packing import copied, edited


def test_the_real_one(minilm: Path) -> None:
    card = inspect(minilm)
    assert (card.format, card.task) == (ArtifactFormat.HUGGINGFACE, TaskId.TEXT_ENCODER)
    assert (card.architecture, card.parameters, card.dtype) == ("BertModel", 22_713_216, "float32")
    assert (card.hidden_size, card.intermediate_size, card.num_layers, card.num_heads, card.head_dim) == (
        384,
        1536,
        6,
        12,
        32,
    )
    assert (card.vocab_size, card.max_positions, card.has_tokenizer) == (30_522, 512, True)
    assert card.operators == {"Embedding": 3, "GELUActivation": 6, "LayerNorm": 13, "Linear": 37, "Tanh": 1}
    assert [(s.name, s.dtype, s.shape) for s in card.inputs] == [
        ("input_ids", "int64", ("batch", "sequence")), ("attention_mask", "int64", ("batch", "sequence")),
    ]  # fmt: skip
    assert [(s.name, s.shape) for s in card.outputs] == [("last_hidden_state", ("batch", "sequence", 384))]
    assert decode(ModelCard, encode(card)) == card


def test_reading_a_card_reads_no_weights(bert: Path, tmp_path: Path) -> None:
    """Parameters and operators come from headers alone: weights of NaN give the same card."""
    folder = copied(bert, tmp_path / "nan")
    tensors = load_file(folder / "model.safetensors")
    save_file(
        {n: torch.full_like(t, torch.nan) for n, t in tensors.items()}, folder / "model.safetensors", {"format": "pt"}
    )
    assert inspect(folder) == inspect(bert)


@pytest.mark.parametrize(("dtype", "name"), [(torch.bfloat16, "bfloat16"), (torch.float16, "float16")])
def test_number_format_of_the_weights(dtype: torch.dtype, name: str, bert: Path, tmp_path: Path) -> None:
    folder = copied(bert, tmp_path / "half")
    tensors = load_file(folder / "model.safetensors")
    save_file({n: t.to(dtype) for n, t in tensors.items()}, folder / "model.safetensors", {"format": "pt"})
    assert inspect(folder).dtype == name
    assert inspect(folder).parameters == inspect(bert).parameters


def test_shards(tmp_path: Path) -> None:
    models.tiny_llama(tmp_path / "one")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "one")
    model.save_pretrained(tmp_path / "many", max_shard_size="40KB")
    shards = list((tmp_path / "many").glob("*.safetensors"))
    assert len(shards) > 2
    one, many = inspect(tmp_path / "one"), inspect(tmp_path / "many")
    assert (many.parameters, many.operators, many.inputs) == (one.parameters, one.operators, one.inputs)


def test_head_of_a_masked_lm_is_not_counted(tmp_path: Path) -> None:
    config = BertConfig(
        vocab_size=260, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=64,
    )  # fmt: skip
    model = BertForMaskedLM(config)
    model.save_pretrained(tmp_path)
    card = inspect(tmp_path)
    assert card.task is TaskId.TEXT_ENCODER
    assert card.parameters == sum(p.numel() for p in model.bert.parameters())
    assert any("are not used for this task, cls.predictions" in note for note in card.notes)
    ids = torch.ones(1, 8, dtype=torch.int64)
    assert load_module(Variant(str(tmp_path)), card)(ids, ids)[0].shape == (1, 8, 32)


def test_image_size_comes_from_the_preprocessor(tmp_path: Path) -> None:
    card = inspect(models.tiny_resnet(tmp_path))
    assert (card.task, card.image_size, card.num_channels, card.num_labels) == (TaskId.IMAGE_CLASSIFIER, 32, 3, 10)
    assert card.inputs[0].shape == ("batch", 3, "height", "width")
    (tmp_path / "preprocessor_config.json").write_text('{"size": {"shortest_edge": 256}, "crop_size": 224}')
    assert inspect(tmp_path).image_size == 224
    (tmp_path / "preprocessor_config.json").unlink()
    assert inspect(tmp_path).image_size == 224


def test_image_size_of_a_transformer_is_fixed(tmp_path: Path) -> None:
    card = inspect(models.tiny_vit(tmp_path))
    assert card.inputs[0].shape == ("batch", 3, 32, 32)
    assert card.operators["Linear"] == 2 * 6 + 1


def test_what_a_person_should_know(bert: Path, tmp_path: Path) -> None:
    bare = copied(bert, tmp_path / "bare")
    (bare / "tokenizer.json").unlink()
    assert any("no tokenizer.json" in note for note in inspect(bare).notes)
    assert inspect(bert).notes == ()
    single = inspect(models.tiny_bert_classifier(tmp_path / "single", labels=1))
    assert single.num_labels == 1
    assert any("a single output" in note for note in single.notes)


def test_a_tokenizer_larger_than_the_model_is_told(bert: Path, tmp_path: Path) -> None:
    folder = copied(bert, tmp_path / "more")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    start = len(tokenizer["model"]["vocab"])
    tokenizer["model"]["vocab"] |= {f"word{i}": start + i for i in range(50)}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert any(re.search("tokenizer has 310 tokens and the model only 260", note) for note in inspect(folder).notes)


def test_a_config_without_architectures_is_read_by_its_type(bert: Path, tmp_path: Path) -> None:
    folder = edited(copied(bert, tmp_path / "plain"), drop="architectures")
    assert inspect(folder).task is TaskId.TEXT_ENCODER
