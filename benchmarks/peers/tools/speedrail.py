"""This project: `variant` is the recipe."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from unittest.mock import patch

from stage import Array, Family, Instant, now

PACKAGES = ("openvino", "nncf", "onnxruntime", "torch", "torchao", "transformers")
ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT))

from engine.domain.artifact import TaskId  # noqa: E402
from engine.domain.codec import from_data  # noqa: E402
from engine.domain.workload import Workload  # noqa: E402
from engine.host import this_host  # noqa: E402
from engine.intake.inspection import inspect  # noqa: E402
from engine.pipeline import transform  # noqa: E402
from engine.requests import TransformRequest  # noqa: E402
from engine.runtimes.registry import runtime_of  # noqa: E402


class OurContestant:
    def __init__(self, family: Family, recipe: str, scratch: Path) -> None:
        card, about = inspect(family.model), json.loads((family.directory / "family.json").read_text())
        workload = from_data(Workload, about["workload"])
        request = TransformRequest(
            str(family.model), card, recipe, workload, about["calibration_file"], str(scratch), this_host(), family.threads,
            about["dataset_file"],
        )  # fmt: skip
        made = transform(request, lambda progress: None)
        self.executor = runtime_of(made.lowered.runtime).open(made.lowered, card, workload, family.threads)
        self.size_bytes = made.lowered.size_bytes
        self.output = card.outputs[0].name
        assert card.task is TaskId(family.task)

    def infer(self, batch: dict[str, Array]) -> Array:
        return self.executor.infer(batch)[self.output]

    def generate(self, ids: Array, new_tokens: int) -> list[Instant]:
        """Every executor looks at the wall's clock before it begins and after each token; here at the other clock too."""
        seen: list[Instant] = []

        def tick() -> float:
            seen.append(now())
            return seen[-1].wall

        with patch("time.perf_counter", tick):
            self.executor.generate(ids, new_tokens)
        assert len(seen) == new_tokens + 1
        return seen[1:]


def prepare(family: Family, variant: str, scratch: Path) -> OurContestant:
    return OurContestant(family, variant, scratch)
