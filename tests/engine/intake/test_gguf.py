from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType

from engine.domain.artifact import ArtifactFormat, TaskId
from engine.domain.deployment import Variant
from engine.domain.errors import IntakeError
from engine.intake.gguf import SUPPORTED, inspect
from engine.tasks.loading import load_module
from tests.engine.intake.ggufs import tiny_gguf


@pytest.mark.parametrize("architecture", SUPPORTED)
def test_every_architecture_runs_as_its_original(architecture: str, tmp_path: Path) -> None:
    model = tiny_gguf(tmp_path / "model.gguf", architecture)
    card = inspect(tmp_path / "model.gguf")
    assert (card.format, card.task) == (ArtifactFormat.GGUF, TaskId.CAUSAL_LM)
    assert card.parameters == sum(p.numel() for p in model.parameters())
    assert (card.hidden_size, card.num_layers, card.num_heads, card.vocab_size) == (32, 2, 4, 260)
    ids = torch.arange(3, 19)[None]
    with torch.no_grad():
        (found,) = load_module(Variant(str(tmp_path)), card)(ids)
        expected = model(ids).logits
    assert torch.nn.functional.cosine_similarity(found.flatten(), expected.flatten(), dim=0) > 0.999


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q5_1", "Q8_0", "F16", "F32"])
def test_says_what_was_dequantized(kind: str, tmp_path: Path) -> None:
    tiny_gguf(tmp_path / "model.gguf", kind=GGMLQuantizationType[kind])
    card = inspect(tmp_path / "model.gguf")
    assert card.dtype == kind
    assert f"dequantized from {kind} to fp32" in card.notes[0]
    assert card.has_tokenizer
    assert card.operators["Linear"] == 2 * 7 + 1


def test_the_real_one(smollm2: Path) -> None:
    card = inspect(smollm2)
    assert (card.architecture, card.parameters, card.dtype) == ("LlamaForCausalLM", 134_515_008, "Q4_1")
    assert (card.hidden_size, card.num_layers, card.num_heads, card.num_kv_heads, card.head_dim) == (576, 30, 9, 3, 64)
    assert (card.vocab_size, card.max_positions, card.intermediate_size) == (49_152, 8192, 1536)
    assert [spec.name for spec in card.inputs] == ["input_ids"]
    assert card.outputs[0].shape == ("batch", "sequence", 49_152)


def test_truncated_anywhere_is_refused(tmp_path: Path) -> None:
    tiny_gguf(tmp_path / "model.gguf")
    content = (tmp_path / "model.gguf").read_bytes()
    cut = tmp_path / "cut.gguf"
    for length in (*range(8, 400, 40), len(content) // 2, len(content) - 40):
        cut.write_bytes(content[:length])
        with pytest.raises(IntakeError) as caught:
            inspect(cut)
        assert caught.value.mend


def test_missing_tensors_are_refused(tmp_path: Path) -> None:
    tiny_gguf(tmp_path / "model.gguf")
    reader = gguf.GGUFReader(tmp_path / "model.gguf")
    writer = gguf.GGUFWriter(tmp_path / "less.gguf", "llama")
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            kind = field.types[0]
            writer.add_key_value(
                field.name, field.contents(), kind, field.types[-1] if kind is gguf.GGUFValueType.ARRAY else None
            )
    for tensor in (t for t in reader.tensors if t.name != "blk.1.ffn_up.weight"):
        writer.add_tensor(tensor.name, np.array(tensor.data), raw_dtype=tensor.tensor_type)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    with pytest.raises(IntakeError, match="weights that its architecture needs"):
        inspect(tmp_path / "less.gguf")
