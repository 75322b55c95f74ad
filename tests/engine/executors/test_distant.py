"""Workers on other hosts as the driver sees them: their clocks, and what their keepers say when they do not answer."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from engine.domain.codec import encode
from engine.domain.errors import StageError
from engine.domain.layout import Workers, largest
from engine.executors.spread import distant, wire
from engine.executors.spread.clustered import Hosts
from engine.executors.spread.distant import HANDED, handed_over
from engine.executors.spread.executor import SpreadExecutor
from engine.executors.spread.group import Group
from engine.executors.spread.keeper import Order
from engine.executors.spread.peers import Peer

AHEAD = 1000.0


class Host:
    """A worker whose host was started earlier than this one, and its keeper: both ends of both connections."""

    def __init__(self, said: dict[str, Any]) -> None:
        self.said: dict[str, Any] | None = said
        self.connection, self.worker = socket.socketpair()
        self.link, self.keeper = socket.socketpair()
        for end, answer in ((self.worker, self._work), (self.keeper, self._keep)):
            threading.Thread(target=self._serve, args=(end, answer), daemon=True).start()

    def _serve(self, end: socket.socket, answer: Any) -> None:
        with suppress(OSError):
            while True:
                if (found := answer(wire.receive(end)[0])) is not None:
                    wire.send(end, found)

    def _work(self, message: dict[str, Any]) -> dict[str, Any] | None:
        if message["do"] == "clock":
            return {"now": time.monotonic() + AHEAD}
        if message["do"] == "trace":
            return {"events": [["compute", 0, AHEAD + 1.0, AHEAD + 2.0, 0]]}
        return {"began": message["began"]} if "began" in message else None

    def _keep(self, message: dict[str, Any]) -> dict[str, Any] | None:
        return self.said


@pytest.fixture
def host() -> Host:
    return Host({"ended": "", "cause": "it is stopped (SIGSTOP)", "log": "its last words", "pss": 5, "rss": 7, "peak": 9})


@pytest.fixture
def peers(host: Host, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Peer]]:
    own = {"rank": 0, "host": "other at 10.0.0.2", "pid": 5, "address": "10.0.0.2", "port": 1, "device": 0}
    monkeypatch.setenv(HANDED, json.dumps([own | {"connection": host.connection.detach(), "keeper": host.link.detach()}]))
    monkeypatch.setattr(distant, "KEEPER_SECONDS", 0.5)
    yield handed_over()


def test_what_a_host_says_by_its_clock_is_told_by_ours(peers: list[Peer]) -> None:
    assert peers[0].ahead == pytest.approx(AHEAD, abs=0.1)
    group = Group(peers, 5.0)
    ((answer, _),) = group.ask({"do": "generate", "began": 1.0})
    assert answer["began"] == pytest.approx(AHEAD + 1.0, abs=0.1)
    executor = SpreadExecutor([group], 1, {})
    (((event,),)) = executor.trace()
    assert (event.begin, event.end) == (pytest.approx(1.0, abs=0.1), pytest.approx(2.0, abs=0.1))
    assert executor.bytes_elsewhere() == 9


def test_a_stopped_worker_is_named_with_its_host(peers: list[Peer]) -> None:
    with pytest.raises(StageError) as failure:
        Group(peers, 0.2).ask({"do": "infer"})
    assert failure.value.what == "rank 0 on other at 10.0.0.2 (pid 5) did not answer within 0.2 s: it is stopped (SIGSTOP)."
    assert failure.value.detail == "its last words"


def test_a_host_whose_keeper_is_silent_is_cut_off(host: Host, peers: list[Peer]) -> None:
    host.said = None
    with pytest.raises(StageError, match=r"did not answer within 0\.2 s: its host does not answer: it is down, or the link to it is cut"):
        Group(peers, 0.2).ask({"do": "infer"})


def test_a_host_whose_keeper_has_gone_has_ended(host: Host, peers: list[Peer]) -> None:
    host.keeper.shutdown(socket.SHUT_RDWR)
    host.worker.shutdown(socket.SHUT_RDWR)
    with pytest.raises(StageError, match=r"is gone: its connection closed and its host's keeper has gone too"):
        Group(peers, 5.0).ask({"do": "infer"})


def test_a_worker_that_ended_is_told_how(host: Host, peers: list[Peer]) -> None:
    host.said = {"ended": "it ended (SIGKILL)"}
    host.worker.shutdown(socket.SHUT_RDWR)
    with pytest.raises(StageError, match=r"rank 0 on other at 10\.0\.0\.2 \(pid 5\) is gone: it ended \(SIGKILL\)\."):
        Group(peers, 5.0).ask({"do": "infer"})


@pytest.mark.parametrize(
    ("workers", "ranks"), [(Workers(3, 2), [[0, 1], [2]]), (Workers(2, 2), [[0], [1]]), (Workers(4, 2), [[0, 1], [2, 3]])]
)
def test_workers_are_shared_out_over_hosts(workers: Workers, ranks: list[list[int]]) -> None:
    assert [list(workers.ranks(host)) for host in range(workers.hosts)] == ranks


def test_the_largest_covers_all() -> None:
    assert largest([]) == Workers(1)
    found = largest([Workers(4, 2), Workers(3, 3)])
    assert (found.hosts, found.each) == (3, 2) and found.cover(Workers(4, 2)) and not Workers(4, 2).cover(found)


class FakeRay:
    """As much of Ray as reserves and answers: hosts of two cores; every keeper ends as `ending` says."""

    exceptions = SimpleNamespace(RayError=RuntimeError)

    def __init__(self, hosts: int, ending: tuple[int, str, str] = (0, "", "")) -> None:
        self.hosts, self.ending, self.reserved = hosts, ending, list[tuple[int, float]]()
        self.util = SimpleNamespace(
            placement_group=self._reserve, placement_group_table=lambda _: {"bundles_to_node_id": {i: f"node {i}" for i in range(hosts)}}
        )

    def nodes(self) -> list[dict[str, Any]]:
        return [{"NodeID": f"node {i}", "NodeManagerAddress": f"10.0.0.{i}", "Alive": True, "Resources": {"CPU": 2.0}} for i in range(self.hosts)]

    def remote(self, function: Any) -> Any:
        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=lambda order, folder: order))

    def wait(self, asked: list[Any]) -> tuple[list[Any], list[Any]]:
        return asked[:1], asked[1:]

    def get(self, _: Any) -> tuple[int, str, str]:
        return self.ending

    def _reserve(self, bundles: list[dict[str, float]], strategy: str) -> Any:
        assert strategy == "STRICT_SPREAD"
        self.reserved.append((len(bundles), bundles[0]["CPU"]))
        return SimpleNamespace(wait=lambda seconds: True)


ORDER = Order("10.0.0.0", 1, "token", "code", (), 1, 60.0, "partial", accelerators=False)


def test_recipes_that_take_turns_share_one_reservation() -> None:
    ray = FakeRay(3)
    hosts, most = Hosts(ray), Workers(4, 2)
    for workers in (Workers(2, 2), Workers(4, 2), Workers(3, 2)):
        hosts.start(workers, most, ORDER)
    assert ray.reserved == [(2, 2)]
    # what nobody can have at once is reserved one by one
    ray = FakeRay(3)
    hosts = Hosts(ray)
    for workers in (Workers(3, 3), Workers(4, 2)):
        hosts.start(workers, Workers(9, 3), ORDER)
    assert ray.reserved == [(3, 1), (2, 2)]


def test_a_cluster_that_is_too_small_says_how_it_grows() -> None:
    with pytest.raises(StageError, match="The cluster has 3 of 4 hosts with 1 core each") as refusal:
        Hosts(FakeRay(3)).start(Workers(4, 4), Workers(4, 4), ORDER)
    assert "RAY_AUTH_MODE=token ray start --address=" in refusal.value.mend
    with pytest.raises(StageError, match="0 of 2 hosts with 1 GPU each"):
        Hosts(FakeRay(3)).start(Workers(2, 2), Workers(2, 2), replace(ORDER, accelerators=True))


def test_what_a_keeper_refuses_is_raised() -> None:
    problem = encode(StageError("vm at 10.0.0.2 has no /models.", mend="Share it.").as_problem())
    with pytest.raises(StageError, match=r"vm at 10\.0\.0\.2 has no /models\. Share it\."):
        Hosts(FakeRay(2, (1, f"noise\n{problem}\n", ""))).start(Workers(2, 2), Workers(2, 2), ORDER)
    with pytest.raises(StageError, match="A host's keeper ended with exit code 3") as failure:
        Hosts(FakeRay(2, (3, "", "Traceback"))).start(Workers(2, 2), Workers(2, 2), ORDER)
    assert failure.value.detail == "Traceback"
