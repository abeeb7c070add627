"""P14: after a reset or an abort, the old stub gives the reason; a new stub, a new instance."""

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
LOCKS: dict[str, anyio.Lock] = {}


@pytest.fixture(autouse=True)
def fresh() -> None:
    DOORS.clear()
    DOORS.update(door=anyio.Event())
    LOG.clear()


class Fragile(durable.DurableObject):
    def __init__(self, ctx: durable.State, env: Any) -> None:
        super().__init__(ctx, env)
        self.in_memory = 0

    def count(self) -> int:
        self.in_memory += 1
        return self.in_memory

    async def fetch(self, request: durable.Request) -> durable.Response:
        return durable.Response(str(self.count()))

    def abort(self, reason: str | None = None) -> None:
        LOG.append("before")
        try:
            self.ctx.abort(reason)
        finally:
            self.ctx = None  # type: ignore[assignment]

    async def abort_and_catch(self) -> None:
        try:
            self.ctx.abort("caught")
        except Exception:
            LOG.append("never")
        except BaseException:
            LOG.append("still in its turn")
        try:
            self.ctx.storage.put("after", 1)
        except BaseException:
            LOG.append("storage refuses")
        try:
            await self.other().count()
        except BaseException:
            LOG.append("stubs refuse")
        await anyio.sleep(0)
        LOG.append("cleaned up")

    def other(self) -> durable.Stub[Fragile]:
        return self.env.FRAGILE.get_by_name("other")

    async def wait(self) -> None:
        try:
            await DOORS["door"].wait()
            LOG.append("never")
        except Exception:
            LOG.append("never")
        finally:
            await anyio.sleep(0)
            LOG.append("finally")

    async def wait_in_tasks(self) -> None:
        async def wait() -> None:
            try:
                await DOORS["door"].wait()
                LOG.append("never")
            finally:
                await anyio.sleep(0)
                LOG.append("task")

        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                tasks.start_soon(wait)
        finally:
            await anyio.sleep(0)
            LOG.append("finally")

    async def wait_shielded(self) -> None:
        with anyio.CancelScope(shield=True):
            try:
                await DOORS["door"].wait()
                LOG.append("never")
            finally:
                await anyio.sleep(0)
                LOG.append("finally")

    async def in_a_section(self) -> None:
        await self.ctx.block_concurrency_while(self.wait)

    async def in_a_transaction(self) -> None:
        await self.ctx.storage.transaction(lambda _: self.wait())

    async def beside(self) -> None:
        self.ctx.wait_until(self.wait())
        await DOORS["door"].wait()

    async def never_ends(self) -> None:
        while True:
            try:
                await DOORS["door"].wait()
            except BaseException:
                LOG.append("told")

    async def hold(self, lock: str) -> None:
        async with LOCKS[lock]:
            await DOORS["door"].wait()

    async def items(self) -> Any:
        try:
            yield 1
            await DOORS["door"].wait()
            yield 2
        finally:
            LOG.append("finally")

    async def call_other(self, other: durable.Stub[Fragile]) -> int:
        return await other.count()

    async def call_and_abort(self, other: durable.Stub[Fragile]) -> None:
        await other.abort("the other's reason")

    def write(self) -> None:
        self.ctx.storage.put("key", 1)

    async def stored(self) -> dict[str, Any]:
        return await self.ctx.storage.list()


@pytest.fixture
async def runtime(store: Store) -> AsyncIterator[durable.Runtime]:
    async with store.open(bindings={"FRAGILE": Fragile}) as runtime:
        yield runtime


@pytest.fixture
async def objects(runtime: durable.Runtime) -> durable.Namespace[Fragile]:
    return runtime.namespace(Fragile)


async def test_an_abort_gives_its_reason_to_the_caller(
    objects: durable.Namespace[Fragile],
) -> None:
    """With what the caller may want to know."""
    stub = objects.get_by_name("a")
    with pytest.raises(durable.ObjectAborted, match=r"^my reason$") as caught:
        await stub.abort("my reason")

    assert caught.value.reset
    assert not caught.value.overloaded
    assert caught.value.object_id == str(stub.id)


async def test_an_abort_without_a_reason_says_so(objects: durable.Namespace[Fragile]) -> None:
    """In the words of Cloudflare's runtime."""
    with pytest.raises(durable.ObjectAborted, match=r"Application called abort\(\)"):
        await objects.get_by_name("a").abort()


async def test_the_old_stub_stays_broken_and_a_new_one_works(
    objects: durable.Namespace[Fragile],
) -> None:
    """For every kind of call."""
    old = objects.get_by_name("a")
    untouched = objects.get_by_name("a")
    assert await old.count() == 1
    with pytest.raises(durable.ObjectAborted):
        await old.abort("gone")

    for _ in range(2):
        with pytest.raises(durable.ObjectAborted, match="gone"):
            await old.count()
        with pytest.raises(durable.ObjectAborted, match="gone"):
            await old.fetch("https://a/")
        with pytest.raises(durable.ObjectAborted, match="gone"):
            await anext(old.items())
        with pytest.raises(durable.ObjectAborted, match="gone"):
            await durable.testing.run_in_object(old, lambda *_: None)
    assert await objects.get_by_name("a").count() == 1
    assert await untouched.count() == 2


@pytest.mark.parametrize(
    ("method", "cleaned"),
    [
        ("wait", ["finally"]),
        ("wait_in_tasks", ["task", "task", "finally"]),
        ("wait_shielded", ["finally"]),
        ("in_a_section", ["finally"]),
        ("in_a_transaction", ["finally"]),
        ("beside", ["finally"]),
    ],
)
async def test_calls_in_flight_get_the_reason_and_their_code_cleans_up_before_a_successor(
    runtime: durable.Runtime,
    store: Store,
    objects: durable.Namespace[Fragile],
    start: Start[Any],
    method: str,
    cleaned: list[str],
) -> None:
    """What it awaits in its `finally` it gets, innermost tasks first; `except Exception` is not
    for it."""
    stub = objects.get_by_name("a")
    call = start(getattr(stub, method)())
    await store.settle()
    await durable.testing.abort_all(runtime)

    assert await objects.get_by_name("a").count() == 1
    assert cleaned == LOG
    with pytest.raises(durable.ObjectReset):
        await call.result()
    DOORS["door"].set()
    await store.settle()
    assert cleaned == LOG


async def test_code_that_does_not_end_keeps_its_successor_for_a_bounded_time(
    runtime: durable.Runtime,
    store: Store,
    objects: durable.Namespace[Fragile],
    start: Start[Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is told twice, and then never goes on; the log says where it waits."""
    call = start(objects.get_by_name("a").never_ends())
    await store.settle()
    await durable.testing.abort_all(runtime)

    with anyio.fail_after(10):
        assert await objects.get_by_name("a").count() == 1
    with pytest.raises(durable.ObjectReset):
        await call.result()
    DOORS["door"].set()
    await anyio.sleep(0.01)
    assert LOG == ["told", "told"]
    assert any("Fragile.never_ends()" in record.getMessage() for record in caplog.records)


async def test_what_objects_share_is_given_back(
    runtime: durable.Runtime, store: Store, objects: durable.Namespace[Fragile], start: Start[Any]
) -> None:
    """A lock that a handler had, or was about to get."""
    LOCKS["lock"] = anyio.Lock()
    start(objects.get_by_name("a").hold("lock"))
    await store.settle()
    start(objects.get_by_name("a").hold("lock"))
    await store.settle()
    await durable.testing.abort_all(runtime)

    with anyio.fail_after(5):
        async with LOCKS["lock"]:
            pass


async def test_calls_in_the_queue_get_the_reason(
    store: Store, objects: durable.Namespace[Fragile], start: Start[Any]
) -> None:
    """They were made to the old instance."""
    stub = objects.get_by_name("a")
    aborting = stub.abort("gone")
    queued = [start(stub.count()) for _ in range(3)]

    for call in queued:
        with pytest.raises(durable.ObjectAborted, match="gone"):
            await call.result()
    with pytest.raises(durable.ObjectAborted):
        await aborting


async def test_a_stream_in_flight_gets_the_reason(
    store: Store, objects: durable.Namespace[Fragile], start: Start[Any]
) -> None:
    """Its consumer is told, and its generator ends."""
    stub = objects.get_by_name("a")
    stream = stub.items()
    assert await anext(stream) == 1
    waiting = start(anext(stream))
    await store.settle()
    with pytest.raises(durable.ObjectAborted):
        await stub.abort("gone")

    with pytest.raises(durable.ObjectAborted, match="gone"):
        await waiting.result()
    assert await objects.get_by_name("a").count() == 1
    assert LOG == ["before", "finally"]


async def test_an_aborting_turn_can_do_nothing_more(
    store: Store, objects: durable.Namespace[Fragile]
) -> None:
    """It may catch what abort() raises, by its class, but storage and stubs refuse."""
    with pytest.raises(durable.ObjectAborted, match="caught"):
        await objects.get_by_name("a").abort_and_catch()
    await store.settle()

    assert await objects.get_by_name("a").stored() == {}
    assert LOG == ["still in its turn", "storage refuses", "stubs refuse", "cleaned up"]
    assert await objects.get_by_name("other").count() == 1


async def test_the_reason_of_another_object_is_not_one_s_own(
    objects: durable.Namespace[Fragile],
) -> None:
    """An object that calls a broken one gets the error, and lives on."""
    a, b = objects.get_by_name("a"), objects.get_by_name("b")
    assert await a.count() == 1
    with pytest.raises(durable.ObjectAborted, match="the other's reason") as caught:
        await a.call_and_abort(b)

    assert caught.value.object_id == str(b.id)
    assert await a.count() == 2


async def test_abort_all_breaks_every_stub(
    runtime: durable.Runtime, objects: durable.Namespace[Fragile]
) -> None:
    """As the test kit's own way."""
    stubs = [objects.get_by_name(name) for name in "ab"]
    for stub in stubs:
        await stub.count()
    await durable.testing.abort_all(runtime)

    for stub in stubs:
        with pytest.raises(durable.ObjectReset, match="abortAllDurableObjects"):
            await stub.count()
    assert await objects.get_by_name("a").count() == 1


async def test_reset_empties_the_store(
    runtime: durable.Runtime, objects: durable.Namespace[Fragile]
) -> None:
    """Live objects are reset, stored ones are gone."""
    stub = objects.get_by_name("a")
    await durable.testing.run_in_object(stub, lambda _, ctx: ctx.storage.put("key", 1))
    assert await durable.testing.list_object_ids(objects) == [stub.id]
    writer = objects.get_by_name("b")
    writer.write()
    while not durable.testing.is_live(writer):  # where the call goes over a socket
        await anyio.sleep(0)
    await durable.testing.reset(runtime)

    with pytest.raises(durable.ObjectReset):
        await stub.count()
    assert await durable.testing.list_object_ids(objects) == []
    assert await objects.get_by_name("a").stored() == {}


async def test_an_exception_of_a_handler_breaks_nothing(
    objects: durable.Namespace[Fragile],
) -> None:
    """It reaches the caller as itself."""

    class Mine(Exception):
        """Of a type that nobody else knows."""

    def fail(*_: Any) -> None:
        raise Mine("as itself", 1)

    stub = objects.get_by_name("a")
    assert await stub.count() == 1
    with pytest.raises(Mine) as caught:
        await durable.testing.run_in_object(stub, fail)

    assert caught.value.args == ("as itself", 1)
    assert await stub.count() == 2
