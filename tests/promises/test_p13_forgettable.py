"""P13: an idle object is evicted and rebuilt on the next event; nothing but memory is lost."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import anyio
import pytest

import durable
import durable.testing

from .conftest import Start, Store

DOORS: dict[str, anyio.Event] = {}
BORN: list[weakref.ref[Any]] = []


@pytest.fixture(autouse=True)
def fresh() -> None:
    DOORS.clear()
    DOORS.update(door=anyio.Event())
    BORN.clear()


class Memory(durable.DurableObject):
    """Has something in memory, and something in storage."""

    def __init__(self, ctx: durable.State, env: Any) -> None:
        super().__init__(ctx, env)
        self.in_memory = 0
        BORN.append(weakref.ref(self))

    def count(self) -> list[int]:
        self.in_memory += 1
        stored = self.ctx.storage.kv.get("stored", 0) + 1
        self.ctx.storage.put("stored", stored)
        return [self.in_memory, stored]

    async def wait(self) -> None:
        await DOORS["door"].wait()

    def work_on(self) -> None:
        self.ctx.wait_until(DOORS["door"].wait())

    async def fail_on(self) -> None:
        async def fail() -> None:
            raise LookupError("beside the event")

        self.ctx.wait_until(fail())

    def give_function(self) -> Any:
        def fn() -> int:
            return self.in_memory

        return fn


async def test_an_idle_object_is_evicted_after_10_s(store: Store, runtime: durable.Runtime) -> None:
    """And rebuilt on the next event, by the same stub."""
    stub = runtime.namespace(Memory).get_by_name("a")
    assert await stub.count() == [1, 1]
    await store.clock.advance(9)
    assert durable.testing.is_live(stub)
    await store.clock.advance(2)
    assert not durable.testing.is_live(stub)

    assert await stub.count() == [1, 2]


async def test_a_call_within_the_time_keeps_it(store: Store, runtime: durable.Runtime) -> None:
    """The time counts from the end of the last event."""
    stub = runtime.namespace(Memory).get_by_name("a")
    for count in range(1, 5):
        assert await stub.count() == [count, count]
        await store.clock.advance(8)


async def test_an_object_at_work_is_not_idle(
    store: Store, runtime: durable.Runtime, start: Start[None]
) -> None:
    """However long its handler waits."""
    stub = runtime.namespace(Memory).get_by_name("a")
    await stub.count()
    call = start(stub.wait())
    await store.clock.advance(100)
    assert durable.testing.is_live(stub)

    DOORS["door"].set()
    await call.result()
    await store.clock.advance(20)
    assert not durable.testing.is_live(stub)


async def test_wait_until_keeps_it_in_memory(store: Store, runtime: durable.Runtime) -> None:
    """Until the work beside the event has ended."""
    stub = runtime.namespace(Memory).get_by_name("a")
    await stub.work_on()
    await store.clock.advance(100)
    assert durable.testing.is_live(stub)

    DOORS["door"].set()
    await store.clock.advance(20)
    assert not durable.testing.is_live(stub)


async def test_work_beside_an_event_may_fail(
    store: Store, runtime: durable.Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    """That is logged, and has no other effect."""
    stub = runtime.namespace(Memory).get_by_name("a")
    await stub.fail_on()
    await store.settle()

    assert "beside the event" in caplog.text
    assert await stub.count() == [1, 1]


async def test_a_function_that_was_given_away_keeps_it(
    store: Store, runtime: durable.Runtime
) -> None:
    """It belongs to this instance, and is called in it."""
    stub = runtime.namespace(Memory).get_by_name("a")
    await stub.count()
    fn = await stub.give_function()
    await store.clock.advance(100)
    assert await fn() == 1

    del fn
    gc.collect()
    await store.clock.advance(30)
    assert not durable.testing.is_live(stub)


async def test_an_object_is_not_evicted_before_its_writes_are_on_disk(
    store: Store, runtime: durable.Runtime, start: Start[Any]
) -> None:
    """An answer that waits at the output gate is not forgotten."""
    stub = runtime.namespace(Memory).get_by_name("a")
    with store.faults.hold_commits():
        call = start(stub.count())
        await store.clock.advance(25)
        assert durable.testing.is_live(stub)
    assert await call.result() == [1, 1]


async def test_an_evicted_instance_is_freed(store: Store, runtime: durable.Runtime) -> None:
    """Nothing of ours holds it."""
    stub = runtime.namespace(Memory).get_by_name("a")
    await stub.count()
    await durable.testing.evict(stub)
    await store.settle()
    gc.collect()

    assert BORN[0]() is None


async def test_the_least_recently_used_goes_when_there_are_too_many(store: Store) -> None:
    """And comes back when it is called."""
    limits = durable.Limits(live_objects_max=20)
    async with store.open(limits=limits) as runtime:
        stubs = [runtime.namespace(Memory).get_by_name(str(number)) for number in range(50)]
        for stub in stubs:
            await stub.count()
            await store.clock.advance(0.01)
            assert runtime.statistics().live_objects <= 20

        assert durable.testing.is_live(stubs[-1])
        assert not durable.testing.is_live(stubs[0])
        assert await stubs[0].count() == [1, 2]


async def test_busy_objects_do_not_go(store: Store, start: Start[Any]) -> None:
    """Too many are too many: only idle ones are evicted."""
    limits = durable.Limits(live_objects_max=5)
    async with store.open(limits=limits) as runtime:
        stubs = [runtime.namespace(Memory).get_by_name(str(number)) for number in range(10)]
        calls = [start(stub.wait()) for stub in stubs]
        await store.settle()
        assert runtime.statistics().live_objects == 10
        DOORS["door"].set()
        for call in calls:
            await call.result()


async def test_those_that_were_too_many_go_once_they_are_idle(
    store: Store, start: Start[Any]
) -> None:
    """The next object that comes into memory finds room within the limit."""
    limits = durable.Limits(live_objects_max=5)
    async with store.open(limits=limits) as runtime:
        memories = runtime.namespace(Memory)
        calls = [start(memories.get_by_name(str(number)).wait()) for number in range(30)]
        await store.settle()
        DOORS["door"].set()
        for call in calls:
            await call.result()
        await store.settle()

        await memories.get_by_name("another").count()

        assert runtime.statistics().live_objects == 5
        assert durable.testing.is_live(memories.get_by_name("another"))


async def test_the_name_is_known_after_an_eviction(store: Store, runtime: durable.Runtime) -> None:
    """However the object is reached this time."""
    memories = runtime.namespace(Memory)
    stub = memories.get_by_name("its name")
    await stub.count()
    await durable.testing.evict(stub)

    nameless = memories.get(memories.id_from_string(str(stub.id)))
    assert nameless.name is None
    assert await durable.testing.run_in_object(nameless, lambda _, ctx: ctx.id.name) == "its name"


async def test_an_empty_name_is_a_name(store: Store) -> None:
    """It is kept with the object as any other, in memory, on disk and in a scratch store."""
    for is_scratch in (False, True):
        async with store.open(scratch=is_scratch) as runtime:
            memories = runtime.namespace(Memory)
            stub = memories.get_by_name("")
            await stub.count()
            await durable.testing.evict(stub)

            nameless = memories.get(memories.id_from_string(str(stub.id)))
            assert await durable.testing.run_in_object(nameless, lambda _, ctx: ctx.id.name) == ""
            assert [found.name async for found in memories.objects()] == [""]


async def test_evicting_what_is_not_live_is_an_error(runtime: durable.Runtime) -> None:
    """In the test kit: it would hide a mistake of the test."""
    stub = runtime.namespace(Memory).get_by_name("a")
    with pytest.raises(durable.DurableError, match="not currently running"):
        await durable.testing.evict(stub)
    with pytest.raises(TypeError):
        await durable.testing.evict("a")  # type: ignore[arg-type]
    await stub.count()
    with pytest.raises(TypeError, match="hibernate"):
        await durable.testing.evict(stub, websockets="drop")  # type: ignore[arg-type]


async def test_evict_all_takes_all(runtime: durable.Runtime) -> None:
    """Each is built anew."""
    stubs = [runtime.namespace(Memory).get_by_name(str(number)) for number in range(5)]
    for stub in stubs:
        await stub.count()
    await durable.testing.evict_all(runtime)

    assert runtime.statistics().live_objects == 0
    assert [await stub.count() for stub in stubs] == [[1, 2]] * 5


@pytest.mark.backends("asyncio", "trio")
async def test_many_objects_come_and_go_and_leave_nothing(
    store: Store, runtime: durable.Runtime
) -> None:
    """No live object, no cache, no reader of the disk is left."""
    memories = runtime.namespace(Memory)
    for _ in range(3):
        calls = [memories.get_by_name(str(number)).count() for number in range(200)]
        for call in calls:
            await call
        await durable.testing.evict_all(runtime)
    gc.collect()

    statistics = runtime.statistics()
    assert statistics.live_objects == 0
    assert statistics.cache_bytes == 0
    assert not [ref for ref in BORN if ref() is not None]


class Sender(durable.DurableObject):
    """Calls another object in a turn that has written."""

    async def send(self, how: str) -> Any:
        peer = self.env.PEER.get_by_name("peer")
        self.ctx.storage.put("n", 1)  # the call leaves when this is on disk
        if how == "method":
            return await peer.hello()
        if how == "fetch":
            return await (await peer.fetch("https://peer/")).text()
        return [item async for item in peer.hellos()]


class Peer(durable.DurableObject):
    async def hello(self) -> str:
        return "hello"

    async def fetch(self, request: durable.Request) -> durable.Response:
        return durable.Response("hello")

    async def hellos(self) -> Any:
        yield "hello"


@pytest.mark.parametrize("how", ["method", "fetch", "stream"])
async def test_a_call_that_is_held_back_finds_an_object_that_was_evicted_meanwhile(
    store: Store, how: str, start: Start[Any]
) -> None:
    """It was made, and waits for its sender's write: its target is idle, as far as that knows."""
    async with store.open(bindings={"SENDER": Sender, "PEER": Peer}) as runtime:
        peer = runtime.namespace(Peer).get_by_name("peer")
        await peer.hello()
        with store.faults.hold_commits():
            call = start(runtime.namespace(Sender).get_by_name("a").send(how))
            await store.settle()
            await durable.testing.evict(peer)
        assert await call.result() == (["hello"] if how == "stream" else "hello")
        assert durable.testing.is_live(peer)
