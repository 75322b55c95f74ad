"""Uploads slice by slice: tickets, tokens, resuming, and what bad requests are told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from engine.settings import Settings
from engine.worker import worker_lock
from pages.http import uploads
from pages.http.tickets import TICKETS, TicketBook
from pages.parts.shell import resources
from storage import Storage


@pytest.fixture
def client(client_of: Callable[..., TestClient]) -> TestClient:
    return client_of()


@pytest.fixture
def no_worker(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """Which installations would have been given a worker."""
    asked: list[Settings] = []
    monkeypatch.setattr(uploads, "ensure_worker", lambda settings: asked.append(settings))
    return asked


def begin(client: TestClient, size: int = 10, name: str = "model.zip") -> dict[str, Any]:
    answer = client.post("/api/uploads", headers={"X-Upload-Ticket": TICKETS.issue()}, json={"name": name, "size": size})
    assert answer.status_code == 201
    made: dict[str, Any] = answer.json()
    return made


def put(client: TestClient, upload: dict[str, Any], offset: int, data: bytes) -> Any:
    return client.put(
        f"/api/uploads/{upload['id']}?offset={offset}", headers={"X-Upload-Token": upload["token"]}, content=data
    )


def test_slices_resume_and_become_an_intake(client: TestClient, storage: Storage, no_worker: list[Settings]) -> None:
    upload = begin(client)
    token = {"X-Upload-Token": upload["token"]}
    assert put(client, upload, 0, b"01234").json() == {"received": 5}
    assert put(client, upload, 0, b"01234").json() == {"received": 5}
    assert client.get(f"/api/uploads/{upload['id']}", headers=token).json() == {"received": 5}
    assert put(client, upload, 5, b"56789").json() == {"received": 10}
    finished = client.post(f"/api/uploads/{upload['id']}/finish", headers=token, json={"purpose": "model"})
    job = storage.intakes.get(finished.json()["intake"])
    assert (job.name, job.source) == ("model", "model.zip")
    assert Path(job.path).read_bytes() == b"0123456789"
    assert job.id in resources().queue.active()
    assert [worker_lock(s) for s in no_worker] == [worker_lock(resources().settings)]


def test_a_ticket_starts_one_upload(client: TestClient) -> None:
    ticket = {"X-Upload-Ticket": TICKETS.issue()}
    body = {"name": "m.onnx", "size": 3}
    first = client.post("/api/uploads", headers=ticket, json=body)
    again = client.post("/api/uploads", headers=ticket, json=body)
    assert (first.status_code, again.status_code) == (201, 400)
    assert "Reload the page" in again.json()["mend"]
    follow_up = client.post("/api/uploads", headers={"X-Upload-Ticket": first.json()["ticket"]}, json=body)
    assert follow_up.status_code == 201


def test_without_its_token_an_upload_cannot_be_touched(client: TestClient) -> None:
    upload = begin(client)
    stranger = {**upload, "token": "guessed"}
    headers = {"X-Upload-Token": "guessed"}
    path = f"/api/uploads/{upload['id']}"
    assert put(client, stranger, 0, b"x").status_code == 400
    assert client.get(path, headers=headers).status_code == 400
    assert client.delete(path, headers=headers).status_code == 400
    assert client.post(f"{path}/finish", headers=headers, json={"purpose": "model"}).status_code == 400
    assert put(client, upload, 0, b"0123456789").status_code == 200


def test_a_discarded_upload_is_gone(client: TestClient) -> None:
    upload = begin(client)
    headers = {"X-Upload-Token": upload["token"]}
    assert client.delete(f"/api/uploads/{upload['id']}", headers=headers).status_code == 204
    assert client.get(f"/api/uploads/{upload['id']}", headers=headers).status_code == 404


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"name": 1, "size": 2}', b'{"name": "x", "size": "2"}', b'{"name": "x", "size": true}', b"\xff"]
)
def test_nonsense_is_refused_with_words(client: TestClient, body: bytes) -> None:
    answer = client.post("/api/uploads", headers={"X-Upload-Ticket": TICKETS.issue()}, content=body)
    assert answer.status_code == 400
    assert answer.json()["what"]


@pytest.mark.parametrize("offset", ["", "-1", "x", "1.5", "5", "99"])
def test_bad_offsets_are_refused(client: TestClient, offset: str) -> None:
    upload = begin(client)
    answer = client.put(
        f"/api/uploads/{upload['id']}?offset={offset}", headers={"X-Upload-Token": upload["token"]}, content=b"0123456789"
    )
    assert answer.status_code == 400


def test_an_unfinished_upload_cannot_be_handed_over(client: TestClient, storage: Storage) -> None:
    upload = begin(client)
    put(client, upload, 0, b"01234")
    answer = client.post(
        f"/api/uploads/{upload['id']}/finish", headers={"X-Upload-Token": upload["token"]}, json={"purpose": "model"}
    )
    assert answer.status_code == 400
    assert storage.intakes.recent() == []


def test_an_unknown_purpose_is_refused_before_anything_moves(client: TestClient) -> None:
    upload = begin(client)
    put(client, upload, 0, b"0123456789")
    headers = {"X-Upload-Token": upload["token"]}
    answer = client.post(f"/api/uploads/{upload['id']}/finish", headers=headers, json={"purpose": "virus"})
    assert answer.status_code == 400
    assert client.get(f"/api/uploads/{upload['id']}", headers=headers).json() == {"received": 10}


def test_a_body_longer_than_any_slice_is_cut_off(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "_LARGEST_BODY", 1000)
    upload = begin(client, size=5000)
    answer = put(client, upload, 0, b"x" * 2000)
    assert answer.status_code == 400
    assert "at most 1000 bytes" in answer.json()["what"]


def test_a_dataset_is_read_and_kept(client: TestClient, storage: Storage) -> None:
    text = "".join(f"this is sentence {number}\n" for number in range(20)).encode()
    upload = begin(client, size=len(text), name="lines.txt")
    put(client, upload, 0, text)
    answer = client.post(
        f"/api/uploads/{upload['id']}/finish", headers={"X-Upload-Token": upload["token"]}, json={"purpose": "dataset"}
    )
    assert answer.status_code == 200, answer.json()
    dataset = storage.datasets.get(answer.json()["dataset"])
    assert (dataset.name, dataset.items, dataset.labelled) == ("lines.txt", 20, False)


def test_a_ticket_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    book, now = TicketBook(), [0.0]
    monkeypatch.setattr("pages.http.tickets.time.monotonic", lambda: now[0])
    ticket = book.issue()
    assert book.is_valid(ticket)
    now[0] = 13 * 3600.0
    assert not book.is_valid(ticket)
    assert not book.redeem(ticket)
