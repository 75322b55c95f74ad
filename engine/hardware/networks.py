"""Published networks by shape, so that a projection can be held against published figures.

Operators are as deployed: normalisation folded into convolutions, activation functions
and residual sums fused into the product before them where inference engines do so.
Shapes are those of the papers and of the models' own config files, named at each entry.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from engine.domain.artifact import ArtifactFormat, ModelCard, TaskId
from engine.domain.errors import NotFound
from engine.hardware.operators import (
    Network,
    Operator,
    OperatorKind,
    Operators,
    attention,
    conv2d,
    embedding,
    linear,
    pointwise,
)  # fmt: skip
from engine.hardware.published_cnns import PUBLISHED_CNNS


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderShape:
    """A causal LM. `gated`: a SwiGLU feed-forward of three matrices instead of two; `head_size` 0: the hidden size shared out;
    `parallel`: attention and feed-forward side by side, their results added at once."""

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    intermediate: int
    vocab: int
    gated: bool
    source: str
    head_size: int = 0
    parallel: bool = False

    @property
    def head_dim(self) -> int:
        return self.head_size or self.hidden // self.heads

    @property
    def layer_parameters(self) -> int:
        """Matrices of one layer; norms and biases are left out."""
        attention_weights = self.hidden * self.head_dim * 2 * (self.heads + self.kv_heads)
        return attention_weights + (3 if self.gated else 2) * self.hidden * self.intermediate

    @property
    def parameters(self) -> int:
        return self.layers * self.layer_parameters + 2 * self.vocab * self.hidden


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderShape:
    """A BERT-like encoder with post-norm layers and a GELU feed-forward."""

    name: str
    layers: int
    hidden: int
    heads: int
    intermediate: int
    vocab: int
    positions: int
    source: str

    @property
    def parameters(self) -> int:
        layer = 4 * self.hidden * self.hidden + 2 * self.hidden * self.intermediate
        return self.layers * layer + (self.vocab + self.positions + 2) * self.hidden


FASTER_TRANSFORMER = "NVIDIA/FasterTransformer docs/gpt_guide.md, sizes at its tables of latencies"

DECODERS: tuple[DecoderShape, ...] = (
    DecoderShape(
        name="llama-7b", layers=32, hidden=4096, heads=32, kv_heads=32, intermediate=11008, vocab=32000, gated=True,
        source="Touvron et al. 2023, arXiv 2302.13971 and 2307.09288, table 2; meta-llama/Llama-2-7b config.json",
    ),
    DecoderShape(
        name="llama-13b", layers=40, hidden=5120, heads=40, kv_heads=40, intermediate=13824, vocab=32000, gated=True,
        source="Touvron et al. 2023, arXiv 2302.13971, table 2; meta-llama/Llama-2-13b config.json",
    ),
    DecoderShape(
        name="llama-3-8b", layers=32, hidden=4096, heads=32, kv_heads=8, intermediate=14336, vocab=128256, gated=True,
        source="Grattafiori et al. 2024, arXiv 2407.21783, table 3; meta-llama/Meta-Llama-3-8B config.json",
    ),
    DecoderShape(
        name="llama-70b", layers=80, hidden=8192, heads=64, kv_heads=8, intermediate=28672, vocab=32000, gated=True,
        source="Touvron et al. 2023, arXiv 2307.09288; meta-llama/Llama-2-70b config.json",
    ),
    DecoderShape(
        name="gpt-j-6b", layers=28, hidden=4096, heads=16, kv_heads=16, intermediate=16384, vocab=50400, gated=False,
        parallel=True, source="EleutherAI/gpt-j-6b config.json",
    ),
    DecoderShape(
        name="falcon-180b", layers=80, hidden=14848, heads=232, kv_heads=8, intermediate=59392, vocab=65024, gated=False,
        parallel=True, source="Almazrouei et al. 2023, arXiv 2311.16867; tiiuae/falcon-180B config.json",
    ),
    DecoderShape(
        name="gpt-20b", layers=44, hidden=6144, heads=48, kv_heads=48, intermediate=24576, vocab=51200, gated=False,
        source=FASTER_TRANSFORMER,
    ),
    DecoderShape(
        name="gpt-89b", layers=48, hidden=12288, heads=96, kv_heads=96, intermediate=49152, vocab=51200, gated=False,
        source=FASTER_TRANSFORMER,
    ),
    DecoderShape(
        name="gpt-175b", layers=96, hidden=12288, heads=96, kv_heads=96, intermediate=49152, vocab=51200, gated=False,
        source=FASTER_TRANSFORMER,
    ),
    DecoderShape(
        name="megatron-530b", layers=105, hidden=20480, heads=128, kv_heads=128, intermediate=81920, vocab=51200, gated=False,
        source=FASTER_TRANSFORMER,
    ),
    DecoderShape(
        name="palm-540b", layers=118, hidden=18432, heads=48, kv_heads=1, intermediate=73728, vocab=256000, gated=True,
        head_size=256, parallel=True,
        source="Chowdhery et al. 2022, arXiv 2204.02311, table 1; heads of 256 as in Pope et al. 2022, arXiv 2211.05102",
    ),
    DecoderShape(
        name="gpt-neox-20b", layers=44, hidden=6144, heads=64, kv_heads=64, intermediate=24576, vocab=50432, gated=False,
        source="Black et al. 2022, arXiv 2204.06745, table 1; EleutherAI/gpt-neox-20b config.json",
    ),
)  # fmt: skip

ENCODERS: tuple[EncoderShape, ...] = (
    EncoderShape(
        name="minilm-l6", layers=6, hidden=384, heads=12, intermediate=1536, vocab=30522, positions=512,
        source="sentence-transformers/all-MiniLM-L6-v2 config.json",
    ),
    EncoderShape(
        name="bert-base", layers=12, hidden=768, heads=12, intermediate=3072, vocab=30522, positions=512,
        source="Devlin et al. 2018, arXiv 1810.04805, section 3",
    ),
    EncoderShape(
        name="bert-large", layers=24, hidden=1024, heads=16, intermediate=4096, vocab=30522, positions=512,
        source="Devlin et al. 2018, arXiv 1810.04805, section 3",
    ),
)  # fmt: skip

RESNETS: dict[str, tuple[tuple[int, ...], bool]] = {
    "resnet-18": ((2, 2, 2, 2), False),
    "resnet-34": ((3, 4, 6, 3), False),
    "resnet-50": ((3, 4, 6, 3), True),
    "resnet-101": ((3, 4, 23, 3), True),
}
"""Blocks of the four stages and whether they are bottlenecks: He et al. 2015, arXiv 1512.03385, table 1."""


def network(name: str, *, batch: int = 1, sequence: int = 128, new_tokens: int = 1, image_size: int = 224) -> Network:
    """A published network under a workload. Raises NotFound for a name that is none of `names()`."""
    for decoder in DECODERS:
        if decoder.name == name:
            return decoder_network(decoder, batch, sequence, new_tokens)
    for encoder in ENCODERS:
        if encoder.name == name:
            return encoder_network(encoder, batch, sequence)
    if name in CNNS:
        return cnn_network(name, CNNS[name](batch, image_size), batch)
    raise NotFound(f"There is no network {name!r}.", mend=f"Known networks: {', '.join(names())}.")


def card_of(name: str) -> ModelCard:
    """What plans and projections ask of a published network. Raises NotFound."""
    for decoder in DECODERS:
        if decoder.name == name:
            return _card(TaskId.CAUSAL_LM, decoder, decoder.kv_heads)
    for encoder in ENCODERS:
        if encoder.name == name:
            return _card(TaskId.TEXT_ENCODER, encoder, encoder.heads)
    return ModelCard(ArtifactFormat.HUGGINGFACE, TaskId.IMAGE_CLASSIFIER, name, network(name).parameters, "float16", ())


def _card(task: TaskId, shape: DecoderShape | EncoderShape, kv_heads: int) -> ModelCard:
    return ModelCard(
        ArtifactFormat.HUGGINGFACE, task, shape.name, shape.parameters, "float16", (), num_layers=shape.layers, num_heads=shape.heads,
        num_kv_heads=kv_heads, hidden_size=shape.hidden, intermediate_size=shape.intermediate, vocab_size=shape.vocab,
    )  # fmt: skip


def names() -> tuple[str, ...]:
    return (*(d.name for d in DECODERS), *(e.name for e in ENCODERS), *CNNS)


def cnn_network(name: str, operators: Operators, batch: int) -> Network:
    parameters = sum(o.weight_elements * o.count for o in operators)
    return Network(name=name, batch=batch, sequence=1, parameters=parameters, forward=operators)


def decoder_network(shape: DecoderShape, batch: int, prompt: int, new_tokens: int) -> Network:
    """The prompt's logits are computed at its last position only, as generation needs them."""
    steps = max(new_tokens - 1, 0)
    context = prompt + (steps + 1) // 2
    return Network(
        name=shape.name, batch=batch, sequence=prompt, parameters=shape.parameters,
        forward=decoder_pass(shape, batch, prompt, prompt),
        decode=decoder_pass(shape, batch, 1, context) if steps else (), steps=steps,
        cache_elements=2 * shape.layers * shape.kv_heads * shape.head_dim, sums=1 if shape.parallel else 2,
    )  # fmt: skip


def decoder_pass(shape: DecoderShape, batch: int, positions: int, context: int) -> Operators:
    """One pass of `positions` new tokens that see `context` of them."""
    rows, hidden, layers = batch * positions, shape.hidden, shape.layers
    query, key = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    up = (2 if shape.gated else 1) * shape.intermediate
    return (
        embedding("embed_tokens", rows, hidden),
        pointwise("layers.*.input_layernorm", rows * hidden, kind=OperatorKind.NORM, weights=hidden, count=layers),
        linear("layers.*.self_attn.qkv_proj", rows, hidden, query + 2 * key, count=layers),
        pointwise("layers.*.self_attn.rotary", rows * (query + key), count=layers),
        attention(
            "layers.*.self_attn", batch, shape.heads, shape.kv_heads, shape.head_dim, positions, context, count=layers,
            causal=True,
        ),
        linear("layers.*.self_attn.o_proj", rows, query, hidden, count=layers),
        pointwise(
            "layers.*.post_attention_layernorm", rows * hidden, kind=OperatorKind.NORM, inputs=2, weights=hidden, count=layers
        ),
        linear("layers.*.mlp.up_proj", rows, hidden, up, count=layers),
        pointwise("layers.*.mlp.act", rows * shape.intermediate, inputs=2 if shape.gated else 1, count=layers),
        linear("layers.*.mlp.down_proj", rows, shape.intermediate, hidden, count=layers),
        pointwise("norm", rows * hidden, kind=OperatorKind.NORM, inputs=2, weights=hidden),
        linear("lm_head", batch, hidden, shape.vocab),
    )  # fmt: skip


def encoder_network(shape: EncoderShape, batch: int, sequence: int) -> Network:
    rows, hidden, layers = batch * sequence, shape.hidden, shape.layers
    norm = OperatorKind.NORM
    operators = (
        embedding("embeddings", rows, hidden),
        pointwise("embeddings.LayerNorm", rows * hidden, kind=norm, weights=2 * hidden),
        linear("layer.*.attention.qkv", rows, hidden, 3 * hidden, count=layers, bias=True),
        attention(
            "layer.*.attention", batch, shape.heads, shape.heads, hidden // shape.heads, sequence, sequence, count=layers
        ),
        linear("layer.*.attention.output", rows, hidden, hidden, count=layers, bias=True),
        pointwise("layer.*.attention.LayerNorm", rows * hidden, kind=norm, inputs=2, weights=2 * hidden, count=layers),
        linear("layer.*.intermediate", rows, hidden, shape.intermediate, count=layers, bias=True),
        linear("layer.*.output", rows, shape.intermediate, hidden, count=layers, bias=True),
        pointwise("layer.*.output.LayerNorm", rows * hidden, kind=norm, inputs=2, weights=2 * hidden, count=layers),
    )
    return Network(name=shape.name, batch=batch, sequence=sequence, parameters=shape.parameters, forward=operators)


def resnet(blocks: tuple[int, ...], bottleneck: bool) -> Callable[[int, int], Operators]:
    """A ResNet (v1.5: the stride is in the 3 × 3 convolution) as a function of batch and image size."""

    def build(batch: int, image_size: int) -> Operators:
        side = -(-image_size // 2)
        found = [conv2d("conv1", batch, 3, 64, (7, 7), (side, side), (image_size, image_size))]
        pooled = -(-side // 2)
        found.append(_pool("maxpool", batch * 64, side, pooled))
        side, channels = pooled, 64
        for stage, count in enumerate(blocks):
            width = 64 * 2**stage
            for block in range(count):
                stride = 2 if stage and not block else 1
                found += _block(f"layer{stage + 1}.{block}", batch, channels, width, side, stride, bottleneck)
                side, channels = -(-side // stride), width * (4 if bottleneck else 1)
        found.append(_pool("avgpool", batch * channels, side, 1))
        found.append(linear("fc", batch, channels, 1000, bias=True))
        return tuple(found)

    return build


def _block(
    name: str, batch: int, channels: int, width: int, side: int, stride: int, bottleneck: bool
) -> list[Operator]:
    out = -(-side // stride)
    before, after = (side, side), (out, out)
    if bottleneck:
        filters = 4 * width
        found = [
            conv2d(f"{name}.conv1", batch, channels, width, (1, 1), before, before),
            conv2d(f"{name}.conv2", batch, width, width, (3, 3), after, before),
            conv2d(f"{name}.conv3", batch, width, filters, (1, 1), after, after),
        ]
    else:
        filters = width
        found = [
            conv2d(f"{name}.conv1", batch, channels, width, (3, 3), after, before),
            conv2d(f"{name}.conv2", batch, width, width, (3, 3), after, after),
        ]
    if stride > 1 or channels != filters:
        found.append(conv2d(f"{name}.downsample", batch, channels, filters, (1, 1), after, before))
    return found


def _pool(name: str, planes: int, side: int, out: int) -> Operator:
    return Operator(
        name=name, kind=OperatorKind.OTHER, flops=planes * side * side, input_elements=planes * side * side,
        output_elements=planes * out * out,
    )  # fmt: skip


CNNS: dict[str, Callable[[int, int], Operators]] = {
    **{name: resnet(*shape) for name, shape in RESNETS.items()},
    **PUBLISHED_CNNS,
}
"""Name to a function (batch, image size) -> operators."""
