"""Requests and web sockets to the outside: `fetch`, and `WebSocket.new(url)`.

They use httpx2 or httpx, and websockets, if those are installed. What an object sends to the
outside waits until what it has written is on disk.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import AsyncIterator, Coroutine
from contextvars import Context
from typing import Any, ClassVar, Self

import durable
from durable._model.frames import DROPPED, NO_CODE

from .errors import NotHere
from .javascript import JsException
from .namespaces import Fetcher
from .promises import Promise, started
from .scope import confirm
from .sockets import WebSocket

log: logging.Logger = logging.getLogger("durable")
TIMEOUT_S = 100.0
# A body whose length is known, and this at most, is read at once.
READ_AT_ONCE_MAX = 65_536
# Headers that describe an encoding of the body which was undone.
_OF_THE_WAY = frozenset({"content-encoding", "content-length", "transfer-encoding", "connection"})


def _http_library() -> Any:
    for name in ("httpx2", "httpx"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise NotHere("fetch() to the outside needs httpx2 or httpx: install durable-objects[httpx]")


class _World(Fetcher):
    """The world outside of Workers. A failure to reach it is an OSError, as in the SDK."""

    def _blamed(self, error: Exception) -> BaseException:
        return error

    def _send(self, request: durable.Request) -> Any:
        return started(_send(request))


async def _send(request: durable.Request) -> durable.Response:
    await confirm()
    if request.headers.get("upgrade", "").lower() == "websocket":
        return await _upgrade(request)
    library = _http_library()
    follows = request.redirect == "follow"
    client = library.AsyncClient(follow_redirects=follows, timeout=TIMEOUT_S)
    try:
        content = await request.bytes()
        sent = client.build_request(
            request.method,
            str(request.url),
            headers=[(n, v) for n, v in request.headers.items() if n.lower() != "host"],
            content=content or None,
        )
        response = await client.send(sent, stream=True)
    except library.HTTPError as error:
        await client.aclose()
        raise OSError(
            f"{request.url} cannot be fetched: {error or type(error).__name__}"
        ) from error
    except BaseException:
        await client.aclose()
        raise
    headers = [(n, v) for n, v in response.headers.multi_items() if n.lower() not in _OF_THE_WAY]
    has_body = response.status_code not in {204, 205, 304} and request.method != "HEAD"
    body: Any = _Body(client, response) if has_body else None
    size = response.headers.get("content-length", "")
    if body is None:
        await client.aclose()
    elif size.isdecimal() and int(size) <= READ_AT_ONCE_MAX:
        body = b"".join([chunk async for chunk in body])
    return durable.Response(body, status=response.status_code, headers=headers)


class _Body:
    """A body that is read from the network. When it is dropped unread, its connection is closed."""

    def __init__(self, client: Any, response: Any) -> None:
        self._client: Any = client
        self._chunks: AsyncIterator[bytes] = response.aiter_bytes()
        self._loop = asyncio.get_running_loop()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._chunks)
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def __del__(self) -> None:
        client = self._client
        if client is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(lambda: _apart(client.aclose()))


async def _upgrade(request: durable.Request) -> durable.Response:
    """The response of a server that is asked for a web socket."""
    ours, theirs = durable.WebSocketPair()
    url = str(request.url)
    kept = {
        name: value
        for name, value in request.headers.items()
        if name.lower() not in {"host", "upgrade", "connection"}
        and not name.lower().startswith("sec-websocket-")
    }
    protocols = request.headers.get("sec-websocket-protocol", "")
    names = [name.strip() for name in protocols.split(",") if name.strip()]
    try:
        answer = await _apart(_connect(theirs, f"ws{url.removeprefix('http')}", names, kept))
    except OSError as error:
        raise OSError(f"{url} cannot be fetched: {error}") from error
    return durable.Response(status=101, websocket=ours, headers=[*answer.headers.raw_items()])


_world = _World()


def fetch(resource: Any, init: Any = None, **options: Any) -> Promise:
    """JavaScript's `fetch`; the response is Python's, which has JavaScript's as `js_object`."""
    return _world.fetch(resource, init, **options)


class OutgoingWebSocket(WebSocket):
    """A web socket to a server: connects by itself, and notifies its listeners."""

    js_name: ClassVar[str] = "WebSocket"

    def __init__(self, url: Any, protocols: Any = None) -> None:
        address = str(url)
        if not address.startswith(("ws://", "wss://")):
            raise JsException(
                f"the URL of a WebSocket begins with ws:// or wss://, not {address}",
                name="SyntaxError",
            )
        names: list[str] = [protocols] if isinstance(protocols, str) else list(protocols or ())
        ours, theirs = durable.WebSocketPair()
        super().__init__(ours)
        self.await_open(_apart(_connect(theirs, address, names, {})))


def _apart(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Start *work* as no part of the object whose code starts it."""
    task = Context().run(asyncio.ensure_future, work)
    _running.add(task)
    task.add_done_callback(_ended)
    return task


def _ended(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if not task.cancelled() and task.exception() is not None:
        # The listeners are notified too.
        log.debug("a WebSocket to the outside has failed", exc_info=task.exception())


_running: set[asyncio.Task[Any]] = set()


async def _connect(
    end: durable.WebSocket, url: str, protocols: list[str], headers: dict[str, str]
) -> Any:
    """Connect *end* to a server. Returns the server's response once it stands."""
    try:
        library = importlib.import_module("websockets.asyncio.client")
    except ImportError:
        raise NotHere(
            "a WebSocket to a server needs websockets: install durable-objects[asgi]"
        ) from None
    connection = await library.connect(
        url, subprotocols=protocols or None, additional_headers=headers
    )
    end.accept()
    _apart(_carry(end, connection))
    return connection.response


async def _carry(end: durable.WebSocket, connection: Any) -> None:
    """Messages both ways, until one side has closed."""

    async def bring_out() -> None:
        try:
            async for message in end:
                await connection.send(message)
            code = end.close_code
            await connection.close(
                1000 if code in {None, NO_CODE} else code, end.close_reason or ""
            )
        except durable.WebSocketClosed:  # the object is gone
            await connection.close(1001)

    out = _apart(bring_out())
    try:
        while True:
            await end.send(await connection.recv())
    except Exception:
        # It has ended, in one way or another; without a close frame this end is dropped.
        code = connection.close_code
        if code == NO_CODE:
            end.close()
        elif code is not None and code != DROPPED:
            end.close(code, connection.close_reason or "")
        out.cancel()
    finally:
        await connection.close()
