"""`fetch` of objects of another process: bodies, redirects, signals."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import ClassVar

import anyio
import pytest

import durable

from .conftest import Pair

pytestmark = pytest.mark.anyio

URL = "https://object/path"


class Web(durable.DurableObject):
    made = 0

    async def fetch(self, request: durable.Request) -> durable.Response:
        path = request.url.path
        if path == "/echo":
            return durable.Response(
                await request.bytes(), status=201, headers={"x-method": request.method}
            )
        if path == "/stream":
            return durable.Response(self._chunks(int(request.headers["count"])))
        if path == "/relay":
            return durable.Response(request.stream())
        if path == "/redirect":
            return durable.Response.redirect("https://object/echo", 307)
        if path == "/wait":
            await request.signal.wait()
            await self.ctx.storage.put("aborted", True)
            return durable.Response()
        return durable.Response.from_json({"url": str(request.url)})

    async def _chunks(self, count: int) -> AsyncIterator[bytes]:
        for number in range(count):
            self.made += 1
            yield f"{number},".encode()

    def how_many(self) -> int:
        return self.made

    async def was_aborted(self) -> bool:
        return bool(await self.ctx.storage.get("aborted", False))


async def test_a_request_and_its_response_cross(pair: Pair) -> None:
    web = pair.stub(Web, "a")

    response = await web.fetch("https://object/echo", method="POST", body="text")

    assert response.status == 201
    assert response.headers["X-Method"] == "POST"
    assert await response.text() == "text"
    assert await (await web.fetch(URL)).json() == {"url": URL}


async def test_a_body_of_many_mebibytes_crosses(pair: Pair) -> None:
    web = pair.stub(Web, "a")
    body = bytes(range(256)) * 4 * 1024 * 5

    response = await web.fetch("https://object/echo", method="POST", body=body)

    assert await response.bytes() == body


async def test_streamed_bodies_cross_both_ways(pair: Pair) -> None:
    web = pair.stub(Web, "a")

    async def chunks() -> AsyncIterator[bytes]:
        for number in range(100):
            yield bytes([number])

    response = await web.fetch("https://object/relay", method="POST", body=chunks())

    assert await response.bytes() == bytes(range(100))


async def test_a_body_that_is_not_read_on_is_not_made_on(pair: Pair) -> None:
    web = pair.stub(Web, "a")
    response = await web.fetch("https://object/stream", headers={"count": "100000"})
    assert await web.how_many() == 0
    stream = response.stream()
    await anext(stream)
    for _ in range(5):
        await web.how_many()

    assert 1 <= await web.how_many() < 40

    await stream.aclose()  # type: ignore[attr-defined]
    made = await web.how_many()
    assert await web.how_many() == made


async def test_a_redirect_is_followed(pair: Pair) -> None:
    web = pair.stub(Web, "a")

    response = await web.fetch("https://object/redirect", method="POST", body=b"again")

    assert response.status == 201
    assert await response.bytes() == b"again"


async def test_the_object_hears_that_its_caller_has_gone(pair: Pair) -> None:
    web = pair.stub(Web, "a")

    with anyio.move_on_after(0.2):
        await web.fetch("https://object/wait")

    while not await web.was_aborted():
        await anyio.sleep(0.01)


async def test_the_signal_of_a_request_that_is_handed_on_crosses(pair: Pair) -> None:
    web = pair.stub(Web, "a")
    request = durable.Request("https://object/wait")
    answer = web.fetch(request)
    await web.how_many()
    request.signal._abort()

    await answer
    assert await web.was_aborted()


async def test_the_stream_of_a_body_breaks_off_with_its_process(pair: Pair) -> None:
    web = pair.stub(Web, "a")
    response = await web.fetch("https://object/stream", headers={"count": "100000"})
    stream = response.stream()
    await anext(stream)
    pair.server.close()

    with pytest.raises(durable.ObjectUnreachable):
        async for _ in stream:
            pass


class Busy(durable.DurableObject):
    """Lets nobody in before its door is open."""

    doors: ClassVar[list[anyio.Event]] = []

    async def block(self) -> None:
        await self.ctx.block_concurrency_while(self.doors[-1].wait)

    async def fetch(self, request: durable.Request) -> durable.Response:
        return durable.Response(await request.bytes())


async def test_bodies_that_wait_at_their_callers_fill_the_queue_too(pair: Pair) -> None:
    """A large body is sent as it is read; until then it counts where its request waits."""
    Busy.doors.append(anyio.Event())
    busy = pair.stub(Busy, "a")
    block = busy.block()
    body = bytes(8 * 1024 * 1024)
    answers = [busy.fetch(URL, method="POST", body=body) for _ in range(4)]

    with pytest.raises(durable.ObjectOverloaded, match="Too much data queued"):
        await busy.fetch(URL, method="POST", body=b"one more")

    Busy.doors[-1].set()
    await block
    for answer in answers:
        assert len(await (await answer).bytes()) == len(body)
