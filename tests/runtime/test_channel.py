"""A stub needs a channel and nothing else: here one that has only values to hand on.

`Forwarding` is what a channel to another process will be, without the process: what goes through
it is pickled, and what comes back is an answer of its own. So a stub that looked for anything else
behind its channel fails here.
"""

from __future__ import annotations

import pickle
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import copy_context
from pathlib import Path
from typing import Any

import anyio
import pytest

import durable
import durable.testing
from durable._border.channel import Channel, LocalChannel
from durable._border.redirects import Resends
from durable._border.streams import Pipe, Stream
from durable._gates.delivery import CURRENT
from durable._gates.futures import Answer, PendingAnswer
from durable._runtime.directory import Directory

SENT: list[Any] = []


class Forwarding(Channel):
    """Hands on to another channel, by values only, what goes through it, and records it."""

    def __init__(self, behind: LocalChannel) -> None:
        self._behind = behind
        self._loop = behind.activation.services.loop

    @property
    def is_gone(self) -> bool:
        return self._behind.is_gone

    def call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Answer[Any]:
        sent = pickle.dumps((name, args, kwargs))
        SENT.append(pickle.loads(sent))
        return self._forwarded(self._behind.call(*pickle.loads(sent)), through_pickle)

    def stream(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Stream[Any]:
        sent = pickle.dumps((name, args, kwargs))
        SENT.append(pickle.loads(sent))
        items = self._behind.stream(*pickle.loads(sent))
        pipe = Pipe(self._loop)

        async def run() -> None:
            try:
                await pipe.pump(items, through_pickle, None)
            except BaseException as error:
                pipe.ended(error)
            else:
                pipe.ended(None)
            finally:
                self._loop.ended(self._loop.own_task())

        self._spawn(run)
        return Stream(pipe)

    def fetch(self, request: durable.Request, resends: Resends, hops: int) -> Answer[Any]:
        sent = durable.Request(
            str(request.url),
            method=request.method,
            headers=dict(request.headers),
            body=request._content,
            redirect=request.redirect,
        )
        SENT.append((request.method, request.url.path, hops))
        return self._forwarded(self._behind.fetch(sent, resends, hops), lambda response: response)

    def delete_all(self) -> Answer[None]:
        SENT.append("delete_all")
        return self._forwarded(self._behind.delete_all(), through_pickle)

    def _forwarded(self, answer: Awaitable[Any], copy: Callable[[Any], Any]) -> Answer[Any]:
        ours: PendingAnswer[Any] = PendingAnswer(self._loop)

        async def run() -> None:
            try:
                ours.resolve(copy(await answer))
            except BaseException as error:
                ours.fail(error)
            finally:
                self._loop.ended(self._loop.own_task())

        self._spawn(run)
        return ours

    def _spawn(self, run: Callable[[], Any]) -> None:
        context = copy_context()
        context.run(CURRENT.set, None)
        self._loop.spawn(run(), "forwarding", context)


def through_pickle(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


class Shop(durable.DurableObject):
    """A bit of everything that a stub can ask for."""

    def __init__(self, ctx: durable.State, env: Any) -> None:
        super().__init__(ctx, env)
        self.log: list[Any] = []

    async def add(self, *items: Any, **more: Any) -> int:
        self.log.append((items, more))
        self.ctx.storage.put("last", len(self.log))
        return await self.ctx.storage.get("count", 0) + len(self.log)

    async def all(self) -> list[Any]:
        return self.log

    async def fail(self) -> None:
        raise KeyError("sold out")

    async def abort(self) -> None:
        self.ctx.abort("closed for good")

    async def count_to(self, end: int) -> AsyncIterator[int]:
        for number in range(end):
            yield number

    async def ask(self, other: str) -> int:
        return await self.env.SHOP.get_by_name(other).add("from a shop")

    async def fetch(self, request: durable.Request) -> durable.Response:
        if request.url.path == "/old":
            return durable.Response(status=302, headers={"location": "/new"})
        return durable.Response(f"{request.method} {await request.text()}")


@pytest.fixture
async def runtime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[durable.Runtime]:
    SENT.clear()
    local = Directory.channel_of

    def channel_of(directory: Directory, *which: Any) -> Channel:
        channel = local(directory, *which)
        assert isinstance(channel, LocalChannel)
        SENT.append("channel")
        return Forwarding(channel)

    monkeypatch.setattr(Directory, "channel_of", channel_of)
    async with durable.open(tmp_path / "store", bindings={"SHOP": Shop}) as opened:
        yield opened


@pytest.fixture
def shop(runtime: durable.Runtime) -> Any:
    return runtime.env.SHOP.get_by_name("a")


async def test_a_stub_calls_by_its_channel_alone(shop: Any) -> None:
    """A name and values go out, a value or an error comes back; one channel is asked for."""
    assert await shop.add(1, two=[2]) == 1
    with pytest.raises(KeyError, match="sold out"):
        await shop.fail()

    assert SENT == ["channel", ("add", (1,), {"two": [2]}), ("fail", (), {})]


async def test_calls_take_their_places_through_any_channel(shop: Any) -> None:
    """P3: calls arrive in the order they were made in, awaited or not."""
    answers = [shop.add(number) for number in range(20)]
    del answers[::2]

    assert [items[0] for items, _ in await shop.all()] == list(range(20))


async def test_what_can_be_refused_at_once_is_refused_before_the_channel(shop: Any) -> None:
    """A name that is no method reaches no channel."""
    with pytest.raises(durable.NoSuchMethod):
        shop.nothing

    assert not SENT


async def test_a_stream_comes_through_any_channel(shop: Any) -> None:
    """An async generator is a stream, item by item."""
    assert [item async for item in shop.count_to(4)] == [0, 1, 2, 3]
    assert SENT == ["channel", ("count_to", (4,), {})]


async def test_a_redirect_is_followed_by_the_stub(shop: Any) -> None:
    """The request that follows goes through the stub's channel as the first one did."""
    response = await shop.fetch("http://shop/old", method="POST", body=b"order")

    assert await response.text() == "GET "
    assert SENT == ["channel", ("POST", "/old", 0), ("GET", "/new", 1)]


async def test_an_evicted_object_is_found_by_another_channel(shop: Any) -> None:
    """A channel whose object left memory unharmed is gone: the stub asks for the next one."""
    await shop.add(1)
    await durable.testing.evict(shop)

    assert await shop.add(2) == 1  # memory is new
    assert SENT == ["channel", ("add", (1,), {}), "channel", ("add", (2,), {})]


async def test_a_broken_object_keeps_its_channel(runtime: durable.Runtime, shop: Any) -> None:
    """P14: an old stub asks for no other channel, so it keeps getting the reason."""
    with pytest.raises(durable.ObjectAborted, match="closed for good"):
        await shop.abort()
    for _ in range(2):
        with pytest.raises(durable.ObjectAborted, match="closed for good"):
            await shop.add(1)

    assert SENT.count("channel") == 1
    assert await runtime.env.SHOP.get_by_name("a").add(1) == 1


async def test_a_namespace_deletes_by_a_channel(runtime: durable.Runtime, shop: Any) -> None:
    """What is stored of an object can be deleted wherever it is."""
    await shop.add(1)
    await runtime.env.SHOP.delete(shop.id)

    assert SENT[-1] == "delete_all"
    assert [stored async for stored in runtime.env.SHOP.objects()] == []


async def test_objects_call_each_other_through_any_channel(
    runtime: durable.Runtime, shop: Any
) -> None:
    """The stub in `env` is one like others; the call counts as a subrequest of its sender."""
    assert await shop.ask("b") == 1
    assert ("add", ("from a shop",), {}) in SENT


@pytest.mark.backends("asyncio", "trio")
async def test_from_another_thread_no_channel_is_asked_for(shop: Any) -> None:
    """Neither the first call nor a later one leaves from a thread that is not the loop's."""
    for _ in range(2):
        SENT.clear()
        for attempt in (shop.add, lambda: shop.fetch("http://shop/"), lambda: shop.count_to(1)):
            with pytest.raises(durable.WrongLoop):
                await anyio.to_thread.run_sync(attempt)
        assert "channel" not in SENT
        await shop.add(1)


async def test_a_closed_store_gives_no_channel(tmp_path: Path) -> None:
    """A stub that was never used, and one that was, say that the store is closed, at the call."""
    async with durable.open(tmp_path / "other", bindings={"SHOP": Shop}) as runtime:
        used, unused = runtime.env.SHOP.get_by_name("a"), runtime.env.SHOP.get_by_name("b")
        await used.add(1)

    for stub in (used, unused):
        with pytest.raises(durable.RuntimeClosed):
            stub.add(1)
        with pytest.raises(durable.RuntimeClosed):
            stub.fetch("http://shop/")
