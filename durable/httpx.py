"""Transports for httpx and httpx2: to objects of this process, and from them to the world.

    async with httpx.AsyncClient(transport=ObjectTransport(stub)) as client:
        response = await client.get("https://counter/increment")

Whichever of the two libraries a client comes from, it gets responses of that library.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import anyio

from durable import MissingExtra, Namespace, Request, Response, State, WebSocketClosed

if TYPE_CHECKING:
    # A client's `transport=` wants a base class of its own library, of which there are two; the
    # checkers take what is not installed as Any.
    import httpx
    import httpx2

    class _Transport(httpx.AsyncBaseTransport, httpx2.AsyncBaseTransport):  # type: ignore[misc]
        ...
else:
    import importlib

    _bases = []
    for _name in ("httpx", "httpx2"):
        try:
            _bases.append(importlib.import_module(_name).AsyncBaseTransport)
        except ImportError:
            pass
    if not _bases:
        raise MissingExtra("durable.httpx needs httpx or httpx2", "httpx")
    _Transport = type("_Transport", tuple(dict.fromkeys(_bases)), {})


__all__ = ["ConfirmedTransport", "Fetcher", "ObjectTransport"]

T = TypeVar("T")


class Fetcher(Protocol):
    """A stub, or anything else that answers requests."""

    def fetch(self, request: Request, /) -> Awaitable[Response]: ...


class ObjectTransport(_Transport):
    """Sends the requests of a client to an object of this process.

    Given a stub, all of them go to its object. Given a namespace, the host of the URL is the name
    of the object, in lower case as hosts are: `https://alice/path` is for `get_by_name("alice")`.

    The client's read timeout is kept, for the response and for each part of its body.
    """

    def __init__(self, target: Fetcher | Namespace[Any]) -> None:
        if not isinstance(target, Namespace) and not hasattr(target, "fetch"):
            raise TypeError(f"ObjectTransport() takes a stub or a namespace, not {target!r}")
        self._target = target

    async def handle_async_request(self, request: Any) -> Any:
        target = self._target
        stub: Any = target
        if isinstance(target, Namespace):
            stub = target.get_by_name(request.url.host)
        response = await _in_time(request, stub.fetch(_request(request)))
        if response.websocket is not None:
            raise WebSocketClosed(
                f"{request.url} answered with a WebSocket, which an HTTP client cannot use; call "
                f"stub.fetch()"
            )
        return _response(request, response)


class ConfirmedTransport(_Transport):
    """Sends each request of an object's client when what the object wrote before it is on disk.

        async with httpx.AsyncClient(transport=ConfirmedTransport(self.ctx)) as client:

    The requests go on through *transport*, which is the library's own unless another is given.
    """

    def __init__(self, ctx: State, transport: Any = None) -> None:
        self._ctx = ctx
        self._transport = transport

    async def handle_async_request(self, request: Any) -> Any:
        if self._transport is None:
            self._transport = _library(request).AsyncHTTPTransport()
        await self._ctx.confirmed()
        return await self._transport.handle_async_request(request)

    async def aclose(self) -> None:
        if self._transport is not None:
            await self._transport.aclose()


def _library(request: Any) -> ModuleType:
    """The library whose client has made *request*."""
    return sys.modules[type(request).__module__.partition(".")[0]]


def _request(request: Any) -> Request:
    headers = list(request.headers.multi_items())
    has_body = "content-length" in request.headers or "transfer-encoding" in request.headers
    body: bytes | AsyncIterator[bytes] | None = None
    if has_body and request.headers.get("content-length") != "0":
        try:
            body = request.content
        except _library(request).RequestNotRead:
            body = request.stream
    # To follow a redirect, or not to, is the client's business.
    made = Request(str(request.url), method=request.method, headers=headers, redirect="manual")
    made._set_content(body)
    return made


def _response(request: Any, response: Response) -> Any:
    library = _library(request)
    # As bytes, or the client would take them to be ASCII.
    headers = [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in response.headers.items()
    ]
    body = _stream_class(library)(request, response.stream())
    return library.Response(response.status, headers=headers, stream=body)


async def _in_time(request: Any, answer: Awaitable[T]) -> T:
    """What *answer* gives, if it does within the read timeout of *request*."""
    read_s = request.extensions.get("timeout", {}).get("read")
    with anyio.move_on_after(read_s):
        return await answer
    raise _library(request).ReadTimeout(
        f"the object has sent nothing for {read_s:g} s", request=request
    )


@lru_cache
def _stream_class(library: ModuleType) -> Any:
    """A class of *library*'s for the body of a response."""

    class BodyStream(library.AsyncByteStream):  # type: ignore[misc, name-defined]
        def __init__(self, request: Any, chunks: Any) -> None:
            self._request = request
            self._chunks = chunks

        async def __aiter__(self) -> AsyncIterator[bytes]:
            while True:
                try:
                    chunk = await _in_time(self._request, anext(self._chunks))
                except StopAsyncIteration:
                    return
                yield chunk

        async def aclose(self) -> None:
            await self._chunks.aclose()

    return BodyStream
