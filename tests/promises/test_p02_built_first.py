"""P2: the constructor and its `block_concurrency_while` finish before any event is delivered."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

import durable
import durable.testing

from .conftest import Start, Store

GATES: dict[str, anyio.Event] = {}
LOG: list[str] = []
FAILURES: list[Exception] = []


@pytest.fixture(autouse=True)
def fresh() -> None:
    LOG.clear()
    FAILURES.clear()
    GATES.clear()


class Slow(durable.DurableObject):
    """Its constructor waits for the outside."""

    def __init__(self, ctx: durable.State, env: Any) -> None:
        super().__init__(ctx, env)
        LOG.append("constructor")
        self.ready = False
        ctx.block_concurrency_while(self._prepare)
        ctx.block_concurrency_while(self._prepare_more)
        LOG.append("constructed")

    async def _prepare(self) -> None:
        LOG.append("preparing")
        if "open" in GATES:
            await GATES["open"].wait()
        LOG.append("prepared")

    async def _prepare_more(self) -> None:
        self.ready = True
        LOG.append("ready")

    async def fetch(self, request: durable.Request) -> durable.Response:
        LOG.append("fetch")
        return durable.Response(str(self.ready))

    def call_me(self, name: str = "call") -> bool:
        LOG.append(name)
        return self.ready

    async def alarm(self) -> None:
        LOG.append("alarm")

    def ring_at(self, at: float) -> None:
        self.ctx.storage.set_alarm(at)


async def test_events_wait_for_the_constructor_and_its_sections(
    store: Store, runtime: durable.Runtime, start: Start[Any]
) -> None:
    """All sections of the constructor end, in order, before the first event of any kind."""
    stub = runtime.namespace(Slow).get_by_name("a")
    GATES["open"] = anyio.Event()
    calls = [start(stub.call_me()), start(stub.fetch("https://a/"))]
    await store.settle()

    assert LOG == ["constructor", "constructed", "preparing"]
    assert not any(call.done for call in calls)

    GATES["open"].set()
    assert await calls[0].result() is True
    assert await (await calls[1].result()).text() == "True"
    assert LOG[3:] == ["prepared", "ready", "call", "fetch"]


async def test_an_alarm_waits_for_the_constructor(store: Store) -> None:
    """An alarm that wakes the object is an event like others."""
    async with store.open() as runtime:
        await runtime.namespace(Slow).get_by_name("a").ring_at(store.clock.now() + 60)
    LOG.clear()
    GATES["open"] = anyio.Event()

    async with store.open(bindings={"SLOW": Slow}):
        await store.clock.advance(60)
        assert LOG == ["constructor", "constructed", "preparing"]

        GATES["open"].set()
        await store.settle()
        assert LOG[3:] == ["prepared", "ready", "alarm"]


class Reader(durable.DurableObject):
    """Reads and writes its storage while it is built."""

    def __init__(self, ctx: durable.State, env: Any) -> None:
        super().__init__(ctx, env)
        self.births = 0
        ctx.block_concurrency_while(self._load)

    async def _load(self) -> None:
        self.births = await self.ctx.storage.get("births", 0) + 1
        await self.ctx.storage.put("births", self.births)

    def count(self) -> int:
        return self.births


@pytest.mark.parametrize("reads", ["inline", "thread"])
async def test_a_constructor_can_load_what_it_needs(store: Store, reads: str) -> None:
    """Storage works within the constructor's section, whichever way is read."""
    for births in (1, 2):
        async with store.open(reads=reads) as runtime:
            stub = runtime.namespace(Reader).get_by_name("a")
            assert await stub.count() == births


class Fragile(durable.DurableObject):
    """Its constructor fails as long as it is told to."""

    def __init__(self, ctx: durable.State, env: Any) -> None:
        super().__init__(ctx, env)
        LOG.append("constructor")
        ctx.storage.put("tried", True)
        if FAILURES:
            raise FAILURES.pop()

    def works(self) -> bool:
        return True

    def tried(self) -> bool:
        return bool(self.ctx.storage.kv.get("tried"))


class FragileLater(durable.DurableObject):
    """Its constructor's section fails as long as it is told to."""

    def __init__(self, ctx: durable.State, env: Any) -> None:
        super().__init__(ctx, env)
        ctx.block_concurrency_while(self._prepare)

    async def _prepare(self) -> None:
        await anyio.sleep(0)
        if FAILURES:
            raise FAILURES.pop()

    def works(self) -> bool:
        return True


@pytest.mark.parametrize("cls", [Fragile, FragileLater])
async def test_a_failed_constructor_fails_the_waiting_calls_and_the_next_call_builds_anew(
    runtime: durable.Runtime, start: Start[bool], cls: type[Fragile]
) -> None:
    """Each waiting call gets the constructor's own error, as a reset; a new stub works."""
    FAILURES.append(KeyError("no luck"))
    actors = runtime.namespace(cls)
    stub = actors.get_by_name("a")
    calls = [start(stub.works()) for _ in range(3)]

    for call in calls:
        with pytest.raises(KeyError, match="no luck") as caught:
            await call.result()
        assert isinstance(caught.value, durable.DurableError)
        assert caught.value.reset
    assert len({id(call.error) for call in calls}) == 3  # no two share a traceback

    assert await actors.get_by_name("a").works() is True


async def test_a_stub_whose_object_could_not_be_built_stays_broken(
    runtime: durable.Runtime,
) -> None:
    """As after any reset (P14): the stub that saw it goes on giving the reason."""
    FAILURES.append(ValueError("once"))
    stub = runtime.namespace(Fragile).get_by_name("a")

    for _ in range(2):
        with pytest.raises(ValueError, match="once"):
            await stub.works()


async def test_what_a_failed_constructor_wrote_is_gone(store: Store) -> None:
    """Its writes are not sealed: nothing of them is committed."""
    async with store.open() as runtime:
        FAILURES.append(ValueError("once"))
        with pytest.raises(ValueError):
            await runtime.namespace(Fragile).get_by_name("a").works()
        assert [o async for o in runtime.namespace(Fragile).objects()] == []


class Hanging(durable.DurableObject):
    def __init__(self, ctx: durable.State, env: Any) -> None:
        super().__init__(ctx, env)
        ctx.block_concurrency_while(anyio.sleep_forever)

    def works(self) -> bool:
        return True


async def test_a_constructor_that_hangs_is_given_up_after_30_s(
    store: Store, runtime: durable.Runtime, start: Start[bool]
) -> None:
    """The calls that wait get ObjectReset, overloaded, when the section's limit has passed."""
    call = start(runtime.namespace(Hanging).get_by_name("a").works())

    await store.clock.advance(29.9)
    assert not call.done

    await store.clock.advance(0.2)
    with pytest.raises(durable.ObjectReset, match="waited for too long") as caught:
        await call.result()
    assert caught.value.overloaded


class Aborting(durable.DurableObject):
    def __init__(self, ctx: durable.State, env: Any) -> None:
        super().__init__(ctx, env)
        ctx.abort("not today")

    def works(self) -> bool:
        return True


async def test_a_constructor_may_abort(runtime: durable.Runtime) -> None:
    """The waiting call gets the reason."""
    with pytest.raises(durable.ObjectAborted, match="not today"):
        await runtime.namespace(Aborting).get_by_name("a").works()


class NeedsMore(durable.DurableObject):
    def __init__(self, ctx: durable.State, env: Any, more: int) -> None:
        super().__init__(ctx, env)

    def works(self) -> bool:
        return True


async def test_a_constructor_of_another_shape_is_a_plain_type_error(
    runtime: durable.Runtime,
) -> None:
    """The author's mistake reaches the caller as Python says it."""
    with pytest.raises(TypeError, match="more"):
        await runtime.namespace(NeedsMore).get_by_name("a").works()
