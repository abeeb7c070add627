"""P9: a failed commit resets the object: nothing that rested on it is ever heard."""

from __future__ import annotations

from collections.abc import AsyncIterator
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


class Listener(durable.DurableObject):
    def hear(self, what: str) -> None:
        LOG.append(what)


class Writer(durable.DurableObject):
    """Keeps a number in memory that must never differ from the disk's."""

    def __init__(self, ctx: durable.State, env: Any) -> None:
        super().__init__(ctx, env)
        self.count: int = ctx.storage.kv.get("count", 0)

    def write(self) -> int:
        self.count += 1
        self.ctx.storage.put("count", self.count)
        return self.count

    async def fetch(self, request: durable.Request) -> durable.Response:
        return durable.Response(str(self.write()))

    def write_and_raise(self) -> None:
        self.write()
        raise LookupError("the object's own")

    def read(self) -> int:
        return self.count

    async def write_then_catch_everything(self) -> None:
        """Goes on whatever happens. It must not."""
        self.write()
        while True:
            try:
                await DOORS["door"].wait()
                LOG.append("went on")
                await self.ctx.confirmed()
                LOG.append("went on")
                return
            except BaseException as error:
                LOG.append(type(error).__name__)
            finally:
                LOG.append("finally")

    async def confirm_and_catch(self) -> None:
        self.write()
        try:
            await self.ctx.confirmed()
        except BaseException as error:
            LOG.append(type(error).__name__)
        finally:
            LOG.append("finally")

    async def catch_around_storage(self) -> None:
        while True:
            try:
                await self.ctx.storage.put("again", 1)
                await self.ctx.storage.sync()
                await anyio.sleep(0.001)
            except BaseException as error:
                LOG.append(type(error).__name__)

    async def write_and_call(self, listener: durable.Stub[Listener]) -> None:
        self.write()
        try:
            await listener.hear("call")
        finally:
            LOG.append("finally")

    async def write_in_tasks(self) -> None:
        async def write() -> None:
            self.write()
            try:
                await DOORS["door"].wait()
            except BaseException as error:
                LOG.append(type(error).__name__)
            finally:
                LOG.append("finally")

        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(write)
                tasks.start_soon(write)
        finally:
            LOG.append("finally")

    async def write_unconfirmed(self) -> str:
        self.ctx.storage.put("u", 1, allow_unconfirmed=True)
        return "heard"

    async def transact(self) -> None:
        async def closure(txn: durable.Transaction) -> None:
            txn.put("count", 100)

        try:
            await self.ctx.storage.transaction(closure)
            await self.ctx.confirmed()
        except BaseException:
            LOG.append("except")

    async def items(self) -> AsyncIterator[int]:
        try:
            yield self.write()
        finally:
            LOG.append("finally")

    async def alarm(self) -> None:
        self.write()
        LOG.append("alarm")


@pytest.fixture
async def writers(runtime: durable.Runtime) -> durable.Namespace[Writer]:
    return runtime.namespace(Writer)


async def test_the_caller_gets_commit_failed(
    store: Store, writers: durable.Namespace[Writer]
) -> None:
    """It says that the object was reset, and which; the cause is kept."""
    stub = writers.get_by_name("a")
    store.faults.fail_commits()

    with pytest.raises(durable.CommitFailed) as caught:
        await stub.write()

    assert caught.value.reset
    assert caught.value.object_id == str(stub.id)


async def test_the_caller_of_fetch_gets_commit_failed(
    store: Store, writers: durable.Namespace[Writer]
) -> None:
    """The same for fetch."""
    store.faults.fail_commits()

    with pytest.raises(durable.CommitFailed):
        await writers.get_by_name("a").fetch("https://a/")


async def test_an_exception_that_waited_for_the_commit_is_replaced_by_its_failure(
    store: Store, writers: durable.Namespace[Writer]
) -> None:
    """The object's own exception is a held message like others: it is never sent."""
    store.faults.fail_commits()

    with pytest.raises(durable.CommitFailed):
        await writers.get_by_name("a").write_and_raise()


async def test_memory_is_discarded_and_the_next_call_starts_from_disk(
    store: Store, writers: durable.Namespace[Writer]
) -> None:
    """What the object had counted in memory is gone with what it had not stored."""
    stub = writers.get_by_name("a")
    assert await stub.write() == 1
    store.faults.fail_commits()
    with pytest.raises(durable.CommitFailed):
        await stub.write()
    store.faults.repair()

    fresh = writers.get_by_name("a")
    assert await fresh.read() == 1
    assert await fresh.write() == 2


async def test_all_who_wait_get_the_reason(
    store: Store, writers: durable.Namespace[Writer], start: Start[Any]
) -> None:
    """Those whose answers were held, those under way, and those in the queue."""
    stub = writers.get_by_name("a")
    await stub.read()
    with store.faults.hold_commits():
        under_way = start(stub.write_then_catch_everything())
        await store.settle()
        held = [start(stub.write()), start(stub.read())]
        await store.settle()
        store.faults.fail_commits()

    for call in [under_way, *held]:
        with pytest.raises(durable.CommitFailed):
            await call.result()
    assert len({id(call.error) for call in [under_way, *held]}) == 3


async def test_the_object_s_code_never_sees_the_failure(
    store: Store, writers: durable.Namespace[Writer], start: Start[Any]
) -> None:
    """It is told that it is over, which is no error, and cleans up: there is no next turn."""
    stub = writers.get_by_name("a")
    store.faults.fail_commits()
    for method in ("write_then_catch_everything", "confirm_and_catch", "write_in_tasks"):
        stub = writers.get_by_name(method)
        with pytest.raises(durable.CommitFailed):
            await getattr(stub, method)()
    with pytest.raises(durable.CommitFailed):
        await writers.get_by_name("t").transact()
    with pytest.raises(durable.CommitFailed):
        await anext(writers.get_by_name("i").items())
    await store.settle()

    assert "CommitFailed" not in LOG
    assert "went on" not in LOG
    DOORS["door"].set()  # one of them would wait for it until it is abandoned


async def test_a_handler_that_catches_everything_around_its_storage_does_not_go_on(
    store: Store, writers: durable.Namespace[Writer]
) -> None:
    """The loop that swallows all errors ends with its object."""
    store.faults.fail_commits(after=2)
    stub = writers.get_by_name("a")
    await stub.write()
    with pytest.raises(durable.CommitFailed):
        await durable.testing.run_in_object(stub, _catch_and_write)
    assert await writers.get_by_name("a").read() == 1
    count = len(LOG)
    await anyio.sleep(0.01)

    assert set(LOG) == {"Stopped"}
    assert len(LOG) == count


async def _catch_and_write(_: Any, ctx: durable.State) -> None:
    number = 0
    while True:
        try:
            number += 1
            await ctx.storage.put("number", number)
            await ctx.storage.sync()
        except BaseException as error:
            LOG.append(type(error).__name__)


async def test_a_call_that_waited_for_the_commit_is_never_made(
    store: Store, runtime: durable.Runtime
) -> None:
    """The other object hears nothing."""
    store.faults.fail_commits()
    listener = runtime.namespace(Listener).get_by_name("l")
    with pytest.raises(durable.CommitFailed):
        await runtime.namespace(Writer).get_by_name("a").write_and_call(listener)
    await store.settle()

    assert set(LOG) <= {"finally"}


async def test_an_unconfirmed_write_that_fails_resets_the_object_too(
    store: Store, writers: durable.Namespace[Writer]
) -> None:
    """Its caller was told something already; later calls on the stub hear the reason."""
    stub = writers.get_by_name("a")
    store.faults.fail_commits()
    assert await stub.write_unconfirmed() == "heard"
    await store.settle()

    with pytest.raises(durable.CommitFailed):
        await stub.read()


async def test_later_batches_of_a_failed_object_are_dropped(
    store: Store, writers: durable.Namespace[Writer], start: Start[Any]
) -> None:
    """Though the disk would take them again: they rest on what was lost."""
    stub = writers.get_by_name("a")
    await stub.write()
    with store.faults.hold_commits():
        first = start(stub.write())
        await store.settle()
        second = start(stub.write())
        await store.settle()
        store.faults.fail_commits()
        store.faults.let_one_commit()
        await store.settle()
        store.faults.repair()

    for call in (first, second):
        with pytest.raises(durable.CommitFailed):
            await call.result()
    assert await writers.get_by_name("a").read() == 1


async def test_a_new_instance_waits_for_what_its_predecessor_has_on_the_way(
    store: Store, writers: durable.Namespace[Writer], start: Start[Any]
) -> None:
    """It would read the disk too early."""
    stub = writers.get_by_name("a")
    await stub.read()
    with store.faults.hold_commits():
        writing = start(stub.write())
        await store.settle()
        with pytest.raises(durable.ObjectAborted):
            await durable.testing.run_in_object(stub, lambda _, ctx: ctx.abort("now"))
        fresh = start(writers.get_by_name("a").read())
        await store.settle()

        assert not fresh.done

    assert await fresh.result() == 1  # it was sealed before the abort, and is on disk now
    with pytest.raises(durable.ObjectAborted):
        await writing.result()


async def test_other_objects_of_the_same_group_are_told_as_well(
    store: Store, writers: durable.Namespace[Writer], start: Start[Any]
) -> None:
    """Whatever was committed together fails together, each object for itself."""
    stubs = [writers.get_by_name(name) for name in "abc"]
    with store.faults.hold_commits():
        calls = [start(stub.write()) for stub in stubs]
        await store.settle()
        store.faults.fail_commits()

    for call, stub in zip(calls, stubs, strict=True):
        with pytest.raises(durable.CommitFailed) as caught:
            await call.result()
        assert caught.value.object_id == str(stub.id)


async def test_an_alarm_whose_commit_failed_rings_again(
    store: Store, writers: durable.Namespace[Writer]
) -> None:
    """After a while, uncounted, since the fault is not the object's."""
    stub = writers.get_by_name("a")
    await durable.testing.run_in_object(
        stub, lambda _, ctx: ctx.storage.set_alarm(store.clock.now() + 5)
    )
    store.faults.fail_commits()
    await store.clock.advance(5)
    assert LOG == ["alarm"]

    store.faults.repair()
    await store.clock.advance(3)
    assert LOG == ["alarm", "alarm"]
    assert await writers.get_by_name("a").read() == 1


async def test_a_commit_that_takes_too_long_resets_the_object(
    store: Store, writers: durable.Namespace[Writer], start: Start[Any]
) -> None:
    """After 30 s the callers are told, whatever becomes of the commit."""
    stub = writers.get_by_name("a")
    with store.faults.hold_commits():
        call = start(stub.write())
        await store.clock.advance(29)
        assert not call.done

        await store.clock.advance(31)
        with pytest.raises(durable.ObjectReset, match="exceeded timeout") as caught:
            await call.result()
        assert caught.value.overloaded

    assert await writers.get_by_name("a").read() == 1
