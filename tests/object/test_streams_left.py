"""Streams whose consumer leaves while the generator waits for its next item."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

import durable
import durable.testing
from durable import Request, Response, Runtime, Stub


class Feed(durable.DurableObject):
    """Says hello to who subscribes, and then nothing for hours."""

    def __init__(self, ctx: durable.State, env: Any) -> None:
        super().__init__(ctx, env)
        self.subscribers = 0
        self.ends: list[str] = []

    async def events(self) -> AsyncIterator[bytes]:
        self.subscribers += 1
        try:
            yield b"hello"
            await anyio.sleep_forever()
        finally:
            self.subscribers -= 1
            self.ctx.storage.put("ended", True)

    async def in_a_task_group(self) -> AsyncIterator[bytes]:
        """Scopes of its own are open where it yields and where it waits."""
        self.subscribers += 1
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(anyio.sleep_forever)
                with anyio.fail_after(3_600):
                    yield b"hello"
                    await anyio.sleep_forever()
        finally:
            self.subscribers -= 1

    async def of(self, other: Stub[Feed]) -> AsyncIterator[bytes]:
        """Hands on what another object says."""
        async for item in other.events():
            yield item

    async def body_of(self, other: Stub[Feed]) -> AsyncIterator[bytes]:
        response = await other.fetch("https://feed/")
        async for chunk in response.stream():
            yield chunk

    async def stubborn(self) -> AsyncIterator[bytes]:
        """Makes one item more of it."""
        self.subscribers += 1
        try:
            yield b"hello"
            try:
                await anyio.sleep_forever()
            except BaseException:
                yield b"not yet"
        finally:
            self.subscribers -= 1

    async def failing(self) -> AsyncIterator[bytes]:
        self.subscribers += 1
        try:
            yield b"hello"
            await anyio.sleep_forever()
        finally:
            self.subscribers -= 1
            raise LookupError("not closed")

    async def fetch(self, request: Request) -> Response:
        if request.url.path == "/group":
            return Response(self.in_a_task_group())
        return Response(self.events())

    async def count(self) -> int:
        return self.subscribers

    async def has_ended(self) -> bool:
        return bool(await self.ctx.storage.get("ended", False))


class Reader(durable.DurableObject):
    """Reads one part of what it is sent, and waits a moment for another."""

    async def fetch(self, request: Request) -> Response:
        body = request.stream()
        await anext(body)
        with anyio.move_on_after(0.001):
            await anext(body)
        return Response("enough")


@pytest.fixture
async def feed(runtime: Runtime) -> Stub[Feed]:
    return runtime.namespace(Feed).get_by_name("a")


async def wait_none(feed: Stub[Feed], clock: durable.testing.VirtualClock) -> None:
    """All that can happen has happened, and nobody is subscribed."""
    await clock.settle()
    gc.collect()
    await clock.settle()
    assert await feed.count() == 0


async def of_a_method(feed: Stub[Feed]) -> Any:
    return feed.events()


async def with_a_task_group(feed: Stub[Feed]) -> Any:
    return feed.in_a_task_group()


async def of_a_response(feed: Stub[Feed]) -> Any:
    return (await feed.fetch("https://feed/")).stream()


async def of_a_response_with_a_task_group(feed: Stub[Feed]) -> Any:
    return (await feed.fetch("https://feed/group")).stream()


KINDS = [of_a_method, with_a_task_group, of_a_response, of_a_response_with_a_task_group]


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("way", ["time-out", "aclose", "dropped", "task cancelled"])
async def test_who_leaves_a_stream_ends_its_generator(
    feed: Stub[Feed],
    make: Callable[[Stub[Feed]], Awaitable[Any]],
    way: str,
    clock: durable.testing.VirtualClock,
) -> None:
    """At once, wherever it waits: what it subscribed to it can unsubscribe from."""
    stream = await make(feed)
    assert await anext(stream) == b"hello"
    assert await feed.count() == 1
    async with anyio.create_task_group() as tasks:

        async def wait(stream: Any) -> None:
            with pytest.raises(StopAsyncIteration):
                await anext(stream)

        if way == "time-out":
            with anyio.move_on_after(0.001):
                await anext(stream)
        elif way == "aclose":
            tasks.start_soon(wait, stream)
            await anyio.wait_all_tasks_blocked()
            await stream.aclose()
        elif way == "dropped":
            anext(stream).close()
        elif way == "task cancelled":
            tasks.start_soon(wait, stream)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
    del stream
    await wait_none(feed, clock)


async def test_a_stream_ends_through_the_objects_that_hand_it_on(
    feed: Stub[Feed], runtime: Runtime, clock: durable.testing.VirtualClock
) -> None:
    """Whoever waits for the next item on somebody's behalf has left as well."""
    relay = runtime.namespace(Feed).get_by_name("relay")
    for stream in (relay.of(feed), relay.body_of(feed)):
        assert await anext(stream) == b"hello"
        with anyio.move_on_after(0.001):
            await anext(stream)
        await stream.aclose()
        await wait_none(feed, clock)


async def test_what_a_generator_writes_at_its_end_is_stored(
    feed: Stub[Feed], clock: durable.testing.VirtualClock
) -> None:
    """It ends in a turn of its object."""
    stream = feed.events()
    await anext(stream)
    with anyio.move_on_after(0.001):
        await anext(stream)
    await stream.aclose()
    assert await feed.has_ended()


async def test_closing_tells_how_a_waiting_generator_ended(feed: Stub[Feed]) -> None:
    """Its error is for who closes it; that it was cancelled is none."""
    stream = feed.failing()
    await anext(stream)
    with anyio.move_on_after(0.001):
        await anext(stream)
    with pytest.raises(LookupError, match="not closed"):
        await stream.aclose()

    stream = feed.events()
    await anext(stream)
    with anyio.move_on_after(0.001):
        await anext(stream)
    await stream.aclose()


@pytest.mark.backends("asyncio", "uvloop")  # on Trio this is no way to treat a cancellation
async def test_a_generator_that_makes_one_item_more_is_closed(
    feed: Stub[Feed], clock: durable.testing.VirtualClock
) -> None:
    """Nobody hears the item."""
    stream = feed.stubborn()
    await anext(stream)
    with anyio.move_on_after(0.001):
        await anext(stream)
    await wait_none(feed, clock)


async def test_an_object_whose_stream_was_left_can_be_evicted(
    tmp_path: Path, clock: durable.testing.VirtualClock
) -> None:
    """Nothing of it is under way any more."""
    limits = durable.Limits(idle_s_max=10)
    async with durable.testing.open(tmp_path / "other", clock=clock, limits=limits) as runtime:
        feed = runtime.namespace(Feed).get_by_name("a")
        stream = feed.events()
        await anext(stream)
        with anyio.move_on_after(0.001):
            await anext(stream)
        del stream
        gc.collect()
        await clock.settle()
        assert runtime.statistics().open_deliveries == 0
        await clock.advance(30)

        assert not durable.testing.is_live(feed)


async def test_a_body_of_the_program_ends_when_its_object_leaves_it(
    runtime: Runtime, clock: durable.testing.VirtualClock
) -> None:
    """An upload that nobody reads on is over for the program too."""
    ended = []

    async def upload() -> AsyncIterator[bytes]:
        try:
            yield b"a"
            await anyio.sleep_forever()
        finally:
            ended.append(True)

    reader = runtime.namespace(Reader).get_by_name("a")
    await reader.fetch("https://reader/", method="POST", body=upload())
    await clock.settle()

    assert ended == [True]
