"""The applications that the tests of the ASGI door have served."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import fastapi
from starlette.applications import Starlette
from starlette.routing import Mount

import durable
import durable.asgi
import durable.inspector
from durable import Request, Response, WebSocket, WebSocketPair


class Counter(durable.DurableObject):
    """Counts."""

    async def fetch(self, request: Request) -> Response:
        return Response(str(await self.increment()))

    async def increment(self, by: int = 1) -> int:
        value: int = await self.ctx.storage.get("value", 0) + by
        await self.ctx.storage.put("value", value)
        return value


class Room(durable.DurableObject):
    """Echoes, and writes down how its sockets end."""

    async def fetch(self, request: Request) -> Response:
        if request.url.path.endswith("/ends"):
            return Response.from_json(await self.ctx.storage.get("ends", []))
        if request.headers.get("upgrade") != "websocket":
            return Response("no upgrade", status=400)
        client, server = WebSocketPair()
        self.ctx.accept_websocket(server)
        headers = [("set-cookie", "a=1"), ("set-cookie", "b=2")]
        if "sec-websocket-protocol" in request.headers:
            headers.append(("sec-websocket-protocol", "chat"))
        return Response(status=101, websocket=client, headers=headers)

    async def websocket_message(self, ws: WebSocket, message: str | bytes) -> None:
        if message == "close":
            await ws.close(4001, "as you wish")
        elif message == "abort":
            self.ctx.abort("enough")
        else:
            await ws.send(message)

    async def websocket_close(self, ws: WebSocket, code: int, reason: str, was_clean: bool) -> None:
        ends = await self.ctx.storage.get("ends", [])
        await self.ctx.storage.put("ends", [*ends, [code, reason, was_clean]])


class Streamer(durable.DurableObject):
    """Answers with bodies that take their time."""

    ended = False
    listeners = 0
    signalled = "waiting"

    async def fetch(self, request: Request) -> Response:
        if request.url.path.endswith("/ended"):
            return Response(str(self.ended))
        if request.url.path.endswith("/broken"):
            return Response(self.break_off())
        if request.url.path.endswith("/endless"):
            return Response(self.endless())
        if request.url.path.endswith("/listeners"):
            return Response(str(self.listeners))
        if request.url.path.endswith("/quiet"):
            return Response(self.quiet(), headers={"content-type": "text/event-stream"})
        if request.url.path.endswith("/signal"):
            return Response(self.signalled)
        if request.url.path.endswith("/patient"):
            await request.signal.wait()
            self.signalled = "gone"
        return Response(self.upper(request))

    async def upper(self, request: Request) -> AsyncIterator[bytes]:
        async for chunk in request.stream():
            yield chunk.upper()

    async def break_off(self) -> AsyncIterator[bytes]:
        yield b"half"
        raise ValueError("broken off")

    async def endless(self) -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"tick\n"
                await anyio.sleep(0.01)
        finally:
            self.ended = True

    async def quiet(self) -> AsyncIterator[bytes]:
        """Events of a session in which nothing happens."""
        self.listeners += 1
        try:
            yield b"data: hello\n\n"
            await anyio.sleep_forever()
        finally:
            self.listeners -= 1


async def fetch(request: Request, env: Any) -> Response:
    match request.url.path.split("/")[1]:
        case "ready":
            return Response("yes")
        case "counter":
            return await env.COUNTERS.get_by_name(request.url.path).fetch(request)
        case "room":
            return await env.ROOMS.get_by_name("a").fetch(request)
        case "stream":
            return await env.STREAMERS.get_by_name("a").fetch(request)
        case "echo":
            cookies = [("set-cookie", "a=1"), ("set-cookie", "b=2")]
            headers = [*cookies, ("x-url", str(request.url)), ("x-method", request.method)]
            return Response(await request.bytes(), headers=headers)
        case "headers":
            return Response.from_json(list(request.headers.items()))
        case "form":
            return await form(request)
        case "empty":
            return Response(status=204)
        case "boom":
            raise ValueError("secret")
        case "overloaded":
            raise durable.ObjectOverloaded("Durable Object is overloaded.")
        case "nothing":
            return None  # type: ignore[return-value]
        case "wait":
            try:
                await anyio.sleep_forever()
            finally:
                await env.COUNTERS.get_by_name("/cancelled").increment()
        case "cancelled":
            return Response(str(await env.COUNTERS.get_by_name("/cancelled").increment(0)))
    return Response("not found", status=404)


async def form(request: Request) -> Response:
    """What came, and the cookies of the request back with one more."""
    sent = await request.form(size_max=500_000)
    response = Response.from_json(
        [
            [name, value if isinstance(value, str) else [value.filename, value.size]]
            for name, value in sent.items()
        ]
    )
    for name, value in request.cookies.items():
        response.set_cookie(name, value)
    response.set_cookie("new", "1", httponly=True)
    return response


STORE = os.environ.get("STORE", "store")
OPTIONS: dict[str, Any] = {
    "bindings": {"COUNTERS": Counter, "ROOMS": Room, "STREAMERS": Streamer},
    "body_size_max": 1_000_000,
}

alone = durable.asgi.app(fetch, STORE, **OPTIONS)

# Nothing hands the lifespan on to what is mounted, so the store is opened at the first request.
in_starlette = Starlette(
    routes=[
        Mount("/sub", app=durable.asgi.app(fetch, STORE, **OPTIONS)),
    ]
)

mounted = durable.asgi.app(fetch, STORE, **OPTIONS)
in_fastapi = fastapi.FastAPI(lifespan=mounted.lifespan)
in_fastapi.mount("/sub", mounted)


@asynccontextmanager
async def lifespan(app: fastapi.FastAPI) -> AsyncIterator[None]:
    async with durable.open(STORE) as runtime:
        app.state.counters = runtime.namespace(Counter)
        app.state.rooms = runtime.namespace(Room)
        app.state.streamers = runtime.namespace(Streamer)
        yield


with_routes = fastapi.FastAPI(lifespan=lifespan)


@with_routes.middleware("http")
async def look_at(request: fastapi.Request, call_next: Any) -> Any:
    """Whose Starlette wraps all that the routes receive and send."""
    return await call_next(request)


@with_routes.get("/ready")
async def ready() -> str:
    return "yes"


@with_routes.post("/count/{name}")
async def count(request: fastapi.Request, name: str) -> int:
    value: int = await request.app.state.counters.get_by_name(name).increment()
    return value


@with_routes.api_route("/room/{path:path}")
async def to_room(request: fastapi.Request) -> fastapi.Response:
    stub = request.app.state.rooms.get_by_name("a")
    return durable.asgi.starlette_response(await stub.fetch(await durable.asgi.request_of(request)))


@with_routes.api_route("/stream/{path:path}", methods=["GET", "POST"])
async def to_streamer(request: fastapi.Request) -> fastapi.Response:
    stub = request.app.state.streamers.get_by_name("a")
    return durable.asgi.starlette_response(await stub.fetch(await durable.asgi.request_of(request)))


@with_routes.post("/json/{path:path}")
async def read_and_stream(request: fastapi.Request, path: str) -> fastapi.Response:
    """The framework reads the body, and the object is asked for something else."""
    await request.json()
    stub = request.app.state.streamers.get_by_name("a")
    return durable.asgi.starlette_response(await stub.fetch(f"https://streamer/{path}"))


@with_routes.websocket("/room")
async def room(websocket: fastapi.WebSocket) -> None:
    await durable.asgi.forward(websocket, websocket.app.state.rooms.get_by_name("a"))


class Worker(durable.DurableObject):
    """Says which process it is in."""

    async def fetch(self, request: Request) -> Response:
        value: int = await self.ctx.storage.get("value", 0) + 1
        self.ctx.storage.put("value", value)
        return Response(f"{value} {os.getpid()}")


async def to_worker(request: Request, env: Any) -> Response:
    """Each path is an object; says also by which process the request came."""
    response = await env.WORKERS.get_by_name(request.url.path).fetch(request)
    return Response(f"{await response.text()} {os.getpid()}")


shared_workers = durable.asgi.app(
    to_worker, os.environ.get("STORE", "store"), shared=True, bindings={"WORKERS": Worker}
)


TOKEN = "a token of the tests"


@asynccontextmanager
async def inspected_lifespan(app: fastapi.FastAPI) -> AsyncIterator[None]:
    async with durable.open(STORE) as runtime:
        app.mount("/inspect", durable.inspector.app(runtime, token=TOKEN))
        yield


inspected = fastapi.FastAPI(lifespan=inspected_lifespan)
