"""Shared reports: who has the token sees that experiment, and nothing can be done with it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from starlette.testclient import TestClient

from storage import Storage
from tests.pages.seed import seed_artifact, seed_experiment


@pytest.fixture
def experiment_id(storage: Storage) -> str:
    experiment = seed_experiment(storage, seed_artifact(storage))
    storage.experiments.rename(experiment.id, "Fast & <b>curious</b>")
    return experiment.id


def test_a_guest_sees_the_shared_report(exposed: TestClient, storage: Storage, experiment_id: str) -> None:
    _, token = storage.shares.create(experiment_id, datetime.now(UTC) + timedelta(days=1))
    answer = exposed.get(f"/s/{token}")
    assert answer.status_code == 200
    assert "Fast &amp; &lt;b&gt;curious" in answer.text
    assert "<b>curious" not in answer.text
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "sandbox allow-scripts" in policy and "allow-same-origin" not in policy
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "set-cookie" not in answer.headers


def test_it_downloads_as_a_file(exposed: TestClient, storage: Storage, experiment_id: str) -> None:
    _, token = storage.shares.create(experiment_id, datetime.now(UTC) + timedelta(days=1))
    answer = exposed.get(f"/s/{token}?download")
    assert answer.headers["content-disposition"] == f'attachment; filename="speedrail-{experiment_id}.html"'


def test_revoked_expired_and_guessed_links_show_nothing(exposed: TestClient, storage: Storage, experiment_id: str) -> None:
    later = datetime.now(UTC) + timedelta(days=1)
    share, revoked = storage.shares.create(experiment_id, later)
    storage.shares.revoke(share.id)
    _, expired = storage.shares.create(experiment_id, datetime.now(UTC) + timedelta(seconds=0.3))
    _, good = storage.shares.create(experiment_id, later)
    time.sleep(0.4)
    for token in (revoked, expired, "guessed", good[:-1], good + "x", share.id):
        answer = exposed.get(f"/s/{token}")
        assert answer.status_code == 404
        assert "curious" not in answer.text


def test_a_deleted_experiment_is_not_shared_any_more(exposed: TestClient, storage: Storage, experiment_id: str) -> None:
    _, token = storage.shares.create(experiment_id, datetime.now(UTC) + timedelta(days=1))
    storage.experiments.delete(experiment_id)
    assert exposed.get(f"/s/{token}").status_code == 404


def test_on_loopback_links_work_too(client_of: Callable[..., TestClient], storage: Storage, experiment_id: str) -> None:
    _, token = storage.shares.create(experiment_id, datetime.now(UTC) + timedelta(days=1))
    assert client_of().get(f"/s/{token}").status_code == 200


def test_a_run_without_a_model_is_not_downloaded(client_of: Callable[..., TestClient], storage: Storage, experiment_id: str) -> None:
    client = client_of()
    run = storage.runs.of_experiment(experiment_id)[0]
    answer = client.get(f"/download/{run.id}")
    assert answer.status_code == 404
    assert "kept no model" in answer.text
    assert client.get("/download/unknown").status_code == 404
