"""P5: sections that wait for each other, through whatever calls, are told, and only those."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import pytest

import durable
import durable.testing

from .conftest import Start, Store

DOORS: dict[str, anyio.Event] = {}
HEARD: dict[str, Any] = {}


@pytest.fixture(autouse=True)
def fresh() -> None:
    DOORS.clear()
    DOORS.update(door=anyio.Event(), later=anyio.Event())
    HEARD.clear()


class Node(durable.DurableObject):
    """Calls the next one in a critical section, in one of many ways."""

    def peer(self, name: str) -> durable.Stub[Node]:
        stub: durable.Stub[Node] = self.env.NODES.get_by_name(name)
        return stub

    async def visit(self) -> str:
        return "visited"

    async def stream(self) -> AsyncIterator[str]:
        yield "item"

    async def call_by(self, way: str, name: str) -> Any:
        """Wait for the visit of an object in some way."""
        peer = self.peer(name)
        if way == "fetch":
            return await (await peer.fetch("https://node/")).text()
        if way == "stream":
            return [item async for item in peer.stream()]
        if way == "task group":
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._visit, peer)
            return "visited"
        if way == "later":
            visit = peer.visit()
            await anyio.sleep(0)
            await DOORS["later"].wait()
            return await visit
        if way == "gather":
            return await asyncio.gather(peer.visit(), peer.visit())
        if way == "wait_for":
            return await asyncio.wait_for(peer.visit(), 100)
        if way == "asyncio task group":
            async with asyncio.TaskGroup() as group:
                group.create_task(self._visit(peer))
            return "visited"
        if way == "task":
            return await asyncio.create_task(self._visit(peer))
        return await peer.visit()

    async def _visit(self, peer: durable.Stub[Node]) -> None:
        await peer.visit()

    async def fetch(self, request: durable.Request) -> durable.Response:
        return durable.Response("visited")

    async def alone(self, way: str, name: str, *, in_transaction: bool = False) -> Any:
        """Wait for it in a section."""

        async def section(*_: object) -> Any:
            await DOORS["door"].wait()
            try:
                return await self.call_by(way, name)
            except* durable.Deadlock as errors:
                deadlock: BaseException = errors
                while isinstance(deadlock, BaseExceptionGroup):
                    deadlock = deadlock.exceptions[0]
                HEARD[str(self.ctx.id.name)] = deadlock
            return "told"

        if in_transaction:
            return await self.ctx.storage.transaction(section)
        return await self.ctx.block_concurrency_while(section)

    async def hand_on(self, way: str, name: str) -> Any:
        return await self.call_by(way, name)

    async def call_back(self, function: Callable[[], Awaitable[str]], is_later: bool) -> str:
        answer = function()
        if is_later:
            await DOORS["later"].wait()
        return await answer

    async def gives_function(self, name: str, *, is_later: bool) -> Any:
        async def function() -> str:
            return "called back"

        async def section() -> Any:
            try:
                return await self.peer(name).call_back(function, is_later)
            except durable.Deadlock as error:
                return error.chain

        return await self.ctx.block_concurrency_while(section)

    async def streams_from(self, name: str, back: str) -> Any:
        async def section() -> Any:
            try:
                return [item async for item in self.peer(name).visits(back)]
            except durable.Deadlock as error:
                return error.chain

        return await self.ctx.block_concurrency_while(section)

    async def visits(self, name: str) -> AsyncIterator[str]:
        yield "first"
        yield await self.peer(name).visit()

    async def calls_and_awaits_later(self, name: str, back: str) -> Any:
        async def section() -> Any:
            answer = self.peer(name).hand_on("call", back)
            await DOORS["later"].wait()
            try:
                return await answer
            except durable.Deadlock as error:
                return error.chain

        return await self.ctx.block_concurrency_while(section)

    async def hand_on_later(self, name: str, back: str) -> Any:
        """Make a call, and await it when told to."""
        answer = self.peer(name).hand_on("call", back)
        await DOORS["later"].wait()
        return await answer

    async def awaits_older(self, way: str, name: str) -> Any:
        """Let a task wait for a visit, and wait for that when told to."""
        older = asyncio.create_task(self._visit(self.peer(name)))
        others = asyncio.create_task(self._stir())
        await DOORS["later"].wait()
        try:
            return await self._await_by(way, older)
        finally:
            others.cancel()

    async def _stir(self) -> None:
        for _ in range(100):
            await asyncio.sleep(0)
        await asyncio.Event().wait()

    async def _await_by(self, way: str, older: asyncio.Task[Any]) -> Any:
        if way == "gather":
            return await asyncio.gather(older)
        if way == "wait":
            done, _ = await asyncio.wait([older])
            return done.pop().result()
        if way == "wait_for":
            return await asyncio.wait_for(older, 100)
        if way == "shield":
            return await asyncio.shield(older)
        if way == "wait_for shield":
            return await asyncio.wait_for(asyncio.shield(older), 100)
        if way == "gather of gather":
            return (await asyncio.gather(asyncio.gather(older)))[0]
        if way == "newer task":
            return await asyncio.create_task(self._await_by("task", older))
        return await older

    async def awaits_first(self, how: dict[str, Any], name: str) -> Any:
        """Let a task wait for a visit, and go on without it."""
        visit = asyncio.create_task(self._visit(self.peer(name)))
        other = asyncio.create_task(DOORS["later"].wait())
        limit = how.pop("limit", False)
        tasks = [visit] if limit else [visit, other]
        done, _ = await asyncio.wait(tasks, timeout=0.01 if limit else None, **how)
        assert visit not in done
        return "went on"

    async def calls_one_that_awaits_older(
        self, way: Any, name: str, method: str = "awaits_older"
    ) -> Any:
        async def section() -> Any:
            try:
                return await getattr(self.peer(name), method)(way, str(self.ctx.id.name))
            except durable.Deadlock as error:
                return error.chain

        return await self.ctx.block_concurrency_while(section)

    async def awaits_older_in_section(self, way: str, name: str) -> Any:
        async def section() -> Any:
            call = self.peer(name).hand_on("call", str(self.ctx.id.name))
            older = asyncio.create_task(self._deadlock_of(call))
            await DOORS["later"].wait()
            return await self._await_by(way, older)

        return await self.ctx.block_concurrency_while(section)

    async def _deadlock_of(self, call: Awaitable[Any]) -> Any:
        try:
            return await call
        except durable.Deadlock as error:
            return error.chain

    async def calls_that_one(self, name: str, middle: str) -> Any:
        async def section() -> Any:
            try:
                return await self.peer(name).hand_on_later(middle, str(self.ctx.id.name))
            except durable.Deadlock as error:
                return error.chain

        return await self.ctx.block_concurrency_while(section)

    async def tells(self, name: str, how: str) -> None:
        """A section that sends a call, and does not wait for it."""

        async def section() -> None:
            if how == "dropped":
                self.peer(name).hear(str(self.ctx.id.name))
            else:
                self.ctx.wait_until(self.peer(name).hear(str(self.ctx.id.name)))
            await DOORS["door"].wait()

        await self.ctx.block_concurrency_while(section)

    async def hear(self, name: str) -> None:
        try:
            HEARD[str(self.ctx.id.name)] = await self.peer(name).visit()
        except durable.DurableError as error:
            HEARD[str(self.ctx.id.name)] = error


@pytest.fixture
async def nodes(store: Store) -> Any:
    async with store.open(bindings={"NODES": Node}) as runtime:
        yield runtime.namespace(Node)


WAYS = ["call", "fetch", "stream", "task group", "later"]
OF_ASYNCIO = ["gather", "wait_for", "asyncio task group", "task"]


async def in_a_ring(
    store: Store, nodes: Any, start: Start[Any], names: str, way: str, *, in_transaction: bool
) -> None:
    calls = [
        start(nodes.get_by_name(name).alone(way, after, in_transaction=in_transaction))
        for name, after in zip(names, names[1:] + names[0], strict=True)
    ]
    await store.settle()
    DOORS["door"].set()
    await store.settle()
    DOORS["later"].set()
    await store.settle()

    assert all(call.done for call in calls)
    assert [await call.result() for call in calls] == ["told"] * len(names)
    for place, name in enumerate(names):
        ring = names[place + 1 :] + names[: place + 1]
        around = ring + ring[:1]
        expected = tuple(str(nodes.get_by_name(each).id) for each in around)
        assert HEARD[name].chain == expected
    for name in names:
        assert await nodes.get_by_name(name).visit() == "visited"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("names", ["a", "ab", "abc", "abcde"])
async def test_sections_that_wait_for_each_other_are_told_at_once(
    store: Store, nodes: Any, start: Start[Any], names: str, way: str
) -> None:
    """Each of them, with the objects on the way round; their code goes on."""
    await in_a_ring(store, nodes, start, names, way, in_transaction=False)


@pytest.mark.parametrize("way", OF_ASYNCIO)
@pytest.mark.backends("asyncio", "uvloop")
async def test_so_they_are_if_tasks_wait_for_them(
    store: Store, nodes: Any, start: Start[Any], way: str
) -> None:
    """In the ways that asyncio has."""
    await in_a_ring(store, nodes, start, "ab", way, in_transaction=False)


async def test_so_are_transactions(store: Store, nodes: Any, start: Start[Any]) -> None:
    """Which are sections too."""
    await in_a_ring(store, nodes, start, "ab", "call", in_transaction=True)


@pytest.mark.parametrize("how", ["dropped", "wait_until"])
async def test_a_call_that_the_section_does_not_wait_for_is_no_deadlock(
    store: Store, nodes: Any, start: Start[Any], how: str
) -> None:
    """It is served when the section has ended."""
    call = start(nodes.get_by_name("a").tells("b", how))
    await store.settle()
    assert HEARD == {}

    DOORS["door"].set()
    await call.result()
    await store.settle()
    assert HEARD == {"b": "visited"}


@pytest.mark.parametrize("is_later", [False, True])
async def test_a_function_that_was_sent_is_called_back_in_vain(
    store: Store, nodes: Any, start: Start[Any], is_later: bool
) -> None:
    """It would run in the object whose section waits for it; told when it is awaited."""
    call = start(nodes.get_by_name("a").gives_function("b", is_later=is_later))
    await store.settle()
    assert call.done is not is_later

    DOORS["later"].set()
    await store.settle()
    assert await call.result() == tuple(str(nodes.get_by_name(each).id) for each in "aba")


async def test_an_item_that_waits_for_the_section_that_asks_for_it(
    store: Store, nodes: Any, start: Start[Any]
) -> None:
    """Though items came before it."""
    call = start(nodes.get_by_name("a").streams_from("b", "a"))
    await store.settle()

    assert call.done
    assert await call.result() == tuple(str(nodes.get_by_name(each).id) for each in "aba")


async def test_a_call_that_is_awaited_later_is_a_deadlock_then(
    store: Store, nodes: Any, start: Start[Any]
) -> None:
    """Not before: the section may end without it."""
    call = start(nodes.get_by_name("a").calls_and_awaits_later("b", "a"))
    await store.settle()
    assert not call.done

    DOORS["later"].set()
    await store.settle()
    assert call.done
    assert await call.result() == tuple(str(nodes.get_by_name(each).id) for each in "aba")


async def test_so_it_is_if_another_object_s_code_awaits_it_later(
    store: Store, nodes: Any, start: Start[Any]
) -> None:
    """The last piece of the ring is no section's, and stands in no line."""
    call = start(nodes.get_by_name("a").calls_that_one("b", "c"))
    await store.settle()
    assert not call.done

    DOORS["later"].set()
    await store.settle()
    assert call.done
    assert await call.result() == tuple(str(nodes.get_by_name(each).id) for each in "abca")


OLDER = (
    "task",
    "gather",
    "wait",
    "wait_for",
    "shield",
    "newer task",
    "wait_for shield",
    "gather of gather",
)


@pytest.mark.backends("asyncio", "uvloop")
@pytest.mark.parametrize("way", OLDER)
async def test_so_it_is_if_a_handler_awaits_an_older_task_of_its_own(
    store: Store, nodes: Any, start: Start[Any], way: str
) -> None:
    """Whose call the section keeps out; until then the handler may end without it."""
    call = start(nodes.get_by_name("a").calls_one_that_awaits_older(way, "b"))
    await store.settle()
    assert not call.done

    DOORS["later"].set()
    await store.settle()
    assert call.done
    assert await call.result() == tuple(str(nodes.get_by_name(each).id) for each in "aba")


@pytest.mark.backends("asyncio", "uvloop")
@pytest.mark.parametrize("way", OLDER)
async def test_so_it_is_if_a_section_awaits_an_older_task_of_its_own(
    store: Store, nodes: Any, start: Start[Any], way: str
) -> None:
    """Which waits for a call that comes back to the section's object."""
    call = start(nodes.get_by_name("a").awaits_older_in_section(way, "b"))
    await store.settle()
    assert not call.done

    DOORS["later"].set()
    await store.settle()
    assert call.done
    chain = await call.result()
    chain = chain[0] if "gather" in way else chain
    assert chain == tuple(str(nodes.get_by_name(each).id) for each in "aba")


@pytest.mark.backends("asyncio", "uvloop")
@pytest.mark.parametrize("how", [{"return_when": asyncio.FIRST_COMPLETED}, {"limit": True}])
async def test_a_call_that_a_handler_goes_on_without_is_no_deadlock(
    store: Store, nodes: Any, start: Start[Any], how: dict[str, Any]
) -> None:
    """It waits for the first of several tasks, or for some time."""
    args = how, "b", "awaits_first"
    call = start(nodes.get_by_name("a").calls_one_that_awaits_older(*args))
    await store.settle()

    DOORS["later"].set()
    assert await call.result() == "went on"


async def test_a_call_that_waits_for_a_section_without_a_ring_is_served(
    store: Store, nodes: Any, start: Start[Any]
) -> None:
    """Two sections call the same object, which is in one as well, that ends."""
    calls = [start(nodes.get_by_name(name).alone("call", "c")) for name in "ab"]
    tells = start(nodes.get_by_name("c").tells("d", "dropped"))
    await store.settle()
    DOORS["door"].set()
    await tells.result()

    assert [await call.result() for call in calls] == ["visited", "visited"]
    assert HEARD == {"d": "visited"}
