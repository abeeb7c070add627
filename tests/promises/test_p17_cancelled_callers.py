"""P17: cancelling a caller does not tear a handler; closing lets what runs come to its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import anyio
import pytest

import durable
import durable.testing

from .conftest import Start, Store

DOORS: dict[str, anyio.Event] = {}
LOG: list[Any] = []


@pytest.fixture(autouse=True)
def fresh() -> None:
    DOORS.clear()
    DOORS.update(door=anyio.Event())
    LOG.clear()


class Worker(durable.DurableObject):
    async def work(self) -> str:
        LOG.append("begins")
        await DOORS["door"].wait()
        self.ctx.storage.put("worked", True)
        LOG.append("ends")
        return "done"

    async def fetch(self, request: durable.Request) -> durable.Response:
        return durable.Response(await self.work())

    async def relay(self, other: durable.Stub[Worker]) -> str:
        result = await other.work()
        LOG.append("relayed")
        return result

    async def give_up_on(self, other: durable.Stub[Worker]) -> str:
        with anyio.move_on_after(0.001):
            await other.work()
        LOG.append("gave up")
        await anyio.sleep(0)
        self.ctx.storage.put("gave up", True)
        return "gave up"

    async def writes_for_ever(self) -> None:
        while True:
            with suppress(asyncio.CancelledError), anyio.CancelScope(shield=True):
                await anyio.sleep(0)
            self.ctx.storage.put("written", "again")

    async def never_ends(self) -> None:
        self.ctx.storage.put("written", "before")
        try:
            await anyio.sleep_forever()
        except BaseException as error:
            LOG.append(type(error).__name__)
            self.ctx.storage.put("cancelled", True)
            raise
        finally:
            LOG.append("finally")

    async def ignores_cancellation(self) -> None:
        self.ctx.storage.put("written", "before")
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.05)
        self.ctx.storage.put("written", "after")

    async def items(self) -> Any:
        try:
            for number in range(1_000):
                yield number
        finally:
            LOG.append("closed")

    async def slow_to_close(self, error: str = "") -> Any:
        try:
            yield 0
            await DOORS["door"].wait()
            yield 1
        finally:
            with anyio.CancelScope(shield=True):  # as every clean-up that waits, on Trio
                await anyio.sleep(0)
            self.ctx.storage.put("closed", True)
            LOG.append("closed")
            if error:
                raise LookupError(error)

    async def stored(self) -> dict[str, Any]:
        return await self.ctx.storage.list()

    async def chain(self) -> str:
        """Waits for another call of its own runtime while that closes."""
        await DOORS["door"].wait()
        return "done"

    async def interrupt(self) -> None:
        raise KeyboardInterrupt

    async def exit(self) -> None:
        raise SystemExit(3)

    async def cancel_itself(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    async def current_task_name(self) -> list[Any]:
        first = anyio.get_current_task().id
        await anyio.sleep(0)
        return [first == anyio.get_current_task().id]


@pytest.fixture
async def worker(runtime: durable.Runtime) -> durable.Stub[Worker]:
    return runtime.namespace(Worker).get_by_name("a")


@pytest.mark.parametrize("kind", ["work", "fetch"])
async def test_a_cancelled_caller_gets_its_cancellation_at_once_and_the_handler_runs_on(
    store: Store, worker: durable.Stub[Worker], start: Start[Any], kind: str
) -> None:
    """To its end, its writes included."""
    call = start(worker.work() if kind == "work" else worker.fetch("https://a/"))
    await store.settle()
    call.scope.cancel()
    await store.settle()

    assert call.done
    assert LOG == ["begins"]

    DOORS["door"].set()
    await store.settle()
    assert LOG == ["begins", "ends"]
    assert await worker.stored() == {"worked": True}


async def test_a_timeout_around_a_call_is_heard_at_once(worker: durable.Stub[Worker]) -> None:
    """As around anything that is awaited."""
    with pytest.raises(TimeoutError):
        with anyio.fail_after(0.001):
            await worker.work()

    DOORS["door"].set()
    assert await worker.work() == "done"


async def test_a_caller_cancelled_in_the_queue_leaves_its_call_there(
    store: Store, worker: durable.Stub[Worker], start: Start[Any]
) -> None:
    """A call happens once it is made, whoever waits for it (P3)."""

    async def block(_: Any, ctx: durable.State) -> None:
        await ctx.block_concurrency_while(DOORS["door"].wait)

    start(durable.testing.run_in_object(worker, block))
    await store.settle()
    call = start(worker.work())
    await store.settle()
    call.scope.cancel()
    await store.settle()
    assert LOG == []

    DOORS["door"].set()
    await store.settle()
    assert LOG == ["begins", "ends"]


async def test_a_caller_cancelled_before_it_awaits_leaves_its_call_made(
    store: Store, worker: durable.Stub[Worker]
) -> None:
    """The call was made already."""
    DOORS["door"].set()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await worker.work()
    await store.settle()

    assert LOG == ["begins", "ends"]


async def test_a_cancelled_caller_of_a_caller_tears_nobody(
    store: Store, runtime: durable.Runtime, start: Start[Any]
) -> None:
    """Neither the handler it called, nor the one that called on."""
    workers = runtime.namespace(Worker)
    call = start(workers.get_by_name("a").relay(workers.get_by_name("b")))
    await store.settle()
    call.scope.cancel()
    DOORS["door"].set()
    await store.settle()

    assert LOG == ["begins", "ends", "relayed"]


async def test_a_handler_that_gives_up_on_another_goes_on(runtime: durable.Runtime) -> None:
    """A handler is a caller like others."""
    workers = runtime.namespace(Worker)
    assert await workers.get_by_name("a").give_up_on(workers.get_by_name("b")) == "gave up"

    DOORS["door"].set()
    assert await workers.get_by_name("a").stored() == {"gave up": True}


async def test_a_stream_that_is_abandoned_ends_its_generator(
    store: Store, worker: durable.Stub[Worker]
) -> None:
    """At its `yield`, in a turn of its object."""
    async for number in worker.items():
        if number == 3:
            break
    await store.settle()

    assert LOG == ["closed"]


async def test_a_stream_that_is_closed_ends_its_generator(
    store: Store, worker: durable.Stub[Worker]
) -> None:
    """`aclose()` does it by hand; the stream is over then."""
    stream = worker.items()
    assert await anext(stream) == 0
    await stream.aclose()
    await store.settle()

    assert LOG == ["closed"]
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_closing_a_stream_waits_for_the_end_of_its_generator(
    store: Store, worker: durable.Stub[Worker], start: Start[Any]
) -> None:
    """As with every generator: its `finally` has run, its writes are kept, its error is raised."""
    stream = worker.slow_to_close()
    assert await anext(stream) == 0
    with store.faults.hold_commits():
        closing = start(stream.aclose())
        await store.settle()
        assert LOG == ["closed"]
        assert not closing.done
    await closing.result()
    await stream.aclose()

    stream = worker.slow_to_close("not closed")
    await anext(stream)
    with pytest.raises(LookupError, match="not closed"):
        await stream.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_a_stream_that_is_left_ends_a_generator_that_waits(
    store: Store, worker: durable.Stub[Worker]
) -> None:
    """Whoever gives up on an item has left, and the generator hears of it where it waits."""
    stream = worker.slow_to_close()
    assert await anext(stream) == 0
    with anyio.move_on_after(0.001):
        await anext(stream)
    await stream.aclose()

    assert LOG == ["closed"]
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


class Halves(durable.DurableObject):
    """Writes two halves in one turn, and waits for room between them."""

    async def made(self) -> AsyncIterator[int]:
        async def fill(txn: durable.Transaction) -> None:
            txn.put("large", bytes(1_000))

        await self.ctx.storage.transaction(fill)
        await self.ctx.storage.put("left", 1)
        await self.ctx.storage.put("right", 1)
        await anyio.sleep_forever()
        yield 1

    async def found(self) -> list[str]:
        return list(await self.ctx.storage.list())


async def test_a_stream_that_is_left_tears_no_turn(store: Store, start: Start[Any]) -> None:
    """Its generator waits for the storage, which is no wait for the outside: it is cancelled where
    its turn ends."""
    limits = durable.Limits(dirty_bytes_max=1_000)
    async with store.open(limits=limits) as runtime:
        stub = runtime.namespace(Halves).get_by_name("a")
        with store.faults.hold_commits():
            stream = stub.made()
            asked = start(anext(stream))
            await store.settle()
            closing = start(stream.aclose())
            await store.settle()
        await closing.result()
        with pytest.raises(StopAsyncIteration):
            await asked.result()

        assert await stub.found() == ["large", "left", "right"]


async def test_closing_the_stream_of_an_object_that_is_gone_waits_for_nothing(
    worker: durable.Stub[Worker], runtime: durable.Runtime
) -> None:
    """Its generator will not run again."""
    stream = worker.slow_to_close()
    assert await anext(stream) == 0
    await durable.testing.abort_all(runtime)
    await stream.aclose()
    assert LOG == []


async def test_a_stream_read_to_its_end_is_over(worker: durable.Stub[Worker]) -> None:
    """And says so each time."""
    stream = worker.items()
    assert [number async for number in stream] == list(range(1_000))
    for _ in range(2):
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
    assert LOG == ["closed"]


async def test_one_task_carries_a_delivery(worker: durable.Stub[Worker]) -> None:
    """`current_task()` is honest."""
    assert await worker.current_task_name() == [True]


@pytest.mark.backends("asyncio", "uvloop")
async def test_a_handler_that_cancels_itself_ends_as_cancelled(
    worker: durable.Stub[Worker],
) -> None:
    """Its caller is told; the object lives on."""
    with pytest.raises((asyncio.CancelledError, durable.DurableError)):
        await worker.cancel_itself()
    assert await worker.stored() == {}


@pytest.mark.local("what ends a program ends the one that it was raised in")
@pytest.mark.parametrize(
    ("method", "error"), [("interrupt", KeyboardInterrupt), ("exit", SystemExit)]
)
async def test_an_interrupt_in_a_handler_reaches_the_caller(
    worker: durable.Stub[Worker], method: str, error: type[BaseException]
) -> None:
    """As itself; the object lives on."""
    with pytest.raises(error):
        await getattr(worker, method)()
    assert await worker.stored() == {}


# Closing


async def test_closing_lets_running_deliveries_finish(store: Store) -> None:
    """Within the grace time, and commits what they write."""
    async with store.open() as runtime:
        call = runtime.namespace(Worker).get_by_name("a").work()
        await store.settle()
        asyncio_or_trio_set_soon(DOORS["door"])

    assert LOG == ["begins", "ends"]
    assert await call == "done"
    async with store.open() as runtime:
        assert await runtime.namespace(Worker).get_by_name("a").stored() == {"worked": True}


def asyncio_or_trio_set_soon(event: anyio.Event) -> None:
    """Set *event* in a round or two of whatever loop runs."""
    if anyio.get_current_task() and _is_asyncio():
        asyncio.get_running_loop().call_later(0.01, event.set)
    else:
        import trio

        async def set_it() -> None:
            await trio.sleep(0.01)
            event.set()

        trio.lowlevel.spawn_system_task(set_it)


def _is_asyncio() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def test_closing_refuses_new_calls_meanwhile(store: Store, start: Start[Any]) -> None:
    """Though those that run are waited for."""
    async with store.open() as runtime:
        stub = runtime.namespace(Worker).get_by_name("a")
        running = start(stub.work())
        await store.settle()

        async def look() -> None:
            while True:
                try:
                    stub.stored()
                except durable.RuntimeClosed:
                    DOORS["door"].set()
                    return
                await anyio.sleep(0.001)

        looking = start(look())
    await looking.result()
    assert await running.result() == "done"


async def test_closing_cancels_after_the_grace_time_and_commits_what_was_written(
    store: Store, start: Start[Any]
) -> None:
    """The handler sees its cancellation, and may write a last word."""
    began_s = time.monotonic()
    async with store.open(limits=durable.Limits(shutdown_s_max=0.05)) as runtime:
        stuck = start(runtime.namespace(Worker).get_by_name("a").never_ends())
        await store.settle()
    took_s = time.monotonic() - began_s

    assert 0.05 <= took_s < 9.0  # the default is 10 s
    assert len(LOG) == 2
    assert LOG[1] == "finally"
    await store.settle()
    assert stuck.done
    async with store.open() as runtime:
        stored = await runtime.namespace(Worker).get_by_name("a").stored()
        assert stored == {"written": "before", "cancelled": True}


@pytest.mark.backends("trio")  # a task of asyncio can always be cancelled
async def test_closing_waits_a_little_for_what_cannot_be_cancelled(
    store: Store, start: Start[Any]
) -> None:
    """A shielded piece of work may end."""
    async with store.open(limits=durable.Limits(shutdown_s_max=0.01)) as runtime:
        start(runtime.namespace(Worker).get_by_name("a").ignores_cancellation())
        await store.settle()

    async with store.open() as runtime:
        stored = await runtime.namespace(Worker).get_by_name("a").stored()
        assert stored["written"] == "after"


async def test_closing_refuses_what_is_written_by_who_does_not_end(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """Code that goes on writing after the grace time is reset, and nothing else comes of it."""
    async with store.open(limits=durable.Limits(shutdown_s_max=0.01)) as runtime:
        for name in "abc":
            runtime.namespace(Worker).get_by_name(name).writes_for_ever()
        await anyio.sleep(0)

    async with store.open() as runtime:
        assert runtime.statistics().batches_waiting == 0
    assert [r.message for r in caplog.records if r.name == "asyncio"] == []


async def test_a_cancelled_body_closes_in_order(store: Store) -> None:
    """A body that was cancelled does not cost what objects wrote."""
    with anyio.CancelScope() as scope:
        async with store.open() as runtime:
            stub = runtime.namespace(Worker).get_by_name("a")
            await durable.testing.run_in_object(stub, lambda _, ctx: None)
            durable.testing.run_in_object(stub, lambda _, ctx: None).close()
            DOORS["door"].set()
            stub.work()
            scope.cancel()
            await anyio.sleep_forever()

    async with store.open() as runtime:
        assert await runtime.namespace(Worker).get_by_name("a").stored() == {"worked": True}


async def test_an_exception_of_the_body_leaves_open_unchanged(store: Store) -> None:
    """In no group, whatever runs."""
    error = LookupError("of the body")
    with pytest.raises(LookupError) as caught:  # noqa: PT012
        async with store.open() as runtime:
            DOORS["door"].set()
            runtime.namespace(Worker).get_by_name("a").work()
            raise error

    assert caught.value is error


async def test_a_call_under_way_at_the_end_is_told(store: Store, start: Start[Any]) -> None:
    """What could not finish says that the runtime was closed, or that it was cancelled."""
    async with store.open(limits=durable.Limits(shutdown_s_max=0.01)) as runtime:
        stub = runtime.namespace(Worker).get_by_name("a")

        async def block(_: Any, ctx: durable.State) -> None:
            await ctx.block_concurrency_while(anyio.sleep_forever)

        start(durable.testing.run_in_object(stub, block))
        await store.settle()
        queued = start(stub.stored())
        await store.settle()

    with pytest.raises(durable.DurableError) as caught:
        await queued.result()
    assert caught.value.reset
