"""`python -m engine compare RUN RUN …`: stored runs side by side, refused where that would mislead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.cli.output import check_destination, show
from engine.compare.difference import differences_of, refuse_unlike
from engine.domain.codec import as_data
from engine.domain.errors import InvalidInput
from engine.domain.experiment import Run
from engine.domain.metrics import METRICS
from engine.settings import Settings
from storage import open_storage


def compare(settings: Settings, run_ids: Sequence[str], destination: str | None) -> int:
    """Raises NotFound, and InvalidInput for one run or for unlike environments."""
    if len(run_ids) < 2:
        raise InvalidInput("There is nothing to compare one run with.", mend="Name two runs or more.")
    check_destination(destination)
    storage = open_storage(settings)
    runs = [storage.runs.get(run_id) for run_id in run_ids]
    refuse_unlike(runs)
    show(_data(runs), table(runs), destination)
    return 0


def table(runs: Sequence[Run]) -> str:
    """Metrics and differences as rows, runs as columns."""
    names = [name for name in METRICS if any(run.measurement(name) for run in runs)]
    rows = [("", *(run.recipe or "baseline" for run in runs)), ("speedup", *map(_speedup, runs))]
    rows += [(f"{name}, {METRICS[name].unit}", *(_value(run, name) for run in runs)) for name in names]
    rows += [(found.what, *found.values) for found in differences_of(runs)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def _data(runs: Sequence[Run]) -> dict[str, Any]:
    return {
        "runs": [as_data(run) for run in runs],
        "differences": [as_data(found) for found in differences_of(runs)],
    }


def _speedup(run: Run) -> str:
    if run.speedup is None:
        return ""
    low, high = run.speedup.ci95
    return f"{run.speedup.median:.2f} ({low:.2f} to {high:.2f}) {run.verdict or ''}".rstrip()


def _value(run: Run, name: str) -> str:
    found = run.measurement(name)
    return f"{found.median:.4g}" if found else ""
