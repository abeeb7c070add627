"""Requests of clients: from ASGI's scope to a `durable.Request`.

The URL is the one that the client has sent, byte for byte, without the path that the application
is mounted at. A short body is read before the entry function is called, a long one while it runs.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from urllib.parse import quote, unquote

from yarl import URL

from durable import Request

from .incoming import BodyTooLarge, Incoming, Scope

BODY_SIZE_MAX = 104_857_600
# Up to this size a body whose length is known is read at once: streaming it would cost more.
READ_AT_ONCE_MAX = 65_536

CLIENT_HEADER = "cf-connecting-ip"
"""The header with the client's address. Set here, whatever the client has sent."""

# With these a body is rare, and HTTP/2 does not show before its end that there is none.
_BODILESS = frozenset({"GET", "HEAD"})
_CLIENT_HEADER = CLIENT_HEADER.encode()
_is_authority = re.compile(
    r"(?:[A-Za-z0-9._~!$&'()*+,;=%-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?", re.ASCII
).fullmatch
_SCHEMES = {"ws": "http", "wss": "https"}


class BadRequest(Exception):
    """What came is not a valid request."""


async def read_request(scope: Scope, incoming: Incoming) -> Request:
    """The request of an HTTP scope. Raises BadRequest, BodyTooLarge and ClientGone."""
    headers = _headers(scope)
    method = scope["method"]
    size = _content_length(headers)
    if size is not None and size > incoming.size_max:
        raise BodyTooLarge(incoming.size_max)
    body: bytes | AsyncIterator[bytes] | None = None
    if size == 0 or (size is None and not _may_have_body(scope, headers)):
        await _read_end(incoming)
    elif method in _BODILESS or (size is not None and size <= READ_AT_ONCE_MAX):
        body = b"".join([chunk async for chunk in incoming.body()])
    else:
        body = incoming.body()
    request = _request(scope, method, headers)
    # Not through its constructor, which allows no body with GET. A client may send one, and the
    # object then gets it.
    request._put(body or None)
    return request


def upgrade_request(scope: Scope) -> Request:
    """The upgrade request for the web socket of a scope. Raises BadRequest."""
    headers = _headers(scope)
    # HTTP/2 does not have the first, and some servers leave out the second.
    known = {name for name, _ in headers}
    if "upgrade" not in known:
        headers.append(("upgrade", "websocket"))
    if scope.get("subprotocols") and "sec-websocket-protocol" not in known:
        headers.append(("sec-websocket-protocol", ", ".join(scope["subprotocols"])))
    return _request(scope, "GET", headers)


def _request(scope: Scope, method: str, headers: list[tuple[str, str]]) -> Request:
    """The request without its body. The client follows redirects, as in Cloudflare's runtime."""
    try:
        return Request(_url(scope, headers), method=method, headers=headers, redirect="manual")
    except (TypeError, ValueError) as error:
        raise BadRequest(str(error)) from error


def _headers(scope: Scope) -> list[tuple[str, str]]:
    headers = [
        (name.decode("latin-1").lower(), value.decode("latin-1"))
        for name, value in scope["headers"]
        # Nor is the client believed where the server knows no address: behind a unix socket.
        if name.lower() != _CLIENT_HEADER
    ]
    client = scope.get("client")
    if client is not None and client[0]:
        headers.append((CLIENT_HEADER, str(client[0])))
    return headers


def _content_length(headers: list[tuple[str, str]]) -> int | None:
    for name, value in headers:
        if name == "content-length":
            if not (value.isascii() and value.isdigit()):
                raise BadRequest(f"the content length {value!r} is not a number")
            return int(value)
    return None


def _may_have_body(scope: Scope, headers: list[tuple[str, str]]) -> bool:
    """In HTTP/1 a body has a length or is chunked; later versions need say neither."""
    if not str(scope.get("http_version", "1.1")).startswith("1"):
        return True
    return any(name == "transfer-encoding" for name, _ in headers)


async def _read_end(incoming: Incoming) -> None:
    """Receive the end of a body that should be empty."""
    async for _ in incoming.body():
        raise BadRequest("a body came that the headers do not announce")


def _url(scope: Scope, headers: list[tuple[str, str]]) -> URL:
    scheme: str = scope.get("scheme", "http")
    authority = next((value for name, value in headers if name == "host"), None)
    if not authority:
        server = scope.get("server")
        authority = "localhost" if server is None else _authority(*server)
    # The URL is not parsed, so the host is checked here and nowhere else.
    if _is_authority(authority) is None:
        raise BadRequest(f"{authority!r} is not a valid host")
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
    """The path as the client has sent it, percent signs and all, below the mount point."""
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
