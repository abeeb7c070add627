"""What a process on PostgreSQL has of a shard that it gives up: nothing, once others may have it.

All shards of a process have one engine, which stays when one of them goes. So what is left of an
object would go on by it, and by the lease, which lasts.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, ClassVar

import anyio
import pytest
from attrs import define, field

import durable
import durable.testing
from durable._engine.shards import Owned
from durable._postgres.store import PostgresStore
from durable._runtime.open_shared import OpenSharedStore
from durable._runtime.shard_disks import ShardDisks

pytestmark = pytest.mark.backends("asyncio", "trio")

PEERS = durable.Peers(listen="127.0.0.1:0", secret="the secret of sixteen bytes and more")
LIMITS = durable.Limits(shutdown_s_max=0.05, lease_s=60.0)


class Counter(durable.DurableObject):
    built: ClassVar[dict[str | None, Counter]]
    may_ask: ClassVar[anyio.Event]

    def __init__(self, ctx: durable.State, env: Any) -> None:
        super().__init__(ctx, env)
        self.built[ctx.id.name] = self

    async def increment(self) -> int:
        value: int = await self.ctx.storage.get("value", 0) + 1
        self.ctx.storage.put("value", value)
        return value

    async def ask_through(self, between: str, last: str) -> None:
        await self.env.COUNTERS.get_by_name(between).ask_later(last)

    async def ask_later(self, last: str) -> None:
        await self.may_ask.wait()
        await self.env.COUNTERS.get_by_name(last).increment()


@define
class Giving:
    """A process that gives up the shard of the object `a`. As soon as the last turns there have
    ended, a callback of the loop writes to it, and commits are held."""

    opening: durable.testing.open
    runtime: durable.Runtime
    holds: ExitStack = field(factory=ExitStack)
    # The shards that others may have.
    released: list[int] = field(factory=list)
    # An object of the shard, and whether it was in memory then.
    watched: str = "a"
    was_live: bool | None = None

    @property
    def store(self) -> OpenSharedStore:
        assert isinstance(self.opening._open, OpenSharedStore)
        return self.opening._open

    def shard_of(self, name: str) -> int:
        return self.store._disks.shard_of(self.runtime.env.COUNTERS.get_by_name(name).id.raw)

    def name_in(self, shard: int) -> str:
        names = (f"n{number}" for number in range(100_000))
        return next(name for name in names if self.shard_of(name) == shard)

    def is_live(self, name: str) -> bool:
        object_id = self.runtime.env.COUNTERS.get_by_name(name).id
        return self.store._directory.live(object_id) is not None

    async def begin(self) -> None:
        """Return when the object is out of memory, and its batch is on its way."""
        self.store._start_giving(self.shard_of("a"))
        with anyio.fail_after(10):
            while self.is_live("a"):
                await anyio.sleep(0.001)

    async def end(self) -> None:
        self.holds.close()
        with anyio.fail_after(10):
            while not self.released:
                await anyio.sleep(0.001)


@pytest.fixture
async def giving(url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    faults, finish, release = durable.testing.Faults(), ShardDisks.finish, PostgresStore.release
    Counter.built = {}
    opening = durable.testing.open(
        url, bindings={"COUNTERS": Counter}, limits=LIMITS, peers=PEERS, faults=faults
    )
    async with opening as runtime:
        giving = Giving(opening, runtime)

        async def finish_and_write(disks: ShardDisks, shard: int) -> None:
            await finish(disks, shard)
            monkeypatch.undo()
            giving.holds.enter_context(faults.hold_commits())
            Counter.built["a"].ctx.storage.put("value", 99)
            [disk] = disks
            while not disk.committer.waiting:
                await anyio.sleep(0)
            monkeypatch.setattr(PostgresStore, "release", release_it)

        def release_it(store: PostgresStore, shard: int) -> Owned:
            giving.released.append(shard)
            giving.was_live = giving.is_live(giving.watched)
            return release(store, shard)

        monkeypatch.setattr(ShardDisks, "finish", finish_and_write)
        with giving.holds:
            yield giving


async def test_a_shard_is_given_up_when_nothing_is_on_its_way_to_it_any_more(
    giving: Giving,
) -> None:
    """Stored under a later claim of this process, it would be over what others have stored
    meanwhile."""
    counters = giving.runtime.env.COUNTERS
    assert await counters.get_by_name("a").increment() == 1
    await giving.begin()
    await anyio.sleep(0.05)

    assert giving.released == []
    await giving.end()
    assert await counters.get_by_name("a").increment() == 100


async def test_a_call_on_behalf_of_the_shard_that_comes_late_goes_to_the_next_owner(
    giving: Giving,
) -> None:
    """What runs in other shards may call its objects until what it runs for has ended, and then as
    all others may: the object would be left in memory here."""
    counters = giving.runtime.env.COUNTERS
    last = giving.name_in(giving.shard_of("a"))
    await counters.get_by_name("a").increment()
    Counter.may_ask = anyio.Event()
    asking = counters.get_by_name("a").ask_through("between", last)
    while not giving.is_live("between"):
        await anyio.sleep(0)
    await giving.begin()
    Counter.may_ask.set()
    await anyio.sleep(0.05)

    assert last not in Counter.built
    await giving.end()
    with anyio.fail_after(10):
        while last not in Counter.built:
            await anyio.sleep(0.001)
    assert await counters.get_by_name(last).increment() == 2
    with pytest.raises(durable.DurableError):
        await asking


async def test_an_object_that_is_woken_late_is_not_left_in_memory(giving: Giving) -> None:
    """By an operator, say."""
    counters = giving.runtime.env.COUNTERS
    last = counters.get_by_name(giving.name_in(giving.shard_of("a")))
    await counters.get_by_name("a").increment()
    await giving.begin()
    giving.store._directory.activation_of(last.id, Counter, 1)
    giving.watched = last.name
    await giving.end()

    assert giving.was_live is False
