"""History answers as a plain Python filter over all runs would, exactly."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import cmp_to_key
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from benchmarks.filling import fill_history
from engine.domain.errors import InvalidInput
from engine.domain.experiment import Run, RunStatus
from engine.settings import Settings
from storage import RunFilter, RunSummary, Storage, open_storage
from storage.history import SORTS
from tests.storage.conftest import BACKENDS, installation

RUNS = 160


@dataclass(frozen=True)
class History:
    storage: Storage
    runs: list[Run]
    summaries: list[RunSummary]


@pytest.fixture(scope="module", params=BACKENDS)
def history(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    home = tmp_path_factory.mktemp("history")
    with installation(request.param, Settings.from_environment({"SPEEDRAIL_HOME": str(home)})) as settings:
        storage = open_storage(settings)
        fill_history(storage, RUNS, artifacts=7)
        experiments = storage.experiments.list(limit=RUNS).items
        runs = [run for e in reversed(experiments) for run in storage.runs.of_experiment(e.experiment.id)]
        storage.runs.annotate(runs[3].id, name="Größe 7", notes="naïve TEST", tags=("mei", "Überblick"))
        runs[3] = storage.runs.get(runs[3].id)
        summaries = {s.id: s for s in storage.runs.search(RunFilter(), limit=RUNS).items}
        yield History(storage, runs, [summaries[r.id] for r in runs])
        storage.close()


def test_a_summary_says_what_the_run_says(history: History) -> None:
    assert len(history.summaries) == RUNS
    for run, summary in zip(history.runs, history.summaries, strict=True):
        same = (
            "id",
            "experiment_id",
            "artifact_id",
            "recipe",
            "runtime",
            "status",
            "created_at",
            "name",
            "tags",
            "verdict",
        )
        assert all(getattr(run, name) == getattr(summary, name) for name in same)
        assert all(run.value(name) == getattr(summary, name) for name in ("latency", "size", "quality", "peak_memory"))
        assert summary.speedup == (run.speedup.median if run.speedup else None)


_TEXTS = (
    "pruning",
    "quant int4",
    "sparsity=0.5",
    "MINILM",
    "l6 v2",
    "q",
    "trial",
    "grosse",
    "uberblick naive",
    "zebra",
    "==",
    " ",
)
_range = st.tuples(st.none() | st.floats(0, 60), st.none() | st.floats(0, 60))


@st.composite
def _filters(draw: st.DrawFn, history: History) -> RunFilter:
    some = draw(st.sampled_from(history.runs))
    maybe = lambda value: draw(st.sampled_from([type(value)(), value, type(value)()]))  # noqa: E731
    names = st.sampled_from(("latency", "quality", "throughput", "speedup", "speedup_low", "cosine"))
    return RunFilter(
        text=draw(st.sampled_from(["", "", *_TEXTS])),
        artifact_id=maybe(some.artifact_id),
        experiment_id=maybe(some.experiment_id),
        technique=draw(st.sampled_from(["", "pruning", "quantization", "prun", "%"])),
        runtime=draw(st.sampled_from(["", "eager", "openvino"])),
        statuses=tuple(draw(st.lists(st.sampled_from(RunStatus), max_size=2))),
        created_from=draw(st.none() | st.just(some.created_at)),
        created_to=draw(st.none() | st.just(some.created_at + timedelta(days=90))),
        tag=draw(st.sampled_from(["", "", "mei", "Überblick", "me"])),
        metric_ranges=draw(st.dictionaries(names, _range, max_size=2)),
    )


@hypothesis_settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_filter_under_any_sort_equals_the_oracle(history: History, data: st.DataObject) -> None:
    filter_ = data.draw(_filters(history))
    sort = data.draw(st.sampled_from([*SORTS, "cosine", "perplexity"]))
    descending = data.draw(st.booleans())
    expected = _oracle(history, filter_, sort, descending)
    offset, limit = data.draw(st.integers(0, len(expected) + 2)), data.draw(st.integers(1, 50))
    page = history.storage.runs.search(filter_, sort, descending, offset, limit)
    assert page.total == len(expected)
    assert [s.id for s in page.items] == expected[offset : offset + limit]


def test_every_sort_walks_its_whole_list(history: History) -> None:
    for sort, descending in product(SORTS, (True, False)):
        pages = [history.storage.runs.search(RunFilter(), sort, descending, o, 50).items for o in range(0, RUNS, 50)]
        assert [s.id for page in pages for s in page] == _oracle(history, RunFilter(), sort, descending), sort


def test_large_sets_are_walked_and_small_ones_fetched_alike(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    """The two plans, which a hundred runs alone would not both reach."""
    filters = [RunFilter(text=t, statuses=(RunStatus.SUCCEEDED,)) for t in ("quantization", "pruning mini")]
    filters += [RunFilter(tag="mei", metric_ranges={"cosine": (0.92, None)}), RunFilter(text="q", tag="mei")]
    for small, filter_, sort in product((-1, 10**6), filters, ("created_at", "latency", "recipe")):
        monkeypatch.setattr("storage.history._SMALL", small)
        for descending in (True, False):
            page = history.storage.runs.search(filter_, sort, descending)
            expected = _oracle(history, filter_, sort, descending)
            assert (page.total, [s.id for s in page.items]) == (len(expected), expected[:100])


def test_unknown_words_are_refused(history: History) -> None:
    with pytest.raises(InvalidInput, match="cannot be sorted"):
        history.storage.runs.search(RunFilter(), "created_at; DROP TABLE runs")
    with pytest.raises(InvalidInput, match="no metric"):
        history.storage.runs.search(RunFilter(metric_ranges={"speed": (None, None)}))


def test_names_are_found_after_they_change(tmp_path: Path) -> None:
    storage = open_storage(Settings.from_environment({"SPEEDRAIL_HOME": str(tmp_path)}))
    fill_history(storage, 20, artifacts=1)
    (artifact,), (newest, _) = storage.artifacts.list().items, storage.experiments.list().items
    storage.artifacts.rename(artifact.artifact.id, "renamed-model")
    storage.experiments.rename(newest.experiment.id, "Kopenhagen")
    assert storage.runs.search(RunFilter(text="renamed")).total == 20
    assert storage.runs.search(RunFilter(text="MiniLM")).total == 0
    assert storage.runs.search(RunFilter(text="kopenh renamed")).total == 10
    assert storage.runs.search(RunFilter(text='kopen" OR "x')).total == 0, "quotes are no syntax"
    storage.close()


def _oracle(history: History, f: RunFilter, sort: str, descending: bool) -> list[str]:
    kept = [(i, r, s) for i, (r, s) in enumerate(zip(history.runs, history.summaries, strict=True)) if _passes(f, r, s)]

    def value(item: tuple[int, Run, RunSummary]) -> Any:
        return getattr(item[2], sort) if hasattr(item[2], sort) else item[1].value(sort)

    def order(a: tuple[int, Run, RunSummary], b: tuple[int, Run, RunSummary]) -> int:
        x, y = value(a), value(b)
        if (x is None) != (y is None):
            return 1 if x is None else -1
        way = (x > y) - (x < y) if x is not None and x != y else (a[0] > b[0]) - (a[0] < b[0])
        return -way if descending else way

    return [run.id for _, run, _ in sorted(kept, key=cmp_to_key(order))]


def _passes(f: RunFilter, run: Run, summary: RunSummary) -> bool:
    fields = (run.recipe, run.name, run.notes, " ".join(run.tags), summary.artifact_name, summary.experiment_name)
    techniques = [t.partition("(")[0] for t in run.recipe.partition("@")[0].split("+")]
    return all((
        not f.text.strip() or (_split(f.text) != [] and all(_has(fields, p) for p in f.text.split() if _split(p))),
        f.artifact_id in ("", run.artifact_id),
        f.experiment_id in ("", run.experiment_id),
        not f.technique or f.technique in techniques,
        f.runtime in ("", run.runtime),
        not f.statuses or run.status in f.statuses,
        f.created_from is None or run.created_at >= f.created_from,
        f.created_to is None or run.created_at < f.created_to,
        not f.tag or f.tag in run.tags,
        all(_within(getattr(summary, n) if hasattr(summary, n) else run.value(n), *r) for n, r in f.metric_ranges.items()),
    ))  # fmt: skip


def _within(value: float | None, low: float | None, high: float | None) -> bool:
    return value is not None and (low is None or value >= low) and (high is None or value <= high)


def _split(text: str) -> list[str]:
    plain = text.lower().translate(str.maketrans({"ö": "o", "ü": "u", "ï": "i", "ß": "ss"}))
    return re.findall(r"[a-z0-9]+", plain)


def _has(fields: tuple[str, ...], part: str) -> bool:
    """Whether one field holds these words in a row, the last one at least begun."""
    *whole, begun = _split(part)
    size = len(whole)
    return any(
        found[i : i + size] == whole and found[i + size].startswith(begun)
        for found in map(_split, fields)
        for i in range(len(found) - size)
    )
