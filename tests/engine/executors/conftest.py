"""Whatever happens to workers, they leave no shared memory behind."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

SHARED = Path("/dev/shm")


@pytest.fixture(autouse=True)
def nothing_stays_in_shared_memory() -> Iterator[None]:
    before = set(SHARED.iterdir())
    yield
    # what others of this machine have there for a moment is none of ours
    deadline = time.monotonic() + 5.0
    while (left := set(SHARED.iterdir()) - before) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left
