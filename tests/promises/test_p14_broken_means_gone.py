"""P14: after a reset or an abort, the old stub gives the reason; a new stub, a new instance."""

from __future__ import annotations

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
        except BaseException:
            LOG.append("still in its turn")
        try:
            self.ctx.storage.put("after", 1)
        except durable.ObjectAborted:
            LOG.append("storage refuses")
        try:
            await anyio.sleep(0)
        finally:
            LOG.append("never")

    async def wait(self) -> None:
        try:
            await DOORS["door"].wait()
            LOG.append("never")
        except BaseException:
            LOG.append("never")
        finally:
            LOG.append("never")

    async def wait_in_tasks(self) -> None:
        async def wait() -> None:
            try:
                await DOORS["door"].wait()
            finally:
                LOG.append("never")

        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                tasks.start_soon(wait)
        finally:
            LOG.append("never")

    async def wait_shielded(self) -> None:
        with anyio.CancelScope(shield=True):
            try:
                await anyio.sleep(0.02)
            finally:
                LOG.append("never")

    async def items(self) -> Any:
        try:
            yield 1
            await DOORS["door"].wait()
            yield 2
        finally:
            LOG.append("never")

    async def call(self, other: durable.Stub[Fragile]) -> int:
        return await other.count()

    async def call_and_abort(self, other: durable.Stub[Fragile]) -> None:
        await other.abort("the other's reason")

    def write(self) -> None:
        self.ctx.storage.put("key", 1)

    async def stored(self) -> dict[str, Any]:
        return await self.ctx.storage.list()


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


@pytest.mark.parametrize("method", ["wait", "wait_in_tasks", "wait_shielded"])
async def test_calls_in_flight_get_the_reason_and_no_code_is_resumed(
    store: Store, objects: durable.Namespace[Fragile], start: Start[Any], method: str
) -> None:
    """Not even to be told so: no `except`, no `finally` runs."""
    stub = objects.get_by_name("a")
    call = start(getattr(stub, method)())
    await store.settle()
    with pytest.raises(durable.ObjectAborted):
        await stub.abort("gone")

    with pytest.raises(durable.ObjectAborted, match="gone"):
        await call.result()
    DOORS["door"].set()
    await anyio.sleep(0.03)
    await store.settle()
    assert LOG == ["before"]


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
    """Its consumer is told, its generator is not."""
    stub = objects.get_by_name("a")
    stream = stub.items()
    assert await anext(stream) == 1
    waiting = start(anext(stream))
    await store.settle()
    with pytest.raises(durable.ObjectAborted):
        await stub.abort("gone")

    with pytest.raises(durable.ObjectAborted, match="gone"):
        await waiting.result()
    assert "never" not in LOG


async def test_an_aborting_turn_can_do_nothing_more(
    store: Store, objects: durable.Namespace[Fragile]
) -> None:
    """It may catch what abort() raises, but storage refuses, and its next wait is its last."""
    with pytest.raises(durable.ObjectAborted, match="caught"):
        await objects.get_by_name("a").abort_and_catch()
    await store.settle()

    assert LOG == ["still in its turn", "storage refuses"]
    assert await objects.get_by_name("a").stored() == {}


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
    objects.get_by_name("b").write()
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
