"""`python -m engine run`: an experiment inline, without the queue, by the worker's own code."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from engine.catalogue import TECHNIQUES
from engine.cli.intake import take_in_path
from engine.cli.output import check_destination, show
from engine.cli.result import as_json_data, noise_by_run, table
from engine.cli.waiting import say_who_holds
from engine.cli.words import parse_target
from engine.domain.artifact import Artifact
from engine.domain.errors import InvalidInput, NotFound
from engine.domain.experiment import Progress, Run, RunStatus
from engine.domain.workload import DatasetRef, Workload
from engine.execution.execute import run_experiment
from engine.execution.judging import VERIFY_AA
from engine.execution.lock import HostLock
from engine.execution.scratch import scratch
from engine.grammar import parse_recipe
from engine.launch import check_guard_rail, ids_named, launch, models_named
from engine.settings import Settings
from storage import Storage, open_storage

FINE = (RunStatus.SUCCEEDED, RunStatus.PROJECTED, RunStatus.REFUSED)


def run(settings: Settings, options: argparse.Namespace) -> int:
    """0 when every run succeeded or was refused, 1 otherwise. Raises InvalidInput."""
    recipes = [parse_recipe(text) for text in options.recipe]
    workload = Workload.parse_words(options.workload)
    target = parse_target(options.target) if options.target else None
    # what can be refused is refused before anything heavy begins
    check_guard_rail(options.guard_rail)
    files = [_file(path) if path else None for path in (options.dataset, options.calibration)]
    check_destination(options.json)
    host = HostLock(settings.home)
    with place_for(settings, options.save) as place:
        storage = open_storage(place)
        artifact = artifact_of(options.model, storage, place, settings, host)
        if place != settings and ids_named(recipes):
            own = open_storage(settings)
            for model in models_named(recipes, own).values():
                _copy(model, own, storage)
        experiment = launch(
            storage, None, artifact, workload, recipes,
            target=target, guard_rail=options.guard_rail, name=options.name, keep_models=options.save,
            dataset=_dataset(files[0], storage, place), calibration=_dataset(files[1], storage, place),
            extra={"launched_by": "command line", **({VERIFY_AA: True} if options.verify_aa else {})},
        )  # fmt: skip
        while not run_experiment(experiment.id, storage, place, _tell, host=host, wait=say_who_holds()):
            time.sleep(1)  # a worker found the experiment first
        runs = storage.runs.of_experiment(experiment.id)
        noise = noise_by_run(storage, runs)
        show(as_json_data(experiment, artifact, runs, noise), table(experiment, runs, noise), options.json)
    return 0 if all(r.status in FINE for r in runs) else 1


@contextmanager
def place_for(settings: Settings, save: bool) -> Iterator[Settings]:
    """The installation itself, or one that lasts as long as this command."""
    if save:
        yield settings
        return
    with scratch(settings) as home:
        _take_figures(settings.home, home)
        yield replace(
            settings,
            home=home,
            database_url=f"sqlite:///{home / 'speedrail.db'}",
            artifacts_url=f"file://{home / 'store'}",
        )


def _take_figures(own: Path, home: Path) -> None:
    """What tools found in the installation's home is computed from in this one as well."""
    for figures in filter(None, (spec.figures for spec in TECHNIQUES)):
        (home / figures).mkdir(parents=True)
        for path in (own / figures).glob("*.json"):
            shutil.copy(path, home / figures)


def artifact_of(model: str, storage: Storage, place: Settings, settings: Settings, host: HostLock) -> Artifact:
    if Path(model).expanduser().exists():
        return take_in_path(Path(model), "", storage, place, host)
    try:
        own = storage if place == settings else open_storage(settings)
        artifact = own.artifacts.get(model)
    except NotFound:
        raise NotFound(
            f"{model} is neither a path nor the id of an artifact.",
            mend="See `python -m engine intake`.",
            where="PATH_OR_ID",
        ) from None
    if own is not storage:
        _copy(artifact, own, storage)
    return artifact


def _copy(artifact: Artifact, own: Storage, storage: Storage) -> None:
    """Into the storage that lasts as long as this command."""
    storage.files.put_directory(artifact.id, own.files.local_path(artifact.id))
    storage.artifacts.add(artifact)


def _file(path: str) -> Path:
    source = Path(path).expanduser()
    if not source.is_file():
        raise InvalidInput(f"There is no file {path}.", mend="Give the path of a .txt, CSV, JSONL or NPZ file.")
    return source.resolve()


def _dataset(path: Path | None, storage: Storage, place: Settings) -> DatasetRef | None:
    """Raises InvalidInput when the file is not a dataset."""
    if path is None:
        return None
    from engine.intake.datasets import take_in_dataset

    return take_in_dataset(path, storage, place)


_told: dict[str, str] = {}


def _tell(run: Run, progress: Progress) -> None:
    """A line on standard error whenever a run enters another stage."""
    if _told.get(run.id) != progress.stage:
        _told[run.id] = progress.stage
        print(f"{run.recipe or 'baseline'}: {progress.stage}", file=sys.stderr)
