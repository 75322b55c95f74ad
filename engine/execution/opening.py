"""What a child is told and may read to open a run's lowered model."""

from __future__ import annotations

from pathlib import Path

from engine.execution.transforming import data_files
from engine.execution.work import Prepared, Work
from engine.host import this_host
from engine.requests import OpenRequest


def answers_dir(work: Work, prepared: Prepared) -> Path:
    """Where a run's child leaves its answers; removed when the experiment is left."""
    return work.place / f"measure-{prepared.run.id}"


def opening(work: Work, prepared: Prepared) -> tuple[OpenRequest, tuple[Path, ...]]:
    """What a child needs to open a run's lowered model, and the paths it reads."""
    experiment, storage = work.experiment, work.storage
    scratch = answers_dir(work, prepared)
    scratch.mkdir(exist_ok=True)
    dataset, calibration = data_files(experiment, storage)
    artifact_dir = storage.files.local_path(work.artifact.id)
    lowered = prepared.transformed.lowered
    request = OpenRequest(
        lowered=lowered,
        artifact_dir=str(artifact_dir),
        card=work.artifact.card,
        workload=experiment.workload,
        dataset_file=str(dataset or ""),
        threads=experiment.workload.threads or this_host().cores,
        scratch_dir=str(scratch),
        calibration_file=str(calibration or ""),
    )
    return request, (artifact_dir, Path(lowered.directory), *filter(None, (dataset, calibration)))
