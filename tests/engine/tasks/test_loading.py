"""Variants come back from disk bit for bit, whatever was cut out of them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from engine.domain.artifact import ArtifactFormat, ModelCard
from engine.domain.deployment import Variant
from engine.domain.errors import StageError
from engine.tasks.loading import load_module, save_variant
from engine.tasks.traceable import Traceable, parameters_of
from tests import models
from tests.engine.tasks.conftest import Load
from tests.models import tiny_card

FACTORIES = [models.tiny_bert, models.tiny_bert_classifier, models.tiny_llama, models.tiny_resnet, models.tiny_vit]


def sample(module: Traceable, batch: int = 2) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(7)
    if module.inputs == ("pixel_values",):
        return (torch.randn(batch, 3, models.IMAGE_SIZE, models.IMAGE_SIZE, generator=generator),)
    ids = torch.randint(4, models.VOCABULARY, (batch, 12), generator=generator)
    mask = torch.ones_like(ids)
    mask[0, 9:] = 0
    return (ids, mask)[: len(module.inputs)]


def assert_equal_after_reload(module: Traceable, attributes: dict, like: Path, target: Path) -> Traceable:
    variant = save_variant(module, target, attributes, Variant(str(like)))
    assert variant == Variant(str(target), changed=True)
    again = load_module(variant, tiny_card(like))
    for before, after in zip(module(*sample(module)), again(*sample(module)), strict=True):
        assert torch.equal(before, after)
    assert parameters_of(again) == parameters_of(module)
    assert {n: p.shape for n, p in again.named_parameters()} == {n: p.shape for n, p in module.named_parameters()}
    return again


def keep(layer: nn.Linear, count: int, axis: int) -> None:
    """Keep the first outputs (axis 0) or inputs (axis 1) of a linear layer."""
    layer.weight = nn.Parameter(layer.weight.narrow(axis, 0, count), requires_grad=False)
    if axis == 0:
        layer.out_features = count
        if layer.bias is not None:
            layer.bias = nn.Parameter(layer.bias[:count], requires_grad=False)
    else:
        layer.in_features = count


@pytest.mark.parametrize("factory", FACTORIES)
def test_an_unchanged_model_comes_back_bit_for_bit(factory: Callable[[Path], Path], load: Load, tmp_path: Path) -> None:
    again = assert_equal_after_reload(load(factory(tmp_path / "a")), {}, tmp_path / "a", tmp_path / "b")
    assert not any(m.training for m in again.modules())
    assert all(not p.requires_grad and p.dtype is torch.float32 for p in again.parameters())


@pytest.mark.parametrize("factory", FACTORIES)
def test_exports_under_torch_export_with_the_cards_input_names(
    factory: Callable[[Path], Path], load: Load, tmp_path: Path
) -> None:
    module = load(factory(tmp_path))
    tensors = sample(module)
    program = torch.export.export(module, tensors)
    assert tuple(program.graph_signature.user_inputs) == module.inputs
    torch.testing.assert_close(program.module()(*tensors), module(*tensors))


def test_answers_as_the_hugging_face_model_does(load: Load, tmp_path: Path) -> None:
    module = load(models.tiny_bert(tmp_path))
    ids, mask = sample(module)
    expected = module.model(input_ids=ids, attention_mask=mask).last_hidden_state
    assert module.outputs == ("last_hidden_state",)
    assert torch.equal(module(ids, mask)[0], expected)


def test_ffn_and_heads_cut_out_of_a_bert(load: Load, tmp_path: Path) -> None:
    module = load(models.tiny_bert(tmp_path / "a"))
    attributes = {}
    for index, layer in enumerate(module.model.encoder.layer):
        width = 40 - 8 * index
        keep(layer.intermediate.dense, width, 0)
        keep(layer.output.dense, width, 1)
        for projection in (layer.attention.self.query, layer.attention.self.key, layer.attention.self.value):
            keep(projection, 24, 0)
        keep(layer.attention.output.dense, 24, 1)
        cut = {"num_attention_heads": 3, "all_head_size": 24}
        layer.attention.self.num_attention_heads, layer.attention.self.all_head_size = 3, 24
        attributes[f"encoder.layer.{index}.attention.self"] = cut
    again = assert_equal_after_reload(module, attributes, tmp_path / "a", tmp_path / "b")
    assert again.model.encoder.layer[1].intermediate.dense.out_features == 32
    assert again.model.encoder.layer[0].attention.self.num_attention_heads == 3


def test_a_second_stage_keeps_the_attributes_of_the_first(load: Load, tmp_path: Path) -> None:
    module = load(models.tiny_bert(tmp_path / "a"))
    first = save_variant(module, tmp_path / "b", {"encoder.layer.0": {"seq_len_dim": 1}}, Variant(str(tmp_path / "a")))
    again = load_module(first, tiny_card(tmp_path / "a"))
    second = save_variant(again, tmp_path / "c", {"encoder.layer.1": {"chunk_size_feed_forward": 4}}, first)
    assert json.loads((tmp_path / "c" / "variant.json").read_text())["attributes"] == {
        "encoder.layer.0": {"seq_len_dim": 1}, "encoder.layer.1": {"chunk_size_feed_forward": 4},
    }  # fmt: skip
    assert load_module(second, tiny_card(tmp_path / "a")).model.encoder.layer[1].chunk_size_feed_forward == 4


def test_ffn_and_head_groups_cut_out_of_a_llama_with_tied_embeddings(load: Load, tmp_path: Path) -> None:
    module = load(models.tiny_llama(tmp_path / "a"))
    for layer in module.model.model.layers:
        keep(layer.mlp.gate_proj, 48, 0)
        keep(layer.mlp.up_proj, 48, 0)
        keep(layer.mlp.down_proj, 48, 1)
        keep(layer.self_attn.q_proj, 16, 0)
        keep(layer.self_attn.k_proj, 8, 0)
        keep(layer.self_attn.v_proj, 8, 0)
        keep(layer.self_attn.o_proj, 16, 1)
    again = assert_equal_after_reload(module, {}, tmp_path / "a", tmp_path / "b")
    assert again.model.lm_head.weight is again.model.model.embed_tokens.weight


def test_channels_cut_out_of_a_resnet(load: Load, tmp_path: Path) -> None:
    module = load(models.tiny_resnet(tmp_path / "a"))
    first, second = module.model.resnet.encoder.stages[1].layers[0].layer
    keep_channels(first, 5, 0)
    keep_channels(second, 5, 1)
    again = assert_equal_after_reload(module, {}, tmp_path / "a", tmp_path / "b")
    block = again.model.resnet.encoder.stages[1].layers[0].layer
    assert (block[0].convolution.out_channels, block[1].convolution.in_channels) == (5, 5)
    assert block[0].normalization.num_features == 5


def keep_channels(layer: nn.Module, count: int, axis: int) -> None:
    convolution, norm = layer.convolution, layer.normalization
    convolution.weight = nn.Parameter(convolution.weight.narrow(axis, 0, count), requires_grad=False)
    if axis == 1:
        convolution.in_channels = count
        return
    convolution.out_channels = norm.num_features = count
    for name in ("weight", "bias"):
        setattr(norm, name, nn.Parameter(getattr(norm, name)[:count], requires_grad=False))
    for name in ("running_mean", "running_var"):
        setattr(norm, name, getattr(norm, name)[:count])


def test_masked_weights_stay_masked(load: Load, tmp_path: Path) -> None:
    module = load(models.tiny_bert(tmp_path / "a"))
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            layer.weight.mul_((layer.weight.abs() > 0.1).float())
    again = assert_equal_after_reload(module, {}, tmp_path / "a", tmp_path / "b")
    assert sum((p == 0).sum() for p in again.parameters()) > 1000


def test_a_variant_carries_its_tokenizer(load: Load, tmp_path: Path) -> None:
    save_variant(load(models.tiny_bert(tmp_path / "a")), tmp_path / "b", {}, Variant(str(tmp_path / "a")))
    kept = {path.name for path in (tmp_path / "b").iterdir()}
    assert kept == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "variant.json"}


def test_missing_weights_are_named(load: Load, tmp_path: Path) -> None:
    config = json.loads((models.tiny_bert(tmp_path) / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(StageError, match=r"weights are missing, encoder\.layer\.2\.attention"):
        load(tmp_path)


def test_a_variant_that_does_not_fit_its_config_is_refused(load: Load, tmp_path: Path) -> None:
    save_variant(load(models.tiny_bert(tmp_path / "a")), tmp_path / "b", {}, Variant(str(tmp_path / "a")))
    config = json.loads((tmp_path / "b" / "config.json").read_text())
    (tmp_path / "b" / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))
    with pytest.raises(StageError, match="one side only"):
        load_module(Variant(str(tmp_path / "b")), tiny_card(tmp_path / "a"))


@pytest.mark.parametrize("values", [{"forward": 1}, {"intermediate": "x"}, {"no_such_thing": 1}])
def test_only_plain_attributes_that_exist_are_set(values: dict, load: Load, tmp_path: Path) -> None:
    save_variant(load(models.tiny_bert(tmp_path / "a")), tmp_path / "b", {}, Variant(str(tmp_path / "a")))
    (tmp_path / "b" / "variant.json").write_text(json.dumps({"attributes": {"encoder.layer.0": values}}))
    with pytest.raises(StageError, match="does not load"):
        load_module(Variant(str(tmp_path / "b")), tiny_card(tmp_path / "a"))


def test_code_beside_a_model_is_never_run(load: Load, tmp_path: Path) -> None:
    config = json.loads((models.tiny_bert(tmp_path) / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "evil.Evil", "AutoConfig": "evil.EvilConfig"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\nclass EvilConfig: pass\n")
    assert type(load(tmp_path).model).__name__ == "BertModel"
    assert not (tmp_path / "ran").exists()


def test_the_network_is_off() -> None:
    assert os.environ["HF_HUB_OFFLINE"] == "1"


def test_what_has_no_torch_module_is_refused(load: Load, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="ONNX graph"):
        load(models.tiny_onnx(tmp_path))


def test_unknown_inputs_are_refused(tmp_path: Path) -> None:
    card = tiny_card(models.tiny_bert(tmp_path))
    odd = ModelCard(ArtifactFormat.HUGGINGFACE, card.task, card.architecture, 0, "float32", card.outputs, card.outputs)
    with pytest.raises(StageError, match="last_hidden_state cannot be called"):
        load_module(Variant(str(tmp_path)), odd)
