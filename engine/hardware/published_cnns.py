"""Convolutional networks of the literature, layer by layer: what published FPGA and GPU figures were measured on.

Each is a function of (batch, image side) that returns its operators; shapes are those of
the paper named there. Normalisation is folded and activation functions and residual sums
belong to the convolution before them, as inference engines deploy these networks.
"""

from __future__ import annotations

from collections.abc import Callable

from engine.hardware.operators import Operator, OperatorKind, Operators, conv2d, linear

Build = Callable[[int, int], Operators]


class _Stack:
    """Layers put on one another; knows the channels and the side of what the next one reads."""

    def __init__(self, batch: int, side: int) -> None:
        self.batch, self.side, self.channels = batch, side, 3
        self.operators: list[Operator] = []

    def conv(self, name: str, filters: int, kernel: int = 1, stride: int = 1, *, depthwise: bool = False) -> None:
        """`filters` channels of the same size divided by `stride`, padded as in "same"."""
        out = -(-self.side // stride)
        groups = self.channels if depthwise else 1
        self.operators.append(
            conv2d(
                name, self.batch, self.channels, filters, (kernel, kernel), (out, out), (self.side, self.side),
                groups=groups,
            )
        )  # fmt: skip
        self.side, self.channels = out, filters

    def pool(self, name: str, out: int) -> None:
        planes = self.batch * self.channels
        self.operators.append(
            Operator(
                name=name, kind=OperatorKind.OTHER, flops=planes * self.side**2, input_elements=planes * self.side**2,
                output_elements=planes * out**2,
            )
        )  # fmt: skip
        self.side = out

    def halve(self, name: str) -> None:
        self.pool(name, -(-self.side // 2))

    def linear(self, name: str, outputs: int) -> None:
        inputs = self.channels * self.side**2
        self.operators.append(linear(name, self.batch, inputs, outputs, bias=True))
        self.side, self.channels = 1, outputs

    def branches(self, *paths: Callable[[_Stack], None]) -> None:
        """Paths that all read the same input; their channels are concatenated."""
        side, channels, total = self.side, self.channels, 0
        for path in paths:
            self.side, self.channels = side, channels
            path(self)
            total += self.channels
        self.channels = total


def vgg(blocks: tuple[int, ...]) -> Build:
    """Simonyan & Zisserman 2014, arXiv 1409.1556, table 1: 16 layers are (2, 2, 3, 3, 3), 19 are (2, 2, 4, 4, 4)."""

    def build(batch: int, side: int) -> Operators:
        net = _Stack(batch, side)
        for stage, (filters, count) in enumerate(zip((64, 128, 256, 512, 512), blocks, strict=True), start=1):
            for layer in range(1, count + 1):
                net.conv(f"conv{stage}_{layer}", filters, 3)
            net.halve(f"pool{stage}")
        for name, outputs in (("fc6", 4096), ("fc7", 4096), ("fc8", 1000)):
            net.linear(name, outputs)
        return tuple(net.operators)

    return build


def resnet50_v1(batch: int, side: int) -> Operators:
    """He et al. 2015, arXiv 1512.03385, table 1, with the stride in a block's first 1 × 1 convolution (3.9 GMAC)."""
    net = _Stack(batch, side)
    net.conv("conv1", 64, 7, 2)
    net.halve("pool1")
    for stage, count in enumerate((3, 4, 6, 3)):
        width = 64 * 2**stage
        for block in range(count):
            stride, name = 2 if stage and not block else 1, f"res{stage + 2}{'abcdef'[block]}"
            inputs = net.side, net.channels
            net.conv(f"{name}_1", width, 1, stride)
            net.conv(f"{name}_2", width, 3)
            net.conv(f"{name}_3", 4 * width)
            if not block:
                net.side, net.channels = inputs
                net.conv(f"{name}_shortcut", 4 * width, 1, stride)
    net.pool("pool5", 1)
    net.linear("fc1000", 1000)
    return tuple(net.operators)


def mobilenet_v1(width: float = 1.0) -> Build:
    """Howard et al. 2017, arXiv 1704.04861, table 1."""

    def build(batch: int, side: int) -> Operators:
        net = _Stack(batch, side)
        net.conv("conv0", int(32 * width), 3, 2)
        layers = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
        for index, (filters, stride) in enumerate(layers, start=1):
            net.conv(f"conv{index}_depthwise", net.channels, 3, stride, depthwise=True)
            net.conv(f"conv{index}_pointwise", int(filters * width))
        net.pool("pool", 1)
        net.linear("fc", 1000)
        return tuple(net.operators)

    return build


def mobilenet_v2(width: float = 1.0) -> Build:
    """Sandler et al. 2018, arXiv 1801.04381, table 2; channels are rounded to multiples of 8."""

    def scaled(channels: int) -> int:
        rounded = max(8, int(channels * width + 4) // 8 * 8)
        return rounded if rounded >= 0.9 * channels * width else rounded + 8

    def build(batch: int, side: int) -> Operators:
        net = _Stack(batch, side)
        net.conv("conv0", scaled(32), 3, 2)
        rows = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
        index = 0
        for expansion, filters, count, first in rows:
            for repeat in range(count):
                index += 1
                if expansion > 1:
                    net.conv(f"block{index}_expand", net.channels * expansion)
                net.conv(f"block{index}_depthwise", net.channels, 3, first if repeat == 0 else 1, depthwise=True)
                net.conv(f"block{index}_project", scaled(filters))
        net.conv("conv_last", scaled(1280) if width > 1 else 1280)
        net.pool("pool", 1)
        net.linear("fc", 1000)
        return tuple(net.operators)

    return build


def squeezenet(batch: int, side: int) -> Operators:
    """SqueezeNet 1.1: Iandola et al. 2016, arXiv 1602.07360, with the authors' later first layers."""
    net = _Stack(batch, side)

    def fire(name: str, squeeze: int, expand: int) -> None:
        net.conv(f"{name}_squeeze", squeeze)
        net.branches(
            lambda n: n.conv(f"{name}_expand1", expand), lambda n: n.conv(f"{name}_expand3", expand, 3)
        )  # fmt: skip

    net.side -= 1  # its first convolution is not padded
    net.conv("conv1", 64, 3, 2)
    stages = (((16, 64), (16, 64)), ((32, 128), (32, 128)), ((48, 192), (48, 192), (64, 256), (64, 256)))
    index = 1
    for stage, fires in enumerate(stages, start=1):
        net.pool(f"pool{stage}", net.side // 2)
        for squeeze, expand in fires:
            index += 1
            fire(f"fire{index}", squeeze, expand)
    net.conv("conv10", 1000)
    net.pool("pool10", 1)
    return tuple(net.operators)


_INCEPTIONS = {
    "3a": (64, 96, 128, 16, 32, 32), "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64), "4b": (160, 112, 224, 24, 64, 64), "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64), "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128), "5b": (384, 192, 384, 48, 128, 128),
}  # fmt: skip
"""1 × 1; 3 × 3 reduced, 3 × 3; 5 × 5 reduced, 5 × 5; after the pool."""


def inception_v1(batch: int, side: int) -> Operators:
    """Szegedy et al. 2014, arXiv 1409.4842, table 1."""
    net = _Stack(batch, side)
    net.conv("conv1", 64, 7, 2)
    net.halve("pool1")
    net.conv("conv2_reduce", 64)
    net.conv("conv2", 192, 3)
    net.halve("pool2")
    for name, widths in _INCEPTIONS.items():
        if name in ("4a", "5a"):
            net.halve(f"pool{name[0]}")
        _inception(net, f"inception_{name}", widths)
    net.pool("pool5", 1)
    net.linear("fc", 1000)
    return tuple(net.operators)


def _inception(net: _Stack, name: str, widths: tuple[int, ...]) -> None:
    one, reduce3, three, reduce5, five, after = widths

    def reduced(net: _Stack, first: int, filters: int, kernel: int) -> None:
        net.conv(f"{name}_{kernel}x{kernel}_reduce", first)
        net.conv(f"{name}_{kernel}x{kernel}", filters, kernel)

    def pooled(net: _Stack) -> None:
        net.pool(f"{name}_pool", net.side)
        net.conv(f"{name}_pool_proj", after)

    net.branches(
        lambda n: n.conv(f"{name}_1x1", one), lambda n: reduced(n, reduce3, three, 3),
        lambda n: reduced(n, reduce5, five, 5), pooled,
    )  # fmt: skip


PUBLISHED_CNNS: dict[str, Build] = {
    "resnet-50-v1": resnet50_v1,
    "vgg-16": vgg((2, 2, 3, 3, 3)),
    "vgg-19": vgg((2, 2, 4, 4, 4)),
    "mobilenet-v1": mobilenet_v1(),
    "mobilenet-v2": mobilenet_v2(),
    "mobilenet-v2-1.4": mobilenet_v2(1.4),
    "squeezenet": squeezenet,
    "inception-v1": inception_v1,
}
"""Name to a function (batch, image side) -> operators."""
