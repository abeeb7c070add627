"""`asgi` of Cloudflare's Python: an ASGI application, such as FastAPI's, as a Worker's handler.

    async def fetch(self, request):
        return await asgi.fetch(app, request, self.env)

The application is started and stopped around each request, as there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

import durable

from . import messages
from .promises import started
from .sockets import WebSocket
from .streams import PIPE_MAX, ReadableStream
from .urls import URL

log: logging.Logger = logging.getLogger("durable")

Message = dict[str, Any]
App = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Any
]

_VERSIONS = {"spec_version": "2.0", "version": "3.0"}


def _scope(request: messages.Request, kind: str, env: Any, state: Message) -> Message:
    url = URL(request.url)
    scheme = url.protocol.rstrip(":")
    return {
        "type": kind,
        "asgi": _VERSIONS,
        "http_version": "1.1",
        "method": request.method,
        "scheme": scheme.replace("http", "ws") if kind == "websocket" else scheme,
        "path": unquote(url.pathname),
        "raw_path": url.pathname.encode(),
        "root_path": "",
        "query_string": url.search[1:].encode(),
        "headers": [(n.encode("latin-1"), v.encode("latin-1")) for n, v in request.headers.items()],
        "server": (url.hostname, int(url.port or (443 if scheme == "https" else 80))),
        "subprotocols": [],
        "env": env,
        "state": dict(state),
    }


class _Lifespan:
    """One application that is started, if it can be."""

    def __init__(self, app: App) -> None:
        self.state: Message = {}
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._heard: asyncio.Queue[Message] = asyncio.Queue()
        self._task = asyncio.ensure_future(self._run(app))

    async def _run(self, app: App) -> None:
        scope = {"type": "lifespan", "asgi": _VERSIONS, "state": self.state}
        # An application need not support it, and may show that by any exception.
        with suppress(Exception):
            await app(scope, self._inbox.get, self._heard.put)
        self._heard.put_nowait({"type": "ended"})

    async def start(self) -> None:
        self._inbox.put_nowait({"type": "lifespan.startup"})
        answer = await self._heard.get()
        if answer["type"] == "lifespan.startup.failed":
            raise RuntimeError(answer.get("message") or "the ASGI application could not start")

    async def stop(self) -> None:
        self._inbox.put_nowait({"type": "lifespan.shutdown"})
        await self._heard.get()
        self._task.cancel()


async def fetch(app: App, req: Any, env: Any, ctx: Any = None) -> messages.Response:
    """The response of *app* to a request; its body is streamed if it is sent in parts."""
    request: messages.Request = getattr(req, "js_object", req)
    lifespan = _Lifespan(app)
    await lifespan.start()
    chunks = _chunks_of(request)
    sent: asyncio.Queue[Any] = asyncio.Queue(PIPE_MAX)

    is_read, is_over = False, asyncio.Event()

    async def receive() -> Message:
        nonlocal is_read
        if is_read:  # the application waits for the client's end
            await is_over.wait()
            return {"type": "http.disconnect"}
        chunk = await anext(chunks, None)
        is_read = chunk is None
        return {"type": "http.request", "body": chunk or b"", "more_body": not is_read}

    async def send(message: Message) -> None:
        await sent.put(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            is_over.set()

    async def run() -> None:
        try:
            await app(_scope(request, "http", env, lifespan.state), receive, send)
        except Exception as error:
            if is_over.is_set():  # the response was sent completely
                log.error("the ASGI application of a Worker has failed", exc_info=error)
            else:
                await sent.put(error)
        finally:
            await lifespan.stop()

    started(run())
    head = await _next(sent)
    first = await _next(sent)
    headers = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in head.get("headers", [])]
    body: Any = first.get("body", b"")
    if first.get("more_body"):
        body = ReadableStream.over(_rest(body, sent))
    elif head["status"] in {101, 204, 205, 304}:
        body = None
    return messages.Response(body, {"status": head["status"], "headers": headers})


async def _chunks_of(request: messages.Request) -> AsyncIterator[bytes]:
    if request.body is not None:
        async for chunk in request.body.chunks():
            yield chunk


async def _next(sent: asyncio.Queue[Any]) -> Message:
    message: Any = await sent.get()
    if isinstance(message, Exception):
        raise message
    found: Message = message
    return found


async def _rest(first: bytes, sent: asyncio.Queue[Any]) -> AsyncIterator[bytes]:
    if first:
        yield first
    while True:
        message = await _next(sent)
        if message.get("body"):
            yield message["body"]
        if not message.get("more_body"):
            return


async def websocket(app: App, req: Any, env: Any = None) -> messages.Response:
    """The web socket that *app* accepts, or its refusal."""
    request: messages.Request = getattr(req, "js_object", req)
    client, server = durable.WebSocketPair()
    server.accept()
    decided: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
    has_begun = False

    async def receive() -> Message:
        nonlocal has_begun
        if not has_begun:
            has_begun = True
            return {"type": "websocket.connect"}
        try:
            message = await anext(server)
        except (StopAsyncIteration, durable.WebSocketClosed):
            code = 1006 if server.close_code is None else server.close_code
            return {"type": "websocket.disconnect", "code": code, "reason": server.close_reason}
        kind = "text" if isinstance(message, str) else "bytes"
        return {"type": "websocket.receive", kind: message}

    async def send(message: Message) -> None:
        if not decided.done():
            decided.set_result(message)
        elif message["type"] == "websocket.send":
            text = message.get("text")
            await server.send(message["bytes"] if text is None else text)
        elif message["type"] == "websocket.close":
            server.close(message.get("code", 1000), message.get("reason"))

    async def run() -> None:
        try:
            await app(_scope(request, "websocket", env, {}), receive, send)
        except Exception as error:
            if decided.done():
                log.error("the ASGI application of a Worker has failed", exc_info=error)
                server.close(1011)
            else:
                decided.set_exception(error)
        else:
            if not decided.done():
                decided.set_result({"type": "websocket.close"})

    started(run())
    if (await decided)["type"] != "websocket.accept":
        return messages.Response("Forbidden", status=403)
    return messages.Response(None, status=101, webSocket=WebSocket(client))
