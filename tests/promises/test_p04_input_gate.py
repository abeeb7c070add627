"""P4: while an object waits on its storage nothing else is delivered to it.

Fanning out inside one delivery lets nobody in either; waiting on the outside does; delivery is
FIFO.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio

import durable
import durable.testing

from .conftest import Start, Store

DOORS: dict[str, anyio.Event] = {}
LOG: list[Any] = []
# Some of them is long enough to begin a read in, on a busy machine.
TIMEOUTS_S = (0.05, 0.5, 5.0)
asyncio_only = pytest.mark.backends("asyncio", "uvloop")
trio_only = pytest.mark.backends("trio")
reads = pytest.mark.parametrize("reads", ["inline", "thread"])


@pytest.fixture(autouse=True)
def fresh() -> None:
    DOORS.clear()
    LOG.clear()


class Counter(durable.DurableObject):
    """Counts in as many ways as there are to wait for two reads at once."""

    async def _get(self, key: str) -> int:
        value: int = await self.ctx.storage.get(key, 0)
        return value

    async def plain(self) -> int:
        value = await self.ctx.storage.get("value", 0)
        other = await self.ctx.storage.get("other", 0)
        assert value == other
        await self.ctx.storage.put("value", value + 1)
        await self.ctx.storage.put("other", other + 1)
        return value + 1

    async def fetch(self, request: durable.Request) -> durable.Response:
        return durable.Response(str(await self.plain()))

    async def alarm(self) -> None:
        await self.plain()

    def _add(self, value: int, other: int) -> int:
        assert value == other
        self.ctx.storage.put({"value": value + 1, "other": other + 1})
        return value + 1

    async def gather_answers(self) -> int:
        storage = self.ctx.storage
        return self._add(*await asyncio.gather(storage.get("value", 0), storage.get("other", 0)))

    async def gather_coroutines(self) -> int:
        return self._add(*await asyncio.gather(self._get("value"), self._get("other")))

    async def created_tasks(self) -> int:
        value = asyncio.create_task(self._get("value"))
        other = asyncio.create_task(self._get("other"))
        return self._add(await value, await other)

    async def created_task_of_an_answer(self) -> int:
        storage = self.ctx.storage
        value = asyncio.create_task(storage.get("value", 0))  # type: ignore[arg-type]
        return self._add(await value, await storage.get("other", 0))

    async def task_group(self) -> int:
        async with asyncio.TaskGroup() as tasks:
            value = tasks.create_task(self._get("value"))
            other = tasks.create_task(self._get("other"))
        return self._add(value.result(), other.result())

    async def nested(self) -> int:
        async def both() -> list[int]:
            return await asyncio.gather(
                asyncio.wait_for(self._get("value"), 60), asyncio.wait_for(self._get("other"), 60)
            )

        value, other = await asyncio.wait_for(asyncio.gather(both(), both()), 60)
        assert value == other
        return self._add(*value)

    async def as_completed(self) -> int:
        results = [
            await done for done in asyncio.as_completed([self._get("value"), self._get("other")])
        ]
        return self._add(results[0], results[1])

    async def wait(self) -> int:
        tasks = [asyncio.create_task(self._get(key)) for key in ("value", "other")]
        await asyncio.wait(tasks)
        return self._add(tasks[0].result(), tasks[1].result())

    async def shielded(self) -> int:
        return self._add(
            await asyncio.shield(self._get("value")), await asyncio.shield(self._get("other"))
        )

    async def anyio_group(self) -> int:
        found: dict[str, int] = {}

        async def find(key: str) -> None:
            found[key] = await self._get(key)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(find, "value")
            tasks.start_soon(find, "other")
        return self._add(found["value"], found["other"])

    async def anyio_nested(self) -> int:
        found: dict[str, int] = {}

        async def find(key: str) -> None:
            with anyio.fail_after(60):
                found[key] = await self._get(key)

        async def find_in_a_group(key: str) -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(find, key)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(find_in_a_group, "value")
            tasks.start_soon(find_in_a_group, "other")
        return self._add(found["value"], found["other"])

    async def anyio_started(self) -> int:
        async def find(key: str, *, task_status: Any) -> None:
            task_status.started(await self._get(key))

        async with anyio.create_task_group() as tasks:
            value = await tasks.start(find, "value")
            other = await tasks.start(find, "other")
        return self._add(value, other)

    async def nursery(self) -> int:
        import trio

        found: dict[str, int] = {}

        async def find(key: str) -> None:
            found[key] = await self._get(key)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(find, "value")
            async with trio.open_nursery() as inner:
                inner.start_soon(find, "other")
        return self._add(found["value"], found["other"])

    async def within_a_timeout(self) -> int:
        with anyio.move_on_after(60):
            async with anyio.create_task_group():
                value = await self._get("value")
            with anyio.fail_after(60):
                other = await self._get("other")
        return self._add(value, other)

    async def with_locks(self) -> int:
        lock = anyio.Lock()

        async def locked(key: str) -> int:
            async with lock:
                return await self._get(key)

        return self._add(await locked("value"), await locked("other"))

    async def transactional(self) -> int:
        async def closure(txn: durable.Transaction) -> int:
            value = await txn.get("value", 0)
            await anyio.lowlevel.checkpoint()
            txn.put({"value": value + 1, "other": value + 1})
            return int(value) + 1

        return await self.ctx.storage.transaction(closure)

    async def get_many(self) -> int:
        found = await self.ctx.storage.get(["value", "other"])
        return self._add(found.get("value", 0), found.get("other", 0))

    async def listed(self) -> int:
        found = await self.ctx.storage.list()
        return self._add(found.get("value", 0), found.get("other", 0))

    def total(self) -> int:
        return self.ctx.storage.kv.get("value", 0)


EVERYWHERE = [
    "plain",
    "anyio_group",
    "anyio_nested",
    "anyio_started",
    "within_a_timeout",
    "with_locks",
    "transactional",
    "get_many",
    "listed",
]
ON_ASYNCIO = [
    "gather_answers",
    "gather_coroutines",
    "created_tasks",
    "created_task_of_an_answer",
    "task_group",
    "nested",
    "as_completed",
    "wait",
    "shielded",
]


async def count_to_50(store: Store, reads: str, method: str) -> None:
    async with store.open(reads=reads) as runtime:
        stub = runtime.namespace(Counter).get_by_name("a")
        calls = [getattr(stub, method)() for _ in range(25)]
        await calls[0]
        for call in calls:
            await call
        await durable.testing.evict(stub)  # so that the first of the others has to read
        calls = [getattr(stub, method)() for _ in range(25)]
        for call in calls:
            await call
        assert await stub.total() == 50


@reads
@pytest.mark.parametrize("method", EVERYWHERE)
async def test_fifty_concurrent_increments_are_exact(store: Store, reads: str, method: str) -> None:
    """`get → compute → put` needs no lock, however the handler waits for its reads."""
    await count_to_50(store, reads, method)


@asyncio_only
@reads
@pytest.mark.parametrize("method", ON_ASYNCIO)
async def test_fifty_concurrent_increments_are_exact_on_asyncio(
    store: Store, reads: str, method: str
) -> None:
    """The same for asyncio's own ways to fan out."""
    await count_to_50(store, reads, method)


@trio_only
@reads
async def test_fifty_concurrent_increments_are_exact_in_nurseries(store: Store, reads: str) -> None:
    """The same for Trio's."""
    await count_to_50(store, reads, "nursery")


@reads
async def test_increments_of_all_kinds_of_events_are_exact(
    store: Store, reads: str, start: Start[Any]
) -> None:
    """Fetches, methods, test events and alarms stand at one gate."""
    async with store.open(reads=reads) as runtime:
        stub = runtime.namespace(Counter).get_by_name("a")
        await durable.testing.run_in_object(
            stub, lambda _, ctx: ctx.storage.set_alarm(store.clock.now() + 60)
        )
        await durable.testing.evict(stub)
        calls: list[Any] = []
        for _ in range(10):
            calls.append(start(stub.plain()))
            calls.append(start(stub.fetch("https://a/")))
            calls.append(start(durable.testing.run_in_object(stub, lambda it, _: it.plain())))
        calls.append(start(durable.testing.run_alarm(stub)))
        for call in calls:
            await call.result()

        assert await stub.total() == 31


class Visitor(durable.DurableObject):
    """Notes who comes while it waits."""

    async def _log(self, what: str) -> None:
        LOG.append(what)

    async def read(self, key: str = "key") -> Any:
        LOG.append("read")
        value = await self.ctx.storage.get(key)
        LOG.append("has read")
        return value

    async def read_openly(self) -> Any:
        LOG.append("read")
        value = await self.ctx.storage.get("key", allow_concurrency=True)
        LOG.append("has read")
        return value

    async def read_unawaited(self) -> None:
        LOG.append("read")
        self.ctx.storage.get("key")

    async def read_then_wait(self) -> None:
        """A read that nobody awaits holds the gate too."""
        self.ctx.storage.get("key")
        await anyio.lowlevel.checkpoint()
        LOG.append("was let on")

    async def read_other(self) -> None:
        LOG.append("read")
        await self.ctx.storage.get("other")
        LOG.append("has read")

    async def two_wait(self) -> None:
        """It and a task of its own, while a read that nobody awaits holds the gate."""
        self.ctx.wait_until(self.wait("task"))
        await anyio.sleep(0)
        self.ctx.storage.get("key")
        await DOORS["handler"].wait()
        LOG.append("ends")

    async def visit(self, name: str = "visit") -> None:
        LOG.append(name)

    async def wait(self, door: str = "door") -> None:
        LOG.append("wait")
        await DOORS[door].wait()
        LOG.append("waited")

    async def wait_in_a_task(self) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.wait)

    async def start_a_task(self) -> None:
        self.task = asyncio.create_task(self.wait())

    async def sleep_briefly(self) -> None:
        LOG.append("sleep")
        await anyio.sleep(0)
        LOG.append("slept")

    async def sleep_briefly_natively(self) -> None:
        LOG.append("sleep")
        if trio.lowlevel.in_trio_run():
            await trio.sleep(0)
        else:
            await asyncio.sleep(0)
        LOG.append("slept")

    async def sleep_in_a_callback(self) -> None:
        asyncio.get_running_loop().call_soon(LOG.append, "callback")

    async def tick(self) -> None:
        """A task of the object that goes on while its handler has ended."""

        async def tick() -> None:
            while not DOORS["door"].is_set():
                await anyio.sleep(0)
                self.ticks += 1

        self.ticks = 0
        self.ctx.wait_until(tick())

    async def how_many_ticks(self) -> int:
        return self.ticks

    async def read_and_count_ticks(self) -> int:
        before = self.ticks
        await self.ctx.storage.get("key")
        return self.ticks - before

    async def visit_other(self, other: durable.Stub[Visitor]) -> None:
        LOG.append("call")
        await other.visit("other")
        LOG.append("called")

    async def wait_for_future(self) -> str:
        self.future: anyio.Event = anyio.Event()
        await self.future.wait()
        return "resolved"

    async def resolve(self) -> None:
        self.future.set()


@pytest.fixture
async def threaded(store: Store) -> AsyncIterator[durable.Stub[Visitor]]:
    """A visitor whose reads go to a thread, and whose records are on disk only."""
    async with store.open(reads="thread") as runtime:
        stub = runtime.namespace(Visitor).get_by_name("a")
        await durable.testing.run_in_object(stub, lambda _, ctx: ctx.storage.put("key", 1))
        await durable.testing.evict(stub)
        await stub.visit()
        LOG.clear()
        yield stub


async def test_nothing_is_delivered_while_a_read_is_under_way(
    store: Store, threaded: durable.Stub[Visitor], start: Start[Any]
) -> None:
    """No new event of any kind."""
    with store.faults.hold_reads():
        reading = start(threaded.read())
        visits = [start(threaded.visit(f"visit {number}")) for number in range(3)]
        await store.settle()

        assert LOG == ["read"]

    for call in [reading, *visits]:
        await call.result()
    assert LOG == ["read", "has read", "visit 0", "visit 1", "visit 2"]


async def test_no_other_handler_is_resumed_while_a_read_is_under_way(
    store: Store, threaded: durable.Stub[Visitor], start: Start[Any]
) -> None:
    """Though what it waited for outside has come."""
    DOORS["door"] = anyio.Event()
    waiting = start(threaded.wait())
    await store.settle()
    with store.faults.hold_reads():
        reading = start(threaded.read())
        await store.settle()
        DOORS["door"].set()
        await store.settle()

        assert LOG == ["wait", "read"]

    await reading.result()
    await waiting.result()
    assert LOG == ["wait", "read", "has read", "waited"]


async def test_no_task_of_another_handler_is_resumed_while_a_read_is_under_way(
    store: Store, threaded: durable.Stub[Visitor], start: Start[Any]
) -> None:
    """The tasks that handlers started are held like the handlers."""
    DOORS["door"] = anyio.Event()
    waiting = start(threaded.wait_in_a_task())
    await store.settle()
    with store.faults.hold_reads():
        reading = start(threaded.read())
        await store.settle()
        DOORS["door"].set()
        await store.settle()

        assert LOG == ["wait", "read"]

    await reading.result()
    await waiting.result()


@asyncio_only
async def test_no_task_left_behind_is_resumed_while_a_read_is_under_way(
    store: Store, threaded: durable.Stub[Visitor], start: Start[Any]
) -> None:
    """A task belongs to its object though the handler that started it has long ended."""
    DOORS["door"] = anyio.Event()
    await threaded.start_a_task()
    await store.settle()
    with store.faults.hold_reads():
        reading = start(threaded.read())
        await store.settle()
        DOORS["door"].set()
        await store.settle()

        assert LOG == ["wait", "read"]

    await reading.result()
    await store.settle()
    assert LOG == ["wait", "read", "has read", "waited"]


async def test_a_busy_task_of_the_object_stands_still_while_a_read_is_under_way(
    threaded: durable.Stub[Visitor],
) -> None:
    """No timer, no step of it falls between the call of a read and its result."""
    DOORS["door"] = anyio.Event()
    await threaded.tick()
    try:
        for _ in range(5):
            assert await threaded.read_and_count_ticks() == 0
            await anyio.sleep(0)
            await durable.testing.run_in_object(threaded, lambda _, ctx: ctx.storage.put("x", 1))
    finally:
        DOORS["door"].set()


async def test_allow_concurrency_lets_others_in(
    store: Store, threaded: durable.Stub[Visitor], start: Start[Any]
) -> None:
    """It opts out: others are delivered while the read is under way."""
    with store.faults.hold_reads():
        reading = start(threaded.read_openly())
        visit = start(threaded.visit())
        await visit.result()

        assert LOG == ["read", "visit"]
        assert not reading.done

    assert await reading.result() == 1


async def test_a_read_that_nobody_awaits_holds_the_gate_until_it_has_ended(
    store: Store, threaded: durable.Stub[Visitor], start: Start[Any]
) -> None:
    """From the call on; though the handler has returned."""
    with store.faults.hold_reads():
        start(threaded.read_unawaited())
        visit = start(threaded.visit())
        await store.settle()

        assert LOG == ["read"]

    await visit.result()


async def test_a_task_that_is_let_on_with_its_handler_does_not_outlast_the_turn(
    store: Store, threaded: durable.Stub[Visitor], start: Start[Any]
) -> None:
    """The handler ends before the task has its step: then that waits in line as others do."""
    DOORS.update(handler=anyio.Event(), task=anyio.Event())
    with store.faults.hold_reads():
        two = start(threaded.two_wait())
        await store.settle()
        reading = start(threaded.read_other())
        DOORS["handler"].set()
        await store.settle()
        DOORS["task"].set()
        await store.settle()
        assert LOG == ["wait"]

    await two.result()
    await reading.result()
    await store.settle()
    # Trio takes the steps of a round in any order.
    assert LOG in (
        ["wait", "ends", "read", "has read", "waited"],
        ["wait", "waited", "ends", "read", "has read"],
    )


async def test_a_handler_does_not_pass_its_own_unawaited_read(
    store: Store, threaded: durable.Stub[Visitor], start: Start[Any]
) -> None:
    """What comes from the outside is held while any read is under way, its own included."""
    with store.faults.hold_reads():
        call = start(threaded.read_then_wait())
        await store.settle()

        assert LOG == []

    await call.result()
    assert LOG == ["was let on"]


async def test_waiting_on_the_outside_lets_others_in(
    store: Store, runtime: durable.Runtime, start: Start[Any]
) -> None:
    """A sleep, a socket, an event: the object is free meanwhile."""
    stub = runtime.namespace(Visitor).get_by_name("a")
    DOORS["door"] = anyio.Event()
    waiting = start(stub.wait())
    await stub.visit()
    DOORS["door"].set()
    await waiting.result()

    assert LOG == ["wait", "visit", "waited"]


@pytest.mark.parametrize("sleep", ["sleep_briefly", "sleep_briefly_natively"])
async def test_a_sleep_of_no_length_lets_others_in(runtime: durable.Runtime, sleep: str) -> None:
    """`sleep(0)` is a wait on the outside, if a short one; a free lock's checkpoint is none."""
    stub = runtime.namespace(Visitor).get_by_name("a")
    sleeping, visit = getattr(stub, sleep)(), stub.visit()
    await sleeping
    await visit

    assert LOG == ["sleep", "visit", "slept"]


async def test_waiting_on_the_outside_in_a_task_lets_others_in(
    store: Store, runtime: durable.Runtime, start: Start[Any]
) -> None:
    """The handler waits for its task, and that for the outside."""
    stub = runtime.namespace(Visitor).get_by_name("a")
    DOORS["door"] = anyio.Event()
    waiting = start(stub.wait_in_a_task())
    await stub.visit()
    DOORS["door"].set()
    await waiting.result()

    assert LOG == ["wait", "visit", "waited"]


async def test_waiting_for_another_object_lets_others_in(
    store: Store, runtime: durable.Runtime, start: Start[Any]
) -> None:
    """Another object is the outside: it may even call back."""
    visitors = runtime.namespace(Visitor)
    a, b = visitors.get_by_name("a"), visitors.get_by_name("b")
    DOORS["door"] = anyio.Event()
    start(b.wait())
    calling = start(a.visit_other(b))
    await a.visit()
    await calling.result()
    DOORS["door"].set()

    assert "visit" in LOG


async def test_an_object_may_call_itself(runtime: durable.Runtime) -> None:
    """Through its own stub: it waits on the outside meanwhile, so the call is let in."""
    stub = runtime.namespace(Visitor).get_by_name("a")
    await stub.visit_other(stub)

    assert LOG == ["call", "other", "called"]


async def test_a_handler_may_wait_for_what_another_delivery_does(
    store: Store, runtime: durable.Runtime, start: Start[Any]
) -> None:
    """A future that a later event of the same object resolves."""
    stub = runtime.namespace(Visitor).get_by_name("a")
    waiting = start(stub.wait_for_future())
    await store.settle()
    await stub.resolve()

    assert await waiting.result() == "resolved"


async def test_delivery_is_first_come_first_served(
    store: Store, threaded: durable.Stub[Visitor], start: Start[Any]
) -> None:
    """Events and resumptions are let in in the order in which they came; nobody barges."""
    DOORS.update(early=anyio.Event(), late=anyio.Event())
    start(threaded.wait("early"))
    await store.settle()
    LOG.clear()
    with store.faults.hold_reads():
        start(threaded.read())
        await store.settle()
        calls = [start(threaded.visit("1"))]
        await store.settle()
        DOORS["early"].set()
        await store.settle()
        calls.append(start(threaded.visit("2")))
        await store.settle()

    for call in calls:
        await call.result()
    await threaded.visit("3")
    assert LOG == ["read", "has read", "1", "waited", "2", "3"]


class Impatient(durable.DurableObject):
    """Has a deadline for what it waits for."""

    timeout_s: float

    async def move_on(self) -> list[Any]:
        with anyio.CancelScope() as scope:
            DOORS["scope"] = scope  # type: ignore[assignment]
            await DOORS["door"].wait()
            LOG.append("never")
        LOG.append("moved on")
        value = await self.ctx.storage.get("key")
        await anyio.lowlevel.checkpoint()
        return [scope.cancelled_caught, value]

    async def move_on_from_a_read(self) -> list[Any]:
        with anyio.CancelScope() as scope:
            DOORS["scope"] = scope  # type: ignore[assignment]
            await self.ctx.storage.get("key")
        await anyio.lowlevel.checkpoint()
        LOG.append("moved on")
        return [scope.cancelled_caught]

    async def fail_after(self) -> str:
        try:
            with anyio.fail_after(self.timeout_s):
                await DOORS["door"].wait()
        except TimeoutError:
            LOG.append("timed out")
            await self.ctx.storage.put("timed out", True)
            return "timed out"
        return "in time"

    async def asyncio_timeout(self) -> str:
        try:
            async with asyncio.timeout(self.timeout_s):
                await DOORS["door"].wait()
        except TimeoutError:
            LOG.append("timed out")
            await asyncio.sleep(0)
            return "timed out"
        return "in time"

    async def wait_for(self) -> str:
        try:
            await asyncio.wait_for(DOORS["door"].wait(), self.timeout_s)
        except TimeoutError:
            LOG.append("timed out")
            await asyncio.sleep(0)
            return "timed out"
        return "in time"

    async def group_with_deadline(self) -> str:
        with anyio.move_on_after(self.timeout_s) as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(DOORS["door"].wait)
                tasks.start_soon(DOORS["door"].wait)
        LOG.append("timed out")
        await anyio.lowlevel.checkpoint()
        return "timed out" if scope.cancelled_caught else "in time"

    async def read(self) -> Any:
        LOG.append("read")
        value = await self.ctx.storage.get("key")
        LOG.append("has read")
        return value


@pytest.fixture
async def impatient(store: Store) -> AsyncIterator[durable.Stub[Impatient]]:
    async with store.open(reads="thread") as runtime:
        stub = runtime.namespace(Impatient).get_by_name("a")
        await durable.testing.run_in_object(stub, lambda _, ctx: ctx.storage.put("key", 1))
        await durable.testing.evict(stub)
        await durable.testing.run_in_object(stub, lambda *_: None)
        DOORS["door"] = anyio.Event()
        yield stub


async def test_a_scope_that_is_cancelled_while_the_gate_is_held_ends_after_it(
    store: Store, impatient: durable.Stub[Impatient], start: Start[Any]
) -> None:
    """The cancellation is delivered once the gate lets the handler on, and is then over."""
    moving_on = start(impatient.move_on())
    await store.settle()
    with store.faults.hold_reads():
        reading = start(impatient.read())
        await store.settle()
        DOORS["scope"].cancel()  # type: ignore[attr-defined]
        await store.settle()

        assert LOG == ["read"]

    assert await moving_on.result() == [True, 1]
    assert await reading.result() == 1
    assert LOG == ["read", "has read", "moved on"]


async def test_a_scope_that_is_cancelled_while_its_own_read_is_under_way(
    store: Store, impatient: durable.Stub[Impatient], start: Start[Any]
) -> None:
    """The handler goes on without the read's result; the gate stays as it should be."""
    with store.faults.hold_reads():
        moving_on = start(impatient.move_on_from_a_read())
        await store.settle()
        DOORS["scope"].cancel()  # type: ignore[attr-defined]
        await store.settle()

    assert await moving_on.result() == [True]
    assert await impatient.read() == 1


@pytest.mark.parametrize("method", ["fail_after", "group_with_deadline"])
async def test_a_timeout_that_expires_while_the_gate_is_held(
    store: Store, impatient: durable.Stub[Impatient], start: Start[Any], method: str
) -> None:
    """It is heard after the read, and the timeout works as anywhere."""
    await expire_behind_a_read(store, impatient, start, method)


@asyncio_only
@pytest.mark.parametrize("method", ["asyncio_timeout", "wait_for"])
async def test_an_asyncio_timeout_that_expires_while_the_gate_is_held(
    store: Store, impatient: durable.Stub[Impatient], start: Start[Any], method: str
) -> None:
    """The same for asyncio's own timeouts."""
    await expire_behind_a_read(store, impatient, start, method)


async def expire_behind_a_read(
    store: Store, impatient: durable.Stub[Impatient], start: Start[Any], method: str
) -> None:
    for timeout_s in TIMEOUTS_S:
        LOG.clear()
        Impatient.timeout_s = timeout_s
        await durable.testing.evict(impatient)
        await durable.testing.run_in_object(impatient, lambda *_: None)
        timed = start(getattr(impatient, method)())
        with store.faults.hold_reads():
            reading = start(impatient.read())
            await anyio.sleep(timeout_s + 0.02)  # no clock of ours moves it
            await store.settle()
            before = list(LOG)

        assert await reading.result() == 1
        assert await timed.result() == "timed out"
        if before[0] == "read":
            break
    assert before == ["read"]
    assert LOG == ["read", "has read", "timed out"]


class Filler(durable.DurableObject):
    """Writes more than may be on its way at once."""

    async def fill(self) -> None:
        LOG.append("fill")
        for number in range(4):
            await self.ctx.storage.put(f"key {number}", bytes(1_000))
            if number == 1:
                await anyio.sleep(0.0001)  # ends the turn, so its writes are on their way
        LOG.append("filled")

    async def visit(self) -> None:
        LOG.append("visit")


async def test_nothing_is_delivered_while_a_write_waits_for_room(
    store: Store, start: Start[Any]
) -> None:
    """Back-pressure is a wait on the storage like others."""
    limits = durable.Limits(dirty_bytes_max=1_000)
    async with store.open(limits=limits) as runtime:
        stub = runtime.namespace(Filler).get_by_name("a")
        with store.faults.hold_commits():
            filling = start(stub.fill())
            visit = start(stub.visit())
            await store.settle()

            assert "filled" not in LOG

        await filling.result()
        await visit.result()
        assert "visit" in LOG


class Failing(durable.DurableObject):
    async def group(self) -> None:
        async def fail(error: Exception) -> None:
            await self.ctx.storage.get("key")
            raise error

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fail, ValueError("one"))
            tasks.start_soon(fail, KeyError("two"))

    async def gathered(self) -> list[Any]:
        async def fail() -> None:
            await self.ctx.storage.get("key")
            raise ValueError("one")

        return [
            str(result) for result in await asyncio.gather(fail(), fail(), return_exceptions=True)
        ]

    def works(self) -> bool:
        return True


async def test_an_exception_group_reaches_the_caller(runtime: durable.Runtime) -> None:
    """A task group that fails inside a handler raises what it raises anywhere."""
    stub = runtime.namespace(Failing).get_by_name("a")
    with pytest.raises(ExceptionGroup) as caught:
        await stub.group()

    assert caught.group_contains((ValueError, KeyError))
    assert await stub.works()


@asyncio_only
async def test_gathered_exceptions_are_collected(runtime: durable.Runtime) -> None:
    """And `gather(return_exceptions=True)` does what it does anywhere."""
    assert await runtime.namespace(Failing).get_by_name("a").gathered() == ["one", "one"]


# The task factory


@asyncio_only
async def test_a_task_factory_of_the_program_sees_its_tasks_and_is_back_after_close(
    store: Store,
) -> None:
    """It is chained while the store is open: it sees what objects start too."""
    loop = asyncio.get_running_loop()
    before = loop.get_task_factory()
    seen: list[str] = []

    def factory(
        loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **options: Any
    ) -> asyncio.Task[Any]:
        seen.append(coro.__name__)
        return asyncio.Task(coro, loop=loop, **options)

    loop.set_task_factory(factory)
    try:
        async with store.open() as runtime:
            stub = runtime.namespace(Counter).get_by_name("a")
            await stub.gather_coroutines()
            assert seen.count("_get") == 2

            async def ours() -> None: ...

            await asyncio.create_task(ours())
            assert seen[-1] == "ours"
        assert loop.get_task_factory() is factory
    finally:
        loop.set_task_factory(before)


@asyncio_only
async def test_a_task_factory_that_comes_later_is_left_in_place(store: Store) -> None:
    """Closing does not take away what somebody else put on top."""
    loop = asyncio.get_running_loop()
    before = loop.get_task_factory()
    try:
        async with store.open() as runtime:
            ours = loop.get_task_factory()
            assert ours is not None

            def later(loop: Any, coro: Any, **options: Any) -> Any:
                return ours(loop, coro, **options)

            loop.set_task_factory(later)
            assert await runtime.namespace(Counter).get_by_name("a").task_group() == 1
        assert loop.get_task_factory() is later

        async def still_works() -> int:
            return 1

        assert await asyncio.create_task(still_works()) == 1
    finally:
        loop.set_task_factory(before)


async def test_other_people_s_tasks_are_left_untouched(runtime: durable.Runtime) -> None:
    """Tasks that no object started are what they were."""
    seen: list[Any] = []

    async def mine() -> None:
        seen.append(anyio.get_current_task().name)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(mine, name="mine")

    assert seen == ["mine"]


@asyncio_only
async def test_a_task_of_an_object_shows_its_own_name_and_coroutine(
    runtime: durable.Runtime,
) -> None:
    """Debuggers see the author's coroutine."""

    async def look(_: Any, ctx: durable.State) -> list[str]:
        async def mine() -> None:
            await asyncio.sleep(0)  # a task that has ended has no coroutine any more

        task = asyncio.create_task(mine(), name="a name")
        coro: Any = task.get_coro()
        await task
        return [task.get_name(), coro.__qualname__.rsplit(".")[-1]]

    stub = runtime.namespace(Counter).get_by_name("a")
    assert await durable.testing.run_in_object(stub, look) == ["a name", "mine"]


async def test_two_runtimes_share_a_loop(tmp_path: Any) -> None:
    """Each holds its own objects' tasks, and the first to close leaves the other at work."""
    store_a, store_b = Store(tmp_path / "a"), Store(tmp_path / "b")
    async with contextlib.AsyncExitStack() as second:
        async with store_a.open() as runtime_a:
            runtime_b = await second.enter_async_context(store_b.open())
            stubs = [r.namespace(Counter).get_by_name("x") for r in (runtime_a, runtime_b)]
            calls = [stub.anyio_group() for stub in stubs for _ in range(20)]
            for call in calls:
                await call
            assert [await stub.total() for stub in stubs] == [20, 20]
        calls = [stubs[1].anyio_group() for _ in range(20)]
        for call in calls:
            await call
        assert await stubs[1].total() == 40


async def test_a_handler_that_only_yields_does_not_starve_others(
    runtime: durable.Runtime, start: Start[Any]
) -> None:
    """One that goes round and round, waiting for nothing, lets others in after some rounds."""
    stub = runtime.namespace(Visitor).get_by_name("a")
    DOORS["door"] = anyio.Event()

    async def spin(_: Any, ctx: durable.State) -> None:
        while not DOORS["door"].is_set():
            await anyio.lowlevel.checkpoint()

    spinning = start(durable.testing.run_in_object(stub, spin))
    await stub.visit()
    DOORS["door"].set()
    await spinning.result()
