"""The ASGI door by hand: clients that go, bodies that stay unread, refusals, loops that end."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from attrs import define, field
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.routing import Route
from starlette.testclient import TestClient

import durable
import durable.asgi
import durable.testing
from durable import Request, Response
from durable.asgi.incoming import AHEAD_BYTES_MAX, Incoming

GONE = {"type": "http.disconnect"}


class Counter(durable.DurableObject):
    async def fetch(self, request: Request) -> Response:
        value = await self.ctx.storage.get("value", 0) + 1
        self.ctx.storage.put("value", value)
        return Response(str(value))


async def count(request: Request, env: Any) -> Response:
    return await env.COUNTERS.get_by_name("a").fetch(request)  # type: ignore[no-any-return]


BINDINGS: dict[str, Any] = {"COUNTERS": Counter}


@define(eq=False)
class Client:
    """One request, whose client is at the test's hand."""

    messages: list[dict[str, Any]] = field(
        factory=lambda: [{"type": "http.request", "body": b"", "more_body": False}]
    )
    gone: anyio.Event = field(factory=anyio.Event)
    taken: int = 0
    sent: list[Any] = field(factory=list)

    async def receive(self) -> dict[str, Any]:
        if self.messages:
            self.taken += 1
            return self.messages.pop(0)
        await self.gone.wait()
        return GONE

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    async def ask(self, app: Any, method: str = "GET", **scope: Any) -> None:
        headers = [(b"host", b"x"), *scope.pop("headers", ())]
        base = {"type": "http", "http_version": "1.1", "method": method, "scheme": "http"}
        path = {"path": "/", "raw_path": b"/", "query_string": b"", "headers": headers}
        await app({**base, **path, **scope}, self.receive, self.send)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])


async def wait_for(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not condition():
            await anyio.sleep(0.001)


async def pass_on(request: Any, call_next: Any) -> Any:
    return await call_next(request)


@pytest.mark.parametrize("is_mounted", [False, True])
async def test_a_client_that_goes_away_leaves_no_request_unanswered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, *, is_mounted: bool
) -> None:
    """A middleware in between would take that for a fault of the application."""
    begun = anyio.Event()

    async def wait(request: Request, env: Any) -> Response:
        begun.set()
        await anyio.sleep_forever()
        raise AssertionError

    ours = durable.asgi.app(wait, tmp_path / "store")
    app: Any = ours
    if is_mounted:
        app = Starlette(middleware=[Middleware(BaseHTTPMiddleware, dispatch=pass_on)])
        app.mount("/", ours)
    client = Client()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.ask, app)
        await begun.wait()
        client.gone.set()
    await ours.aclose()

    assert client.status == 499
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


async def test_a_body_that_may_yet_be_read_is_taken_in_up_to_a_bound() -> None:
    """To see whether the client has gone; what is read makes room."""
    size = 65_536
    parts = [{"type": "http.request", "body": bytes(size), "more_body": True}] * 40
    client = Client(messages=list(parts))
    incoming = Incoming(client.receive, size * 40)
    body = incoming.body()
    bound = AHEAD_BYTES_MAX // size
    gone = anyio.Event()

    async def watch() -> None:
        await incoming.wait_gone()
        gone.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        await anyio.wait_all_tasks_blocked()
        assert client.taken == bound
        await anext(body)
        await anyio.wait_all_tasks_blocked()
        assert client.taken == bound + 1

        await body.aclose()
        await anyio.wait_all_tasks_blocked()
        assert client.taken == 40
        assert not gone.is_set()
        client.gone.set()
        await gone.wait()


async def test_a_body_is_read_whole_while_its_client_is_watched() -> None:
    """Each part comes once, in order, to the reader."""
    parts = [
        {"type": "http.request", "body": b"%d," % number, "more_body": number < 99}
        for number in range(100)
    ]
    client = Client(messages=parts)
    incoming = Incoming(client.receive, 10_000)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(incoming.wait_gone)
        got = [chunk async for chunk in incoming.body()]
        client.gone.set()
    assert b"".join(got) == b"".join(b"%d," % number for number in range(100))


async def test_a_reader_hears_that_its_client_has_gone() -> None:
    """Also if another has seen it first."""
    parts = [{"type": "http.request", "body": b"a", "more_body": True}]
    client = Client(messages=parts)
    incoming = Incoming(client.receive, 10)
    client.gone.set()
    await incoming.wait_gone()
    body = incoming.body()
    assert await anext(body) == b"a"
    with pytest.raises(durable.asgi.ClientGone):
        await anext(body)


@pytest.mark.parametrize("client_address", [None, ("1.2.3.4", 5)])
async def test_the_client_s_address_is_what_the_server_says(
    tmp_path: Path, client_address: Any
) -> None:
    """And nothing where it does not know one, as behind a unix socket."""
    seen: list[Any] = []

    async def entry(request: Request, env: Any) -> Response:
        seen.append(request.headers.getall("cf-connecting-ip", []))
        return Response()

    app = durable.asgi.app(entry, tmp_path / "store")
    spoofed = [(b"CF-Connecting-IP", b"6.6.6.6"), (b"cf-connecting-ip", b"7.7.7.7")]
    await Client().ask(app, client=client_address, headers=spoofed)
    await app.aclose()

    assert seen == [["1.2.3.4"] if client_address else []]


async def test_a_get_with_a_body_reaches_the_object(tmp_path: Path) -> None:
    """Clients may send one, and the real runtime hands it on."""

    class Reader(durable.DurableObject):
        async def fetch(self, request: Request) -> Response:
            return Response(await request.bytes())

    async def entry(request: Request, env: Any) -> Response:
        return await env.READERS.get_by_name("a").fetch(request)  # type: ignore[no-any-return]

    app = durable.asgi.app(entry, tmp_path / "store", bindings={"READERS": Reader})
    for headers in ([(b"content-length", b"5")], [(b"transfer-encoding", b"chunked")]):
        client = Client(messages=[{"type": "http.request", "body": b"hello", "more_body": False}])
        await client.ask(app, headers=headers)
        assert client.status == 200
        assert client.sent[1]["body"] == b"hello"
    await app.aclose()


async def test_a_redirect_is_for_the_client_to_follow(tmp_path: Path) -> None:
    """What an entry function hands on comes back as it is."""

    class Away(durable.DurableObject):
        async def fetch(self, request: Request) -> Response:
            return Response.redirect("https://elsewhere/")

    async def entry(request: Request, env: Any) -> Response:
        return await env.AWAYS.get_by_name("a").fetch(request)  # type: ignore[no-any-return]

    app = durable.asgi.app(entry, tmp_path / "store", bindings={"AWAYS": Away})
    client = Client()
    await client.ask(app)
    await app.aclose()

    assert client.status == 302


async def test_a_response_that_was_read_is_a_500(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And says in the log what was done wrong, instead of being empty."""

    async def entry(request: Request, env: Any) -> Response:
        response = Response("abc")
        await response.text()
        return response

    app = durable.asgi.app(entry, tmp_path / "store")
    client = Client()
    await client.ask(app)
    await app.aclose()

    assert client.status == 500
    assert "already been used" in caplog.text


async def test_how_a_response_is_framed_is_the_server_s_business(tmp_path: Path) -> None:
    """An upstream's headers of its connection are not handed on."""

    async def entry(request: Request, env: Any) -> Response:
        upstream = {"transfer-encoding": "chunked", "keep-alive": "timeout=5", "x-a": "1"}
        return Response("hello", headers=upstream)

    app = durable.asgi.app(entry, tmp_path / "store")
    client = Client()
    await client.ask(app)
    await app.aclose()

    assert {name for name, _ in client.sent[0]["headers"]} == {
        b"x-a",
        b"content-type",
        b"content-length",
    }


async def test_refusals_are_summed_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The first is logged at once, the others as a number, in a while or at the end."""

    async def entry(request: Request, env: Any) -> Response:
        raise durable.ObjectOverloaded("Durable Object is overloaded.")

    clock = durable.testing.VirtualClock()
    async with durable.testing.open(tmp_path / "store", clock=clock) as runtime:
        app = durable.asgi.app(entry, runtime=runtime)

        async def refuse(times: int) -> None:
            for _ in range(times):
                client = Client()
                await client.ask(app)
                assert client.status == 503

        def lines() -> list[str]:
            return [r.getMessage() for r in caplog.records if "refused" in r.getMessage()]

        await refuse(1_000)
        assert lines() == ["GET / was refused: Durable Object is overloaded."]
        await clock.advance(11)
        assert len(lines()) == 2
        assert lines()[1].startswith("999 more requests were refused in the last 10 s")
        await refuse(3)
        assert len(lines()) == 2
        await clock.advance(11)
        assert lines()[2].startswith("3 more requests")
        await clock.advance(30)
        await refuse(1)
        assert len(lines()) == 4
        await refuse(1)
        await app.aclose()
        assert lines()[4].startswith("1 more requests")


async def test_a_streamed_body_of_the_entry_function_may_have_scopes_of_its_own(
    tmp_path: Path,
) -> None:
    """It runs in a task of its own, and ends with its client."""
    ended = anyio.Event()

    async def events() -> AsyncIterator[bytes]:
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(anyio.sleep_forever)
                yield b"data: hello\n\n"
                await anyio.sleep_forever()
        finally:
            ended.set()

    async def entry(request: Request, env: Any) -> Response:
        return Response(events())

    app = durable.asgi.app(entry, tmp_path / "store")
    client = Client()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.ask, app)
        await wait_for(lambda: len(client.sent) == 2)
        client.gone.set()
        await ended.wait()
    await app.aclose()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_test_client_needs_no_with(
    tmp_path: Path, backend: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Each request has an event loop of its own then; the store of one that ended is let go."""
    client = TestClient(
        durable.asgi.app(count, tmp_path / "store", bindings=BINDINGS), backend=backend
    )
    assert [client.get("/").text for _ in range(3)] == ["1", "2", "3"]
    assert "with TestClient(app)" in caplog.text

    app = durable.asgi.app(count, tmp_path / "store", bindings=BINDINGS)
    with TestClient(app, backend=backend) as client:
        assert [client.get("/").text for _ in range(2)] == ["4", "5"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_store_that_was_left_open_is_free_when_its_loop_has_ended(
    tmp_path: Path, backend: str
) -> None:
    """What was written is kept, also what no turn had sealed."""
    left = []

    async def leave() -> None:
        opening = durable.open(tmp_path / "store", bindings=BINDINGS)
        runtime = await opening.__aenter__()
        left.append((opening, runtime))
        await runtime.env.COUNTERS.get_by_name("a").fetch("https://counter/")

    async def look() -> str:
        async with durable.open(tmp_path / "store", bindings=BINDINGS) as runtime:
            response = await runtime.env.COUNTERS.get_by_name("a").fetch("https://counter/")
            return await response.text()

    anyio.run(leave, backend=backend)
    assert anyio.run(look, backend=backend) == "2"


class HandsBack(durable.DurableObject):
    """What it does with a body, by the path: sends all of it back, or one chunk, or none."""

    left: anyio.Event

    async def fetch(self, request: Request) -> Response:
        return Response(self.answer(request, int(request.url.path.strip("/") or 99)))

    async def answer(self, request: Request, count: int) -> AsyncIterator[bytes]:
        try:
            async for chunk in request.stream():
                if not count:
                    break
                count -= 1
                yield chunk
            else:
                return
            del request
            yield b"."
            await anyio.sleep_forever()
        finally:
            HandsBack.left.set()


class SlowClient(Client):
    """One who listens beside the reader of a body has a turn between two messages."""

    async def receive(self) -> dict[str, Any]:
        await anyio.sleep(0)
        return await super().receive()


CHUNKS = [b"%d," % n for n in range(20)]


@pytest.mark.parametrize("count", ["", "0", "1"])
async def test_a_route_hands_on_the_body_by_itself(tmp_path: Path, count: str) -> None:
    """As the framework's own stream: no chunk of it is taken for a sign of the client's. When the
    object leaves it, a client that goes away is noticed while nothing is to be sent."""
    HandsBack.left = anyio.Event()
    client = SlowClient([{"type": "http.request", "body": c, "more_body": True} for c in CHUNKS])
    client.messages.append({"type": "http.request", "body": b"", "more_body": False})

    async with durable.open(tmp_path / "store", bindings={"BACK": HandsBack}) as runtime:

        async def route(request: Any) -> Any:
            stub = runtime.env.BACK.get_by_name("a")
            sent = stub.fetch(f"http://back/{count}", method="POST", body=request.stream())
            return durable.asgi.starlette_response(await sent)

        app = Starlette(routes=[Route("/", route, methods=["POST"])])
        headers = [(b"transfer-encoding", b"chunked")]
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(partial(client.ask, app, "POST", headers=headers))
                if count:
                    await wait_for(lambda: any(m.get("body") == b"." for m in client.sent))
                    assert not HandsBack.left.is_set()
                    client.gone.set()
            await HandsBack.left.wait()

    body = b"".join(message.get("body", b"") for message in client.sent)
    assert body == (b"".join(CHUNKS[: int(count)]) + b"." if count else b"".join(CHUNKS))
