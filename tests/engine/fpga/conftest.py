"""Simulators of the core."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.fpga.build import Effort
from engine.fpga.cycles import Core
from engine.fpga.simulation import Simulator

SIZES = (4, 8)


@pytest.fixture(scope="session", params=SIZES, ids=lambda n: f"{n}x{n}")
def simulator(request: pytest.FixtureRequest, fpga_home: Path) -> Iterator[Simulator]:
    """The core of 4 x 4 and of 8 x 8, 8 bits."""
    with Simulator(Core(size=request.param), fpga_home, effort=Effort.QUICK) as built:
        yield built
