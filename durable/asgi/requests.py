"""What a client asks, from ASGI's words to ours.

The URL is the one that the client has sent, byte for byte, without the path that the application
is mounted at. A short body is read before the entry function is called, a long one while it runs.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import quote, unquote

import anyio
from attrs import define, field
from yarl import URL

from durable import Request

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

BODY_SIZE_MAX = 104_857_600
# Up to this size a body whose length is known is read at once: streaming it would cost more.
READ_AT_ONCE_MAX = 65_536

CLIENT_HEADER = "cf-connecting-ip"
"""Where the entry function finds the address of the client. Set here, whatever the client says."""

_BODILESS = frozenset({"GET", "HEAD"})
_is_authority = re.compile(
    r"(?:[A-Za-z0-9._~!$&'()*+,;=%-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?", re.ASCII
).fullmatch
_SCHEMES = {"ws": "http", "wss": "https"}


class BadRequest(Exception):
    """What came is no request."""


class BodyTooLarge(Exception):
    """The body of the request has more bytes than the application takes."""

    def __init__(self, size_max: int) -> None:
        super().__init__(
            f"the body of the request is larger than {size_max} bytes; send less, or give a larger "
            f"body_size_max to durable.asgi.app()"
        )


class ClientGone(ConnectionError):
    """The client went away before its request was read, or answered."""


@define(eq=False)
class Incoming:
    """What the client still has to say: the rest of its body, and that it goes away."""

    receive: Receive
    size_max: int
    is_complete: bool = False
    _size: int = field(default=0, init=False)
    _completed: anyio.Event = field(factory=anyio.Event, init=False)

    def complete(self) -> None:
        self.is_complete = True
        self._completed.set()

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body. Raises BodyTooLarge and ClientGone."""
        while not self.is_complete:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientGone("the client went away in the middle of its request")
            chunk: bytes = message.get("body", b"")
            self._size += len(chunk)
            if self._size > self.size_max:
                raise BodyTooLarge(self.size_max)
            if not message.get("more_body", False):
                self.complete()
            if chunk:
                yield chunk

    async def wait_gone(self) -> None:
        """Return when the client has gone away. Whoever reads the body is told in its place."""
        await self._completed.wait()
        while (await self.receive())["type"] != "http.disconnect":
            pass


async def read_request(scope: Scope, incoming: Incoming) -> Request:
    """The request of an HTTP scope. Raises BadRequest, BodyTooLarge and ClientGone."""
    headers = _headers(scope)
    method = scope["method"]
    size = _content_length(headers)
    if size is not None and size > incoming.size_max:
        raise BodyTooLarge(incoming.size_max)
    body: bytes | AsyncIterator[bytes] | None = None
    if method in _BODILESS or size == 0 or (size is None and not _may_have_body(scope, headers)):
        if size or not await _is_empty(incoming):
            raise BadRequest(f"a {method} request has no body")
    elif size is not None and size <= READ_AT_ONCE_MAX:
        body = b"".join([chunk async for chunk in incoming.chunks()])
    else:
        body = incoming.chunks()
    return _request(scope, method, headers, body)


def upgrade_request(scope: Scope) -> Request:
    """The request that asks for the web socket of a scope. Raises BadRequest."""
    headers = _headers(scope)
    # HTTP/2 does not have the first, and some servers keep the second to themselves.
    known = {name for name, _ in headers}
    if "upgrade" not in known:
        headers.append(("upgrade", "websocket"))
    if scope.get("subprotocols") and "sec-websocket-protocol" not in known:
        headers.append(("sec-websocket-protocol", ", ".join(scope["subprotocols"])))
    return _request(scope, "GET", headers, None)


def _request(scope: Scope, method: str, headers: list[tuple[str, str]], body: Any) -> Request:
    try:
        return Request(_url(scope, headers), method=method, headers=headers, body=body)
    except (TypeError, ValueError) as error:
        raise BadRequest(str(error)) from error


def _headers(scope: Scope) -> list[tuple[str, str]]:
    headers = [
        (name.decode("latin-1").lower(), value.decode("latin-1"))
        for name, value in scope["headers"]
    ]
    client = scope.get("client")
    if client is not None:
        headers = [pair for pair in headers if pair[0] != CLIENT_HEADER]
        headers.append((CLIENT_HEADER, str(client[0])))
    return headers


def _content_length(headers: list[tuple[str, str]]) -> int | None:
    for name, value in headers:
        if name == "content-length":
            if not (value.isascii() and value.isdigit()):
                raise BadRequest(f"the content length {value!r} is no number")
            return int(value)
    return None


def _may_have_body(scope: Scope, headers: list[tuple[str, str]]) -> bool:
    """In HTTP/1 a body has a length or is chunked; later versions need say neither."""
    if not str(scope.get("http_version", "1.1")).startswith("1"):
        return True
    return any(name == "transfer-encoding" for name, _ in headers)


async def _is_empty(incoming: Incoming) -> bool:
    """Take in the end of a body of which nothing is expected."""
    async for _ in incoming.chunks():
        return False
    return True


def _url(scope: Scope, headers: list[tuple[str, str]]) -> URL:
    scheme: str = scope.get("scheme", "http")
    authority = next((value for name, value in headers if name == "host"), None)
    if not authority:
        server = scope.get("server")
        authority = "localhost" if server is None else _authority(*server)
    # The URL is taken as it is, so nobody else looks whether this is a host.
    if _is_authority(authority) is None:
        raise BadRequest(f"the host {authority!r} is none")
    return URL.build(
        scheme=_SCHEMES.get(scheme, scheme),
        authority=authority,
        path=own_path(scope),
        query_string=scope.get("query_string", b"").decode("latin-1"),
        encoded=True,
    )


def _authority(host: str, port: int | None) -> str:
    name = f"[{host}]" if ":" in host else host
    return name if port is None else f"{name}:{port}"


def own_path(scope: Scope) -> str:
    """The path as the client has sent it, percent signs and all, below where we are mounted."""
    raw = scope.get("raw_path")
    path = raw.decode("latin-1") if raw else quote(scope["path"], safe="/:@!$&'()*+,;=~")
    path = path.partition("?")[0]
    root = scope.get("root_path", "").rstrip("/")
    if root:
        end = 0
        while end < len(path):
            end = path.find("/", end + 1)
            end = len(path) if end < 0 else end
            if unquote(path[:end]) == root:
                path = path[end:]
                break
    return path or "/"
