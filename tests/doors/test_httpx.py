"""Transports for httpx and httpx2: to objects, and from objects to the world."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import durable
import durable.testing

pytest.importorskip("durable.httpx")

from durable.httpx import ConfirmedTransport, ObjectTransport

sent: list[str] = []


@pytest.fixture(params=["httpx", "httpx2"])
def library(request: pytest.FixtureRequest) -> Any:
    """Each of the two libraries that is installed."""
    return pytest.importorskip(request.param)


@pytest.fixture
def faults() -> durable.testing.Faults:
    return durable.testing.Faults()


@pytest.fixture
async def runtime(tmp_path: Path, faults: durable.testing.Faults) -> AsyncIterator[durable.Runtime]:
    async with durable.testing.open(tmp_path / "store", faults=faults) as runtime:
        yield runtime


class Mirror(durable.DurableObject):
    """Answers with what it was sent, and calls the world."""

    async def fetch(self, request: durable.Request) -> durable.Response:
        if request.url.path == "/socket":
            client, _ = durable.WebSocketPair()
            return durable.Response(status=101, websocket=client)
        if request.url.path == "/fail":
            raise ValueError("as asked")
        if request.url.path == "/late":
            await anyio.sleep(0.05)
            self.ctx.storage.put("ended", True)
        if request.url.path == "/stalls":
            return durable.Response(self.stalls())
        headers = [
            ("x-name", self.ctx.id.name or ""),
            ("x-method", request.method),
            ("x-path", request.url.raw_path_qs),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
        ]
        return durable.Response(self.chunks(request), status=201, headers=headers)

    async def chunks(self, request: durable.Request) -> AsyncIterator[bytes]:
        yield b"<"
        async for chunk in request.stream():
            yield chunk
        yield b">"

    async def stalls(self) -> AsyncIterator[bytes]:
        yield b"begun"
        await anyio.sleep_forever()

    async def ended(self) -> bool:
        ended: bool = await self.ctx.storage.get("ended", False)
        return ended

    async def call_out(self, name: str) -> str:
        library = importlib.import_module(name)

        def answer(request: Any) -> Any:
            sent.append(str(request.url))
            return library.Response(200, text="done")

        transport = ConfirmedTransport(self.ctx, library.MockTransport(answer))
        self.ctx.storage.put("called", True)
        async with library.AsyncClient(transport=transport) as client:
            text: str = (await client.get("https://world/")).text
        return text


async def test_a_client_talks_to_a_stub(runtime: durable.Runtime, library: Any) -> None:
    """Whatever the host of the URL; all goes through, one by one."""
    stub = runtime.namespace(Mirror).get_by_name("Ann")
    async with library.AsyncClient(transport=ObjectTransport(stub)) as client:
        response = await client.post("https://anything/a%2Fb?q=1", content=b"body")

    assert isinstance(response, library.Response)
    assert (response.status_code, response.text) == (201, "<body>")
    assert response.headers["x-name"] == "Ann"
    assert response.headers["x-method"] == "POST"
    assert response.headers["x-path"] == "/a%2Fb?q=1"
    assert response.headers.get_list("set-cookie") == ["a=1", "b=2"]


async def test_a_client_talks_to_a_namespace(runtime: durable.Runtime, library: Any) -> None:
    """The host of the URL is the name of the object."""
    transport = ObjectTransport(runtime.namespace(Mirror))
    async with library.AsyncClient(transport=transport) as client:
        names = [(await client.get(f"https://{name}/")).headers["x-name"] for name in ("a", "b")]

    assert names == ["a", "b"]


async def test_bodies_are_streamed(runtime: durable.Runtime, library: Any) -> None:
    """To the object, and from it."""

    async def content() -> AsyncIterator[bytes]:
        yield b"one "
        yield b"two"

    stub = runtime.namespace(Mirror).get_by_name("a")
    async with (
        library.AsyncClient(transport=ObjectTransport(stub)) as client,
        client.stream("PUT", "https://a/", content=content()) as response,
    ):
        assert [chunk async for chunk in response.aiter_raw()] == [b"<", b"one ", b"two", b">"]


async def test_an_error_of_the_object_is_the_clients(
    runtime: durable.Runtime, library: Any
) -> None:
    """It arrives as itself, as from `stub.fetch`."""
    stub = runtime.namespace(Mirror).get_by_name("a")
    async with library.AsyncClient(transport=ObjectTransport(stub)) as client:
        with pytest.raises(ValueError, match="as asked"):
            await client.get("https://a/fail")


async def test_a_client_waits_no_longer_than_its_timeout(
    runtime: durable.Runtime, library: Any
) -> None:
    """The handler runs on, as for every caller that goes away (P17)."""
    stub = runtime.namespace(Mirror).get_by_name("a")
    async with library.AsyncClient(transport=ObjectTransport(stub)) as client:
        with pytest.raises(library.ReadTimeout):
            await client.get("https://a/late", timeout=0.01)
        assert (await client.get("https://a/late", timeout=None)).status_code == 201
        with anyio.fail_after(5):
            while not await stub.ended():
                await anyio.sleep(0.001)


async def test_the_timeout_is_of_each_part_of_a_body_too(
    runtime: durable.Runtime, library: Any
) -> None:
    stub = runtime.namespace(Mirror).get_by_name("a")
    async with (
        library.AsyncClient(transport=ObjectTransport(stub), timeout=30) as client,
        client.stream("GET", "https://a/stalls") as response,
    ):
        chunks = response.aiter_bytes()
        assert await anext(chunks) == b"begun"
        response.request.extensions["timeout"]["read"] = 0.01
        with pytest.raises(library.ReadTimeout):
            await anext(chunks)


async def test_a_web_socket_is_no_answer_for_it(runtime: durable.Runtime, library: Any) -> None:
    """The error says how to get one."""
    stub = runtime.namespace(Mirror).get_by_name("a")
    async with library.AsyncClient(transport=ObjectTransport(stub)) as client:
        with pytest.raises(durable.WebSocketClosed, match=r"call stub.fetch"):
            await client.get("https://a/socket")


async def test_a_target_must_answer_requests() -> None:
    """A class, for instance, does not."""
    with pytest.raises(TypeError, match="takes a stub or a namespace"):
        ObjectTransport(1)  # type: ignore[arg-type]


async def test_a_request_waits_for_the_writes_before_it(
    runtime: durable.Runtime, faults: durable.testing.Faults, library: Any
) -> None:
    """What an object tells the world rests on what is on disk (P8)."""
    sent.clear()
    stub = runtime.namespace(Mirror).get_by_name("a")
    async with anyio.create_task_group() as tasks:
        with faults.hold_commits():
            tasks.start_soon(stub.call_out, library.__name__)
            await anyio.wait_all_tasks_blocked()
            assert not sent

    assert sent == ["https://world/"]


async def test_a_request_is_never_sent_when_the_write_fails(
    runtime: durable.Runtime, faults: durable.testing.Faults, library: Any
) -> None:
    """The object is reset instead."""
    sent.clear()
    faults.fail_commits()
    with pytest.raises(durable.DurableError):
        await runtime.namespace(Mirror).get_by_name("a").call_out(library.__name__)

    assert not sent
