"""Pruning of each family: the facts are those of the file, and the file opens to what was pruned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from engine.domain.artifact import ModelCard, TaskId, TensorSpec
from engine.domain.deployment import Applied, Deployment, Variant
from engine.domain.errors import NothingChanged, StageError
from engine.domain.experiment import LOSS_CURVE, SENSITIVITY
from engine.domain.ports import Batch, Context, Material
from engine.domain.recipe import RuntimeId
from engine.domain.technique import Situation
from engine.domain.workload import Workload
from engine.executors.torch_local import EagerExecutor
from engine.host import this_host
from engine.surgery.sizes import kept_size
from engine.tasks.loading import load_module, save_variant
from engine.tasks.traceable import Traceable, parameters_of
from engine.techniques.pruning.apply import STILL_DENSE, TWO_OF_FOUR, Pruning
from engine.techniques.pruning.cutting import least_everywhere
from engine.techniques.pruning.sensitivity import Scan
from engine.techniques.pruning.spec import PruningConfig, leaves
from tests.models import IMAGE_SIZE, VOCABULARY, tiny_bert, tiny_card, tiny_llama, tiny_resnet, tiny_vit


def tiny_gpt2(directory: Path) -> Path:
    torch.manual_seed(6)
    config = GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=64, initializer_range=0.2)
    GPT2LMHeadModel(config).save_pretrained(directory)
    return directory


MAKERS: dict[str, Callable[[Path], Path]] = {
    "bert": tiny_bert, "llama": tiny_llama, "gpt2": tiny_gpt2, "vit": tiny_vit, "resnet": tiny_resnet,
}  # fmt: skip
TRANSFORMERS = ["bert", "llama", "gpt2", "vit"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: make(tmp_path_factory.mktemp(name)) for name, make in MAKERS.items()}


def card_of(directory: Path) -> ModelCard:
    card = tiny_card(directory)
    if card.architecture != "GPT2LMHeadModel":
        return card
    ids = TensorSpec("input_ids", "int64", ("batch", "sequence"))
    logits = TensorSpec("logits", "float32", ("batch", "sequence", "vocabulary"))
    return replace(card, task=TaskId.CAUSAL_LM, inputs=(ids,), outputs=(logits,))


def left(directory: Path, **knobs: Any) -> ModelCard:
    """What the spec says beforehand. The card of a tiny GPT-2 knows no sizes."""
    card = card_of(directory)
    card = card if card.num_heads else replace(card, num_layers=2, num_heads=4, intermediate_size=128)
    return leaves(PruningConfig.of(knobs), Situation(card, RuntimeId.EAGER, this_host()))


def batch_of(card: ModelCard, seed: int) -> Batch:
    rng = np.random.default_rng(seed)
    if card.task is TaskId.IMAGE_CLASSIFIER:
        return {"pixel_values": rng.normal(size=(2, 3, IMAGE_SIZE, IMAGE_SIZE)).astype(np.float32)}
    ids = rng.integers(4, VOCABULARY, (2, 12))
    mask = np.ones_like(ids)
    mask[0, 8:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def prune(directory: Path, scratch: Path, material: Material | None = None, **knobs: Any) -> tuple[Applied, Traceable]:
    """The applied stage, and its variant opened again."""
    card = card_of(directory)
    scratch.mkdir(exist_ok=True)
    context = Context(scratch, [batch_of(card, seed) for seed in range(4)], lambda _: None, threads=1, material=material)
    deployment = Deployment(card, Variant(str(directory)), RuntimeId.EAGER, Workload())
    applied = Pruning().apply(deployment, PruningConfig.of(knobs), context)
    return applied, load_module(applied.deployment.variant, card)


def stored_parameters(directory: str, names: set[str]) -> int:
    with safe_open(Path(directory) / "model.safetensors", "pt") as stored:
        return sum(prod(stored.get_slice(name).get_shape()) for name in names)


@pytest.mark.parametrize("importance", ["activation", "magnitude"])
@pytest.mark.parametrize("family", MAKERS)
def test_structured_removes_parameters_as_the_facts_say(
    family: str, importance: str, tiny: dict[str, Path], tmp_path: Path
) -> None:
    card = card_of(tiny[family])
    original = load_module(Variant(str(tiny[family])), card)
    applied, pruned = prune(tiny[family], tmp_path, importance=importance)
    facts = applied.facts.facts
    assert facts["parameters_before"] == parameters_of(original)
    assert facts["parameters_after"] == parameters_of(pruned) < parameters_of(original)
    names = {name for name, _ in pruned.model.named_parameters()}
    assert facts["parameters_after"] == stored_parameters(applied.deployment.variant.directory, names)
    assert facts["macs_after"] < facts["macs_before"]
    batch = batch_of(card, 9)
    tensors = [torch.from_numpy(batch[name]) for name in pruned.inputs]
    after, before = pruned(*tensors)[0], original(*tensors)[0]
    assert after.shape == before.shape
    assert torch.isfinite(after).all()
    assert not torch.allclose(after, before)


@pytest.mark.parametrize("family", TRANSFORMERS)
def test_feed_forward_width_shrinks(family: str, tiny: dict[str, Path], tmp_path: Path) -> None:
    applied, pruned = prune(tiny[family], tmp_path, sparsity=0.5)
    before, after = applied.facts.facts["ffn_width_before"], applied.facts.facts["ffn_width_after"]
    assert after == int(before) // 2
    assert left(tiny[family], sparsity=0.5).intermediate_size == after
    assert applied.facts.facts["heads_after"] == applied.facts.facts["heads_before"]
    widths = {p.shape[0] for n, p in pruned.model.named_parameters() if n.endswith(("intermediate.dense.bias", "fc1.bias", "c_fc.bias", "up_proj.weight"))}
    assert widths == {after}


@pytest.mark.parametrize(("family", "heads"), [("bert", 3), ("llama", 2), ("gpt2", 3), ("vit", 3)])
def test_whole_heads_go(family: str, heads: int, tiny: dict[str, Path], tmp_path: Path) -> None:
    applied, pruned = prune(tiny[family], tmp_path, target="heads", sparsity=0.25)
    assert applied.facts.facts["heads_before"] == 4
    assert applied.facts.facts["heads_after"] == heads
    assert left(tiny[family], target="heads", sparsity=0.25).num_heads == heads
    assert applied.facts.facts["ffn_width_after"] == applied.facts.facts["ffn_width_before"]
    batch = batch_of(card_of(tiny[family]), 9)
    assert torch.isfinite(pruned(*[torch.from_numpy(batch[name]) for name in pruned.inputs])[0]).all()


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("target", ["ffn", "heads"])
def test_a_pruned_causal_lm_generates_as_it_computes(family: str, target: str, tiny: dict[str, Path], tmp_path: Path) -> None:
    _, pruned = prune(tiny[family], tmp_path, target=target, sparsity=0.25)
    ids = torch.arange(5, 13)[None]
    generated = torch.from_numpy(EagerExecutor(pruned).generate(ids.numpy(), 4).tokens)
    whole = pruned(torch.cat([ids, generated[:, :-1]], dim=1))[0].argmax(-1)
    assert torch.equal(generated[0], whole[0, 7:])


def test_removing_what_never_fires_changes_nothing_else(tiny: dict[str, Path], tmp_path: Path) -> None:
    """Neurons that are constant are chosen first, and the bias takes their part over: outputs stay equal."""
    card = card_of(tiny["bert"])
    module = load_module(Variant(str(tiny["bert"])), card)
    for layer in module.model.encoder.layer:  # type: ignore[union-attr]
        layer.intermediate.dense.weight.data[16:48] = 0
        layer.intermediate.dense.bias.data[16:48] = 0.7
    changed = save_variant(module, tmp_path / "constant", {}, Variant(str(tiny["bert"])))
    context = Context(tmp_path, [batch_of(card, s) for s in range(3)], lambda _: None, threads=1)
    deployment = Deployment(card, changed, RuntimeId.EAGER, Workload())
    applied = Pruning().apply(deployment, PruningConfig.of({"sparsity": 0.5}), context)
    pruned = load_module(applied.deployment.variant, card)
    batch = batch_of(card, 9)
    tensors = [torch.from_numpy(batch[name]) for name in pruned.inputs]
    torch.testing.assert_close(pruned(*tensors)[0], module(*tensors)[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("importance", ["activation", "magnitude"])
@pytest.mark.parametrize("family", MAKERS)
def test_masks_zero_the_share_asked_for_and_say_no_speedup(
    family: str, importance: str, tiny: dict[str, Path], tmp_path: Path
) -> None:
    applied, pruned = prune(tiny[family], tmp_path, kind="unstructured", sparsity=0.5, importance=importance)
    facts = applied.facts.facts
    assert facts["parameters_after"] == facts["parameters_before"]
    assert facts["macs_after"] == facts["macs_before"]
    assert applied.facts.remarks == (STILL_DENSE,)
    masked = [p for n, p in pruned.model.named_parameters() if n.endswith(("query.weight", "fc1.weight", "c_fc.weight", "q_proj.weight", "convolution.weight"))]
    shares = [float((p == 0).float().mean()) for p in masked]
    assert shares
    assert all(abs(share - 0.5) < 0.03 for share in shares)
    zeros = sum(int((p == 0).sum()) for p in pruned.model.parameters())
    assert facts["zero_share_after"] == pytest.approx(zeros / parameters_of(pruned), abs=1e-5)


@pytest.mark.parametrize("importance", ["activation", "magnitude"])
def test_two_of_every_four_inputs_go(importance: str, tiny: dict[str, Path], tmp_path: Path) -> None:
    applied, pruned = prune(tiny["bert"], tmp_path, kind="semi_structured", sparsity=0.5, importance=importance)
    assert applied.facts.remarks == (TWO_OF_FOUR,)
    layers = [m.weight for m in pruned.model.modules() if type(m) is nn.Linear]
    assert len(layers) == 12
    assert all((weight.reshape(-1, 4).count_nonzero(1) <= 2).all() for weight in layers)


def test_what_is_passed_in_stays_usable(tiny: dict[str, Path], tmp_path: Path) -> None:
    before = {p.name: p.read_bytes() for p in tiny["bert"].iterdir() if p.is_file()}
    applied, _ = prune(tiny["bert"], tmp_path)
    assert {p.name: p.read_bytes() for p in tiny["bert"].iterdir() if p.is_file()} == before
    assert applied.deployment.variant.directory != str(tiny["bert"])


def test_a_cnn_has_no_heads(tiny: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(StageError, match="no heads"):
        prune(tiny["resnet"], tmp_path, target="heads")


def test_masking_again_by_less_changes_nothing(tiny: dict[str, Path], tmp_path: Path) -> None:
    applied, _ = prune(tiny["bert"], tmp_path / "a", kind="unstructured", sparsity=0.5, importance="magnitude")
    with pytest.raises(NothingChanged, match="No weight became zero"):
        prune(Path(applied.deployment.variant.directory), tmp_path / "b", kind="unstructured", importance="magnitude")


@pytest.mark.parametrize(("size", "sparsity", "kept"), [(1536, 0.3, 1072), (64, 0.5, 32), (64, 0.01, 56), (10, 0.3, 7), (1, 0.5, 1)])
def test_kept_sizes_are_tiles(size: int, sparsity: float, kept: int) -> None:
    assert kept_size(size, sparsity) == kept


@pytest.mark.parametrize("family", TRANSFORMERS)
def test_whole_layers_go(family: str, tiny: dict[str, Path], tmp_path: Path) -> None:
    applied, pruned = prune(tiny[family], tmp_path, target="layers", sparsity=0.5)
    assert (applied.facts.facts["layers_before"], applied.facts.facts["layers_after"]) == (2, 1)
    assert left(tiny[family], target="layers", sparsity=0.5).num_layers == 1
    batch = batch_of(card_of(tiny[family]), 9)
    assert torch.isfinite(pruned(*[torch.from_numpy(batch[name]) for name in pruned.inputs])[0]).all()


@pytest.mark.parametrize("target", ["ffn", "heads"])
@pytest.mark.parametrize("ratios", ["global", "sensitivity"])
@pytest.mark.parametrize("family", ["bert", "llama", "vit"])
def test_layers_may_lose_unequal_shares(family: str, ratios: str, target: str, tiny: dict[str, Path], tmp_path: Path) -> None:
    applied, pruned = prune(tiny[family], tmp_path, target=target, ratios=ratios, sparsity=0.3, importance="taylor")
    assert applied.facts.facts["parameters_after"] == parameters_of(pruned) < int(applied.facts.facts["parameters_before"])
    scans = [each.data for each in applied.facts.attachments if each.kind == SENSITIVITY]
    assert len(scans) == (ratios == "sensitivity")
    for scan in scans:
        assert len(scan["places"]) == len(scan["damage"]) == len(scan["proposed"]) == 2
        assert sum(scan["proposed"]) / 2 == pytest.approx(0.3, abs=0.01)


def test_units_that_are_equally_unimportant_go_one_by_one() -> None:
    scores = {path: torch.tensor([1.0, 2.0]) for path in "ab"}
    assert least_everywhere(scores, 0.3) == {"a": 0.5, "b": 0.0}
    assert least_everywhere(scores, 0.5) == {"a": 0.5, "b": 0.5}


def test_the_proposal_spares_what_suffers() -> None:
    scan = Scan("1 − cosine", {"a": (0.01, 0.02, 0.03), "b": (0.3, 0.6, 0.9)})
    assert scan.proposal(0.4) == {"a": pytest.approx(0.8), "b": pytest.approx(0.0)}
    assert scan.proposal(0.5)["a"] == pytest.approx(0.9)


@pytest.mark.parametrize("importance", ["taylor", "activation"])
def test_taylor_and_activation_find_the_neurons_that_do_nothing(importance: str, tiny: dict[str, Path], tmp_path: Path) -> None:
    """Neurons whose output nobody reads go first, and the answer stays as it was."""
    card = card_of(tiny["llama"])
    module = load_module(Variant(str(tiny["llama"])), card)
    for layer in module.model.model.layers:  # type: ignore[union-attr]
        layer.mlp.down_proj.weight.data[:, ::2] = 0
    unread = save_variant(module, tmp_path / "unread", {}, Variant(str(tiny["llama"])))
    applied, pruned = prune(Path(unread.directory), tmp_path / "out", sparsity=0.5, importance=importance)
    assert applied.facts.facts["ffn_width_after"] == 32
    ids = torch.from_numpy(batch_of(card, 9)["input_ids"])
    torch.testing.assert_close(pruned(ids)[0], module(ids)[0], atol=1e-3, rtol=1e-3)


def test_what_is_left_makes_up_for_what_goes(tiny: dict[str, Path], tmp_path: Path) -> None:
    """Neurons that say what others say too can go without a trace."""
    card = card_of(tiny["bert"])
    module = load_module(Variant(str(tiny["bert"])), card)
    for layer in module.model.encoder.layer:  # type: ignore[union-attr]
        dense = layer.intermediate.dense
        dense.weight.data[32:], dense.bias.data[32:] = dense.weight.data[:32].clone(), dense.bias.data[:32].clone()
    doubled = save_variant(module, tmp_path / "doubled", {}, Variant(str(tiny["bert"])))
    _, pruned = prune(Path(doubled.directory), tmp_path / "out", sparsity=0.25)
    batch = batch_of(card, 9)
    tensors = [torch.from_numpy(batch[name]) for name in pruned.inputs]
    cosine = torch.nn.functional.cosine_similarity(pruned(*tensors)[0], module(*tensors)[0], dim=-1)
    assert float(cosine.min()) > 0.97


@pytest.mark.parametrize("family", ["bert", "llama", "resnet"])
def test_sparsegpt_loses_less_than_magnitude(family: str, tiny: dict[str, Path], tmp_path: Path) -> None:
    card = card_of(tiny[family])
    whole = load_module(Variant(str(tiny[family])), card)
    batch = batch_of(card, 0)
    tensors = [torch.from_numpy(batch[name]) for name in whole.inputs]
    lost = {}
    for importance in ("magnitude", "sparsegpt"):
        _, pruned = prune(tiny[family], tmp_path / importance, kind="unstructured", sparsity=0.6, importance=importance)
        masked = [p for n, p in pruned.model.named_parameters() if n.endswith(("query.weight", "q_proj.weight", "convolution.weight"))]
        assert masked
        assert all(abs(float((p == 0).float().mean()) - 0.6) < 0.03 for p in masked)
        lost[importance] = float((pruned(*tensors)[0] - whole(*tensors)[0]).square().mean())
    assert lost["sparsegpt"] < lost["magnitude"]


def test_rounds_reach_the_whole_share(tiny: dict[str, Path], tmp_path: Path) -> None:
    applied, _ = prune(tiny["bert"], tmp_path, sparsity=0.5, rounds=3)
    assert applied.facts.facts["ffn_width_after"] == 32


def test_recovery_brings_the_answers_back(tiny: dict[str, Path], tmp_path: Path) -> None:
    """Half of a CNN's channels: trained again, in two rounds, towards what it was."""
    material = Material(arrays={"images": np.random.default_rng(0).integers(0, 256, (32, 32, 32, 3), dtype=np.uint8)})
    applied, _ = prune(tiny["resnet"], tmp_path, material, sparsity=0.5, recover=True, steps=6, rounds=2)
    (curves,) = [each.data for each in applied.facts.attachments if each.kind == LOSS_CURVE]
    assert [curve["title"] for curve in curves] == ["Recovery, round 1 of 2", "Recovery, round 2 of 2"]
    assert all(curve["points"][0]["step"] == 0 and curve["points"][-1]["step"] == 6 for curve in curves)
    assert float(applied.facts.facts["held_out_after"]) >= float(applied.facts.facts["held_out_before"])
    assert applied.facts.facts["batch_norms_recalibrated"] == 6


def test_batch_norms_follow_what_now_flows_through(tiny: dict[str, Path], tmp_path: Path) -> None:
    _, pruned = prune(tiny["resnet"], tmp_path, sparsity=0.5)
    norm = pruned.model.resnet.embedder.embedder.normalization  # type: ignore[union-attr]
    assert not torch.allclose(norm.running_mean, torch.zeros_like(norm.running_mean))  # type: ignore[arg-type]
