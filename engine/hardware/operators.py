"""What a model computes, operator by operator: sizes only, no weights, no time. Torch-free.

Everything that projects a latency reads these records: the rooflines of GPUs, the
FPGA's array model, the cost of cutting a model over devices. They come from a traced
upload (engine.hardware.tracing) or from a published network's shape
(engine.hardware.networks), and say nothing of number formats: those are the recipe's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class OperatorKind(StrEnum):
    MATMUL = "matmul"
    CONV2D = "conv2d"
    ATTENTION = "attention"
    """softmax(Q Kᵀ) V as one operator: its scores need not leave the chip."""
    NORM = "norm"
    SOFTMAX = "softmax"
    ELEMENTWISE = "elementwise"
    EMBEDDING = "embedding"
    """Rows looked up in a table: only those that are read count as weights."""
    OTHER = "other"
    """Pooling, copies, concatenation, sorting: data that moves."""

    @property
    def on_array(self) -> bool:
        """Whether a matrix engine does it (tensor cores, a systolic array)."""
        return self in (OperatorKind.MATMUL, OperatorKind.CONV2D, OperatorKind.ATTENTION)


@dataclass(frozen=True, slots=True)
class Gemm:
    """`groups` independent products (m × k) · (k × n).

    A linear layer has m = batch × positions; a convolution is spelled as im2col:
    m = batch × output pixels, k = channels per group × kernel area, n = filters per group.
    """

    m: int
    k: int
    n: int
    groups: int = 1

    @property
    def macs(self) -> int:
        return self.m * self.k * self.n * self.groups


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """One operator. All sizes are of a single execution; it is executed `count` times a pass.

    name             path of the module that runs it (`encoder.layer.0.attention.self.query`)
    flops            2 for each multiply-accumulate; 1 for each element of other kinds
    weight_elements  parameters it reads
    input_elements   activations it reads; of an attention queries, keys and values, the
                     KV cache among them
    output_elements  activations it writes
    gemm             the product it is; of an attention Q Kᵀ (see `gemms`); None for others
    function         name of what computes it (`relu`, `native_batch_norm`), where a trace knows it
    """

    name: str
    kind: OperatorKind
    count: int = 1
    flops: int
    weight_elements: int = 0
    input_elements: int = 0
    output_elements: int = 0
    gemm: Gemm | None = None
    function: str = ""

    @property
    def gemms(self) -> tuple[Gemm, ...]:
        """All products of one execution: an attention's are Q Kᵀ and scores · V."""
        if self.gemm is None:
            return ()
        if self.kind is not OperatorKind.ATTENTION:
            return (self.gemm,)
        return self.gemm, Gemm(self.gemm.m, self.gemm.n, self.gemm.k, self.gemm.groups)

    def bytes(self, weight_bits: float, activation_bits: float) -> float:
        """Bytes of one execution when every operand crosses the memory once."""
        activations = self.input_elements + self.output_elements
        return (self.weight_elements * weight_bits + activations * activation_bits) / 8


Operators = tuple[Operator, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A model under one workload: its whole pass, and for causal LMs one step of decoding.

    `forward` is one call (of a causal LM: the prompt). `decode` is one step at the mean
    context of the generation, `steps` how many of them follow the prompt; both are empty
    and 0 for other tasks. `cache_elements` are keys and values of one token of one
    sequence over all layers.
    """

    name: str
    batch: int
    sequence: int
    """Positions of the prompt or input; 1 for images."""
    parameters: int
    forward: Operators
    decode: Operators = ()
    steps: int = 0
    cache_elements: int = 0
    sums: int = 2
    """All-reduces of a layer that tensor parallelism splits: after attention and after the MLP; 1 where both are added at once."""

    @property
    def is_generation(self) -> bool:
        return bool(self.decode)

    @property
    def longest_context(self) -> int:
        """Positions in the KV cache at the end."""
        return self.sequence + self.steps


def total_flops(operators: Iterable[Operator]) -> int:
    return sum(o.flops * o.count for o in operators)


def total_weights(operators: Iterable[Operator]) -> int:
    """Weight elements read in a pass; tied weights count wherever they are read."""
    return sum(o.weight_elements * o.count for o in operators)


def total_bytes(operators: Iterable[Operator], weight_bits: float, activation_bits: float) -> float:
    """Bytes over the memory in a pass, when every operand crosses it once."""
    return sum(o.bytes(weight_bits, activation_bits) * o.count for o in operators)


def kernels(operators: Iterable[Operator]) -> int:
    """How many operators are launched in a pass."""
    return sum(o.count for o in operators)


def largest_activation(operators: Iterable[Operator]) -> int:
    """Most activation elements that one operator holds at once: its inputs and outputs."""
    return max((o.input_elements + o.output_elements for o in operators), default=0)


_POINTWISE = frozenset({OperatorKind.ELEMENTWISE, OperatorKind.NORM, OperatorKind.SOFTMAX})


def fused(operators: Operators) -> Operators:
    """As a compiler leaves it: every run of neighbouring pointwise operators is one kernel.

    The kernel reads what the run's largest operator reads and writes what the last one
    writes; what lies between stays in registers.
    """
    result: list[Operator] = []
    run: list[Operator] = []
    for operator in (*operators, None):
        if operator is not None and operator.kind in _POINTWISE and (not run or run[-1].count == operator.count):
            run.append(operator)
            continue
        if run:
            result.append(_merged(run))
            run = []
        if operator is not None:
            if operator.kind in _POINTWISE:
                run = [operator]
            else:
                result.append(operator)
    return tuple(result)


def _merged(run: list[Operator]) -> Operator:
    if len(run) == 1:
        return run[0]
    kinds = {o.kind for o in run}
    main = next((k for k in (OperatorKind.NORM, OperatorKind.SOFTMAX) if k in kinds), OperatorKind.ELEMENTWISE)
    return Operator(
        name=run[-1].name, kind=main, count=run[0].count, flops=sum(o.flops for o in run),
        weight_elements=sum(o.weight_elements for o in run),
        input_elements=max(o.input_elements for o in run), output_elements=run[-1].output_elements,
    )  # fmt: skip


def linear(name: str, m: int, k: int, n: int, *, count: int = 1, bias: bool = False) -> Operator:
    """A linear layer on m rows."""
    gemm = Gemm(m, k, n)
    return Operator(
        name=name, kind=OperatorKind.MATMUL, count=count, flops=2 * gemm.macs, weight_elements=k * n + (n if bias else 0),
        input_elements=m * k, output_elements=m * n, gemm=gemm,
    )  # fmt: skip


def conv2d(
    name: str, batch: int, channels: int, filters: int, kernel: tuple[int, int], out: tuple[int, int],
    inputs: tuple[int, int], *, groups: int = 1, count: int = 1, bias: bool = True,
) -> Operator:  # fmt: skip
    """A convolution; `inputs` and `out` are (height, width) before and after."""
    gemm = Gemm(batch * out[0] * out[1], channels // groups * kernel[0] * kernel[1], filters // groups, groups)
    return Operator(
        name=name, kind=OperatorKind.CONV2D, count=count, flops=2 * gemm.macs,
        weight_elements=gemm.k * filters + (filters if bias else 0),
        input_elements=batch * channels * inputs[0] * inputs[1], output_elements=batch * filters * out[0] * out[1],
        gemm=gemm,
    )  # fmt: skip


def attention(
    name: str, batch: int, heads: int, kv_heads: int, head_dim: int, queries: int, keys: int, *, count: int = 1,
    causal: bool = False,
) -> Operator:  # fmt: skip
    """softmax(Q Kᵀ) V. `causal` with as many queries as keys does half of the arithmetic."""
    gemm = Gemm(queries, head_dim, keys, batch * heads)
    flops = 4 * gemm.macs
    return Operator(
        name=name, kind=OperatorKind.ATTENTION, count=count,
        flops=flops // 2 if causal and queries == keys else flops,
        input_elements=batch * head_dim * (heads * queries + 2 * kv_heads * keys),
        output_elements=batch * heads * queries * head_dim, gemm=gemm,
    )  # fmt: skip


def pointwise(
    name: str, elements: int, *, kind: OperatorKind = OperatorKind.ELEMENTWISE, inputs: int = 1, weights: int = 0,
    count: int = 1,
) -> Operator:  # fmt: skip
    """An operator that writes `elements` and reads `inputs` tensors of as many."""
    return Operator(
        name=name, kind=kind, count=count, flops=elements, weight_elements=weights, input_elements=inputs * elements,
        output_elements=elements,
    )  # fmt: skip


def embedding(name: str, rows: int, width: int) -> Operator:
    return Operator(
        name=name, kind=OperatorKind.EMBEDDING, flops=0, weight_elements=rows * width, input_elements=rows,
        output_elements=rows * width,
    )  # fmt: skip
