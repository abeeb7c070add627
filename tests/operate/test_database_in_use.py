"""A store in a database while processes have it: who they are, and what they do, from outside."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from anyio import to_thread
from attrs import define, evolve

import durable
from durable import operate
from durable._postgres import looking
from durable.operate import watching_far
from tests import postgres
from tests.wire.certificates import make_tls

pytestmark = pytest.mark.backends("asyncio", "trio")

PEERS = durable.Peers(listen="127.0.0.1:0", secret="the secret of sixteen bytes and more")
LIMITS = durable.Limits(lease_s=60.0, shutdown_s_max=1.0)


class Counter(durable.DurableObject):
    async def increment(self) -> int:
        value: int = await self.ctx.storage.get("value", 0) + 1
        self.ctx.storage.put("value", value)
        return value


@define
class Opened:
    """A store that one process of several has open, which takes questions and orders."""

    url: str
    counter: Any

    def execute(self, sql: str) -> list[tuple[Any, ...]]:
        return postgres.server().execute(sql, self.url.rpartition("/")[2])


@pytest.fixture
def url() -> Iterator[str]:
    with postgres.store_url() as url:
        yield url


@pytest.fixture
async def opened(url: str) -> AsyncIterator[Opened]:
    opening = durable.open(
        url, peers=PEERS, bindings={"COUNTERS": Counter}, limits=LIMITS, operate=True
    )
    async with opening as runtime:
        counter = runtime.env.COUNTERS.get_by_name("a")
        await counter.increment()
        yield Opened(url, counter)


async def test_the_processes_of_a_database_are_listed(opened: Opened) -> None:
    """With their shards and addresses; one of this machine says how many objects it has."""
    opened.execute(
        "insert into durable.processes (name, pid, address, version, state, is_alone, expires) "
        "values ('far', 7, 'far:1', '1', 'ready', false, clock_timestamp() + interval '1 min'), "
        "('dead', 8, 'dead:1', '1', 'ready', false, clock_timestamp() - interval '1 min')"
    )
    far, here = await to_thread.run_sync(operate.peers, opened.url)

    assert (far.pid, far.address, far.shards, far.live_objects) == (7, "far:1", 0, None)
    assert (here.pid, here.state, here.live_objects) == (os.getpid(), "ready", 1)
    assert here.address is not None
    assert here.shards == 1_024


async def test_what_they_do_is_watched_on_their_machine(opened: Opened) -> None:
    """Calls as they happen, and the busiest objects."""
    events = await to_thread.run_sync(operate.events, opened.url)
    tops = await to_thread.run_sync(operate.tops, opened.url)
    await to_thread.run_sync(next, events)
    await to_thread.run_sync(next, tops)
    await opened.counter.increment()
    ended = await to_thread.run_sync(
        partial(next, (event for event in events if event["event"] == "DeliveryEnded"))
    )
    report = await to_thread.run_sync(next, tops)
    events.close()
    tops.close()

    assert (ended["name"], ended["method"], ended["pid"]) == ("a", "increment", os.getpid())
    assert [found["name"] for found in report["objects"]] == ["a"]


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run on another machine than the processes of the store."""
    monkeypatch.setattr(looking, "this_machine", lambda: "another one")


async def next_event(events: operate.Watching, kind: str) -> dict[str, Any]:
    found = (event for event in events if event["event"] == kind)
    return await to_thread.run_sync(partial(next, found))


@pytest.mark.usefixtures("elsewhere")
async def test_what_they_do_is_watched_from_another_machine(opened: Opened) -> None:
    """By one that knows the secret of the processes."""
    [here] = await to_thread.run_sync(operate.peers, opened.url)
    events = await to_thread.run_sync(partial(operate.events, opened.url, peers=PEERS))
    tops = await to_thread.run_sync(partial(operate.tops, opened.url, peers=PEERS))
    await to_thread.run_sync(next, events)
    await to_thread.run_sync(next, tops)
    await opened.counter.increment()
    ended = await next_event(events, "DeliveryEnded")
    report = await to_thread.run_sync(next, tops)
    events.close()
    tops.close()

    assert (ended["name"], ended["address"], ended["pid"]) == ("a", here.address, os.getpid())
    assert [found["name"] for found in report["objects"]] == ["a"]


@pytest.mark.usefixtures("elsewhere")
async def test_what_is_watched_from_another_machine_is_encrypted(url: str, tmp_path: Path) -> None:
    peers = evolve(PEERS, tls=make_tls(tmp_path))
    async with durable.open(
        url, peers=peers, bindings={"COUNTERS": Counter}, limits=LIMITS, operate=True
    ) as runtime:
        events = await to_thread.run_sync(partial(operate.events, url, peers=peers))
        await to_thread.run_sync(next, events)
        await runtime.env.COUNTERS.get_by_name("a").increment()
        assert (await next_event(events, "DeliveryEnded"))["name"] == "a"
        tops = await to_thread.run_sync(partial(operate.tops, url, sampled=True, peers=peers))
        assert (await to_thread.run_sync(next, tops))["pids"] == [os.getpid()]
        for watched in (events, tops):
            watched.close()
            await to_thread.run_sync(list, watched)


@pytest.mark.usefixtures("elsewhere")
async def test_one_that_does_not_know_the_secret_watches_nothing(opened: Opened) -> None:
    stranger = durable.Peers(listen="127.0.0.1:0", secret="another secret of enough bytes")
    with pytest.raises(operate.NotRunning, match="secret"):
        await to_thread.run_sync(partial(operate.events, opened.url, peers=stranger))
    with pytest.raises(operate.NotRunning, match="with the `peers` of its processes"):
        await to_thread.run_sync(operate.events, opened.url)


@pytest.mark.usefixtures("elsewhere")
async def test_one_that_knows_the_secret_gives_no_orders(opened: Opened) -> None:
    """Nor does it get the folder of the process: it looks."""
    process, _ = (await to_thread.run_sync(looking.processes_of, opened.url))[0]

    def ask(want: str) -> Any:
        with watching_far.connect(process, PEERS) as connection:
            connection.sendall(json.dumps({"want": want}).encode() + b"\n")
            return json.loads(connection.makefile().readline())

    for want in ("order", "folder"):
        assert "unknown request" in (await to_thread.run_sync(ask, want))["error"]
    assert (await to_thread.run_sync(ask, "statistics"))["live_objects"] == 1


@pytest.mark.usefixtures("elsewhere")
async def test_a_process_of_another_machine_that_was_not_opened_to_be_watched_says_so(
    url: str,
) -> None:
    async with durable.open(url, peers=PEERS, bindings={"COUNTERS": Counter}, limits=LIMITS):
        events = await to_thread.run_sync(partial(operate.events, url, peers=PEERS))
        with pytest.raises(ConnectionError, match="operate=True"):
            await to_thread.run_sync(next, events)


async def test_they_take_orders_on_their_machine(opened: Opened) -> None:
    """A value is put as an event of its object, and the object is seen in memory."""
    put = partial(operate.put, opened.url, "Counter", "a", "value", 10)
    await to_thread.run_sync(put)
    seen = await to_thread.run_sync(operate.in_memory, opened.url, "Counter", "a")

    assert seen.is_live
    assert await opened.counter.increment() == 11


async def test_what_cannot_be_watched_says_why(url: str) -> None:
    """Nobody has the store, or not so that it can be watched; and there is no database."""
    assert operate.peers(url) == []
    with pytest.raises(operate.NotRunning, match="on this machine"):
        operate.tops(url)
    async with durable.open(url, peers=PEERS, bindings={"COUNTERS": Counter}, limits=LIMITS):
        with pytest.raises(operate.NotRunning, match="operate=True"):
            await to_thread.run_sync(operate.events, url)
    with pytest.raises(durable.StoreUnavailable):
        operate.peers("postgresql://127.0.0.1:1/none")
