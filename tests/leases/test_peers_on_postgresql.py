"""Several runtimes that have a store on PostgreSQL: calls find their objects over TCP, and one
whose lease is over says nothing any more."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import anyio
import attrs
import pytest

import durable
from durable._postgres.leases import Leases
from durable._postgres.store import PostgresStore
from tests.postgres import server
from tests.shards.conftest import Processes

pytestmark = pytest.mark.anyio

LIMITS = durable.Limits(shutdown_s_max=1.0, lease_s=60.0)
PEERS = durable.Peers(listen="127.0.0.1:0", secret="the secret of sixteen bytes and more")


class Counter(durable.DurableObject):
    async def increment(self) -> int:
        value: int = await self.ctx.storage.get("value", 0) + 1
        self.ctx.storage.put("value", value)
        return value

    async def value(self) -> int:
        value: int = await self.ctx.storage.get("value", 0)
        return value

    async def alarm(self) -> None:
        await self.increment()

    async def ring_at(self, time_s: float) -> None:
        await self.ctx.storage.set_alarm(time_s)

    async def fetch(self, request: durable.Request) -> durable.Response:
        client, server = durable.WebSocketPair()
        self.ctx.accept_websocket(server)
        return durable.Response(status=101, websocket=client)

    async def websocket_message(self, ws: durable.WebSocket, message: str | bytes) -> None:
        ws.send(f"{message}: {await self.increment()}")


class Machines(Processes):
    """The runtimes of one store on PostgreSQL."""

    url: str

    async def start(self, **options: Any) -> durable.Runtime:
        options.setdefault("limits", LIMITS)
        options.setdefault("bindings", self.bindings)
        opening = durable.open(self.url, peers=PEERS, **options)
        runtime = await opening.start()
        self.openings[runtime] = opening
        return runtime

    def leases(self, runtime: durable.Runtime) -> Leases:
        shared = self.store(runtime)._disks.shared
        assert isinstance(shared, PostgresStore)
        return shared.leases

    def execute(self, sql: str) -> list[tuple[Any, ...]]:
        return server().execute(sql, self.url.rpartition("/")[2])


@pytest.fixture
async def machines(url: str) -> AsyncIterator[Machines]:
    machines = Machines(None, {"COUNTERS": Counter})  # type: ignore[arg-type]
    machines.url = url
    async with AsyncExitStack() as stack:

        async def stop_all() -> None:
            for runtime in list(machines.openings):
                await machines.stop(runtime)

        stack.push_async_callback(stop_all)
        yield machines


async def test_every_process_calls_every_object(machines: Machines) -> None:
    """They count on where others have counted, whoever has the object; and so do alarms."""
    one, other = await machines.start(), await machines.start()
    await machines.settle()
    assert len(machines.shards(one)) == len(machines.shards(other)) == 512
    for name in map(str, range(10)):
        assert await one.env.COUNTERS.get_by_name(name).increment() == 1
        assert await other.env.COUNTERS.get_by_name(name).increment() == 2
    there = machines.name_in(other, other.env.COUNTERS, "rings ")
    await one.env.COUNTERS.get_by_name(there).ring_at(1.0)
    with anyio.fail_after(10):
        while await one.env.COUNTERS.get_by_name(there).value() == 0:
            await anyio.sleep(0.01)

    assert {peer.id for peer in await one.peers()} == {peer.id for peer in await other.peers()}


async def test_shards_go_to_who_is_left(machines: Machines) -> None:
    one, other = await machines.start(), await machines.start()
    await machines.settle()
    names = [str(number) for number in range(6)]
    for name in names:
        await one.env.COUNTERS.get_by_name(name).increment()
    await machines.stop(one)
    await machines.settle()

    assert len(machines.shards(other)) == 1_024
    for name in names:
        assert await other.env.COUNTERS.get_by_name(name).increment() == 2


async def test_a_socket_follows_its_object_from_machine_to_machine(machines: Machines) -> None:
    """As often as that moves; the process that has accepted it keeps it open."""
    one, two = await machines.start(), await machines.start()
    await machines.settle()
    names = list(itertools.islice(machines.names_in(two, two.env.COUNTERS), 5))
    sockets = []
    for name in names:
        stub = one.env.COUNTERS.get_by_name(name)
        response = await stub.fetch("http://counter/", headers={"upgrade": "websocket"})
        assert response.websocket is not None
        response.websocket.accept()
        sockets.append(response.websocket)

    async def all_hear(what: str) -> None:
        for ws in sockets:
            ws.send("count")
            with anyio.fail_after(10):
                assert await anext(ws) == what

    await all_hear("count: 1")
    three = await machines.start()
    await machines.settle()
    await all_hear("count: 2")
    await machines.stop(two)
    await machines.settle()
    await all_hear("count: 3")
    await machines.stop(three)
    await machines.settle()
    assert len(machines.shards(one)) == 1_024
    await all_hear("count: 4")


async def test_a_class_is_deleted_by_a_process_that_has_the_store_alone(machines: Machines) -> None:
    """One that is at work would store what no deletion finds any more."""
    first = durable.Migration(tag="v1", new_classes=("Counter",))
    gone = durable.Migration(tag="v2", deleted_classes=("Counter",))
    one = await machines.start(migrations=[first])
    assert await one.env.COUNTERS.get_by_name("a").increment() == 1

    with pytest.raises(durable.StoreInUse, match=r"deletes a class \(Counter\) needs the store"):
        await machines.start(migrations=[first, gone], bindings={})
    assert await one.env.COUNTERS.get_by_name("a").increment() == 2
    await machines.stop(one)
    await machines.start(migrations=[first, gone], bindings={})
    with anyio.fail_after(10):
        while machines.execute("select keyspace from durable.records"):
            await anyio.sleep(0.01)

    assert machines.execute("select base from durable.objects") == []


async def test_one_whose_lease_is_over_says_nothing_and_joins_again(machines: Machines) -> None:
    """P19: neither a read nor a write of it is heard, whatever the other process has done since."""
    one, other = await machines.start(), await machines.start()
    await machines.settle()
    name = machines.name_in(one, one.env.COUNTERS)
    mine = one.env.COUNTERS.get_by_name(name)
    assert await mine.increment() == 1
    before = machines.leases(one).number
    # As if it had been stopped: by its own clock its lease is over.
    machines.leases(one).lease.valid_until = 0.0
    with pytest.raises(durable.ObjectSuperseded) as caught:
        await mine.value()
    assert caught.value.reset
    assert caught.value.retryable

    # It comes back under another number, and its objects are as they were.
    with anyio.fail_after(20):
        while machines.leases(one).number == before:
            await anyio.sleep(0.01)
    await machines.settle()
    assert await other.env.COUNTERS.get_by_name(name).increment() == 2
    assert await one.env.COUNTERS.get_by_name(name).increment() == 3


async def test_one_whose_lease_is_over_does_not_come_back_to_a_class_that_was_deleted(
    machines: Machines, caplog: pytest.LogCaptureFixture
) -> None:
    """It would store what no deletion finds any more. Its calls find no owner here."""
    first = durable.Migration(tag="v1", new_classes=("Counter",))
    gone = durable.Migration(tag="v2", deleted_classes=("Counter",))
    limits = attrs.evolve(LIMITS, unreachable_s_max=0.2)
    one = await machines.start(migrations=[first], limits=limits)
    assert await one.env.COUNTERS.get_by_name("a").increment() == 1
    # As if it had been stopped, and another one had waited for the end of its lease.
    machines.execute("update durable.processes set expires = now() - interval '1 minute'")
    machines.execute("update durable.processes set machine = 'another'")
    other = await machines.start(migrations=[first, gone], bindings={})
    machines.leases(one).lease.valid_until = 0.0
    with pytest.raises(durable.DurableError):
        await one.env.COUNTERS.get_by_name("a").increment()
    with anyio.fail_after(20):
        while "Counter was deleted by a migration of another process" not in caplog.text:
            await anyio.sleep(0.01)
        while machines.execute("select keyspace from durable.records"):
            await anyio.sleep(0.01)

    with pytest.raises(durable.DurableError):
        await one.env.COUNTERS.get_by_name("a").increment()
    assert machines.execute("select base from durable.objects") == []
    assert machines.shards(one) == set()
    await machines.stop(other)


async def test_a_process_that_was_declared_dead_can_store_nothing(machines: Machines) -> None:
    """The epoch refuses it, although it believes in its lease."""
    one = await machines.start()
    name = machines.name_in(one, one.env.COUNTERS)
    mine = one.env.COUNTERS.get_by_name(name)
    assert await mine.increment() == 1
    machines.execute("update durable.shards set owner = 0, epoch = epoch + 1")
    with pytest.raises(durable.ObjectSuperseded):
        await mine.increment()

    assert machines.execute("select count(*) from durable.records") == [(1,)]


async def test_another_secret_is_refused_at_the_opening(machines: Machines) -> None:
    await machines.start()
    other = durable.Peers(listen="127.0.0.1:0", secret="a secret of somebody else's store")
    with pytest.raises(durable.DurableError, match="another secret"):
        await durable.open(machines.url, peers=other, bindings={"COUNTERS": Counter}).start()


async def _counts_on(counters: Any, name: str) -> int:
    """The next count, once the object can be stored again."""
    with anyio.fail_after(20):
        while True:
            try:
                count: int = await counters.get_by_name(name).increment()
            except durable.ObjectSuperseded:
                await anyio.sleep(0.01)
            else:
                return count


async def test_shards_whose_claim_the_database_has_lost_are_claimed_again(
    machines: Machines,
) -> None:
    """A standby that lacks the claim may have taken its place. The lease is valid all the time."""
    one = await machines.start()
    counters = one.env.COUNTERS
    assert await counters.get_by_name("a").increment() == 1
    assert await counters.get_by_name("b").increment() == 1
    before = machines.leases(one).number
    machines.execute("update durable.shards set owner = 0, epoch = epoch + 1")

    assert await _counts_on(counters, "a") == 2
    assert await _counts_on(counters, "b") == 2
    assert machines.leases(one).number == before


async def test_a_shard_that_a_process_does_not_know_to_be_its_own_is_free(
    machines: Machines,
) -> None:
    """Where the answer to a claim was lost, and the shard was to be another one's by then."""
    one, other = await machines.start(), await machines.start()
    await machines.settle()
    counters, name = one.env.COUNTERS, machines.name_in(one, one.env.COUNTERS)
    assert await counters.get_by_name(name).increment() == 1
    number, before = machines.leases(other).number, machines.leases(one).number
    machines.execute(f"update durable.shards set owner = {number}, epoch = epoch + 1")
    await anyio.to_thread.run_sync(machines.leases(other).refresh)

    assert await _counts_on(counters, name) == 2
    await anyio.to_thread.run_sync(machines.leases(one).refresh)
    await machines.settle()
    assert machines.leases(one).number == before
