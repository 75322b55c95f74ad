"""Networks of the literature: multiplications and parameters as published."""

from __future__ import annotations

import pytest

from engine.hardware.networks import network

PUBLISHED = [
    ("resnet-18", 1.82, 11.69), ("resnet-50", 4.09, 25.5), ("resnet-50-v1", 3.86, 25.5), ("vgg-16", 15.5, 138.4),
    ("vgg-19", 19.6, 143.7), ("mobilenet-v1", 0.569, 4.2), ("mobilenet-v2", 0.300, 3.5), ("mobilenet-v2-1.4", 0.585, 6.1),
    ("inception-v1", 1.58, 7.0), ("squeezenet", 0.39, 1.24),
]  # fmt: skip


@pytest.mark.parametrize(("name", "giga_macs", "mega_parameters"), PUBLISHED)
def test_a_published_network_has_its_published_size(name: str, giga_macs: float, mega_parameters: float) -> None:
    shape = network(name, image_size=227 if name == "squeezenet" else 224)
    macs = sum(gemm.macs * o.count for o in shape.forward for gemm in o.gemms)
    assert macs / 1e9 == pytest.approx(giga_macs, rel=0.03)
    assert shape.parameters / 1e6 == pytest.approx(mega_parameters, rel=0.03)
