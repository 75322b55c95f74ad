"""Shares: nothing but the right token, in time and not revoked, opens one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from engine.domain.errors import InvalidInput, NotFound
from storage import Storage

TOMORROW = timedelta(days=1)


def test_a_token_opens_its_experiment_until_it_is_revoked(storage: Storage, add_experiment) -> None:
    (run,), (other,) = add_experiment(""), add_experiment("")
    share, token = storage.shares.create(run.experiment_id, datetime.now(UTC) + TOMORROW)
    second, second_token = storage.shares.create(run.experiment_id, datetime.now(UTC) + TOMORROW)
    assert token != second_token and len(token) >= 43
    assert storage.shares.by_token(token) == share
    assert share.experiment_id == run.experiment_id
    assert {s.id for s in storage.shares.list(run.experiment_id)} == {share.id, second.id}
    assert storage.shares.list(other.experiment_id) == []

    storage.shares.revoke(share.id)
    assert storage.shares.by_token(token) is None
    assert storage.shares.by_token(second_token) == second
    (revoked,) = [s for s in storage.shares.list(run.experiment_id) if s.id == share.id]
    assert revoked.revoked_at is not None
    storage.shares.revoke(share.id)
    assert revoked in storage.shares.list(run.experiment_id), "the moment of the first revocation stays"


def test_an_expired_share_is_closed(storage: Storage, add_experiment) -> None:
    (run,) = add_experiment("")
    share, token = storage.shares.create(run.experiment_id, datetime.now(UTC) + TOMORROW)
    with storage._database.write() as session:
        session.execute(text("UPDATE shares SET expires_at = created_at"))
    assert storage.shares.by_token(token) is None
    assert [s.id for s in storage.shares.list(run.experiment_id)] == [share.id]
    with pytest.raises(InvalidInput, match="future"):
        storage.shares.create(run.experiment_id, datetime.now(UTC) - timedelta(seconds=1))


def test_the_token_is_not_in_the_database(storage: Storage, add_experiment) -> None:
    (run,) = add_experiment("")
    _, token = storage.shares.create(run.experiment_id, datetime.now(UTC) + TOMORROW)
    with storage._database.read() as session:
        (row,) = session.execute(text("SELECT * FROM shares")).all()
    assert token not in str(row)
    for guess in ("", token[:-1], token + "a", str(row.token_sha256), "%", "\ud800"):
        assert storage.shares.by_token(guess) is None


def test_unknown_things_are_not_shared(storage: Storage) -> None:
    with pytest.raises(NotFound):
        storage.shares.create("nothing", datetime.now(UTC) + TOMORROW)
    with pytest.raises(NotFound):
        storage.shares.revoke("nothing")
