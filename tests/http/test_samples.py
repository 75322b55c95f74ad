"""Raw samples as Parquet."""

from __future__ import annotations

import io
import json
from collections.abc import Callable

import pyarrow.parquet
from starlette.testclient import TestClient

from storage import Storage
from tests.pages.seed import seed_artifact, seed_experiment


def test_every_sample_of_a_run_comes_back(client_of: Callable[..., TestClient], storage: Storage) -> None:
    experiment = seed_experiment(storage, seed_artifact(storage))
    run = storage.runs.of_experiment(experiment.id)[1]
    answer = client_of().get(f"/samples/{run.id}")
    assert answer.status_code == 200
    assert ".parquet" in answer.headers["content-disposition"]
    table = pyarrow.parquet.read_table(io.BytesIO(answer.content))
    rows = table.to_pylist()
    stored = storage.runs.rounds(run.id)
    assert [row["value"] for row in rows] == [v for each in stored for v in each.samples["latency"]]
    assert {(row["metric"], row["unit"], row["run_id"]) for row in rows} == {("latency", "ms", run.id)}
    assert [row["round"] for row in rows] == [each.index for each in stored for _ in each.samples["latency"]]
    assert {row["outlier"] for row in rows} <= {"", "mild", "far"}
    metadata = table.schema.metadata
    assert metadata[b"recipe"].decode() == run.recipe
    assert json.loads(metadata[b"environment"])["cpu"] == "AMD EPYC"


def test_a_run_without_samples_has_none_to_give(client_of: Callable[..., TestClient], storage: Storage) -> None:
    experiment = seed_experiment(storage, seed_artifact(storage), finished=False)
    run = storage.runs.of_experiment(experiment.id)[1]
    client = client_of()
    assert client.get(f"/samples/{run.id}").status_code == 404
    assert client.get("/samples/unknown").status_code == 404
