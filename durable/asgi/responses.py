"""Responses to clients: from a `durable.Response` to ASGI's messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio

from durable import Response

from .incoming import Send

_NO_CONTENT = frozenset({204, 304})
# The server decides how a body is framed on its connection; a response passed on from an upstream
# may have these from there.
_OF_THE_CONNECTION = frozenset({"transfer-encoding", "keep-alive", "proxy-connection"})
# How long to wait for the end of a generator whose client has gone.
CLOSE_S_MAX = 10.0


class Ended(ConnectionError):
    """A streamed body was cut off, since the server is stopping."""


def raw_headers(response: Response) -> list[tuple[bytes, bytes]]:
    """The headers, one by one, as often as they were added."""
    return [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in response.headers.items()
        if name.lower() not in _OF_THE_CONNECTION
    ]


Open = Callable[[anyio.CancelScope, bool], None]


async def send_response(
    response: Response,
    send: Send,
    *,
    is_head: bool,
    kind: str,
    on_open: Open | None = None,
) -> None:
    """Send *response*; *kind* is the prefix of its ASGI messages.

    *on_open* is called with the scope around the sending of a stream, and whether it is a stream of
    events: cancelling the scope ends the stream.
    """
    headers = raw_headers(response)
    if response._take_stream() is not None:
        chunks = response.stream()
        await send_stream(
            chunks, response.status, headers, send, is_head=is_head, kind=kind, on_open=on_open
        )
        return
    body = await response.bytes()
    if not (is_head and _has_length(headers)) and response.status not in _NO_CONTENT:
        headers = [pair for pair in headers if pair[0] != b"content-length"]
        headers.append((b"content-length", b"%d" % len(body)))
    await send(_start(kind, response.status, headers))
    await send(_body(kind, b"" if is_head else body, more=False))


async def send_stream(
    chunks: Any,
    status: int,
    headers: list[tuple[bytes, bytes]],
    send: Send,
    *,
    is_head: bool,
    kind: str,
    on_open: Open | None,
) -> None:
    """Send a response whose body is streamed; *chunks* is closed at the end."""
    is_of_events = _is_of_events(headers)
    ending = anyio.CancelScope()
    try:
        await send(_start(kind, status, headers))
        if not is_head:
            if on_open is not None:
                on_open(ending, is_of_events)
            with ending:
                async for chunk in chunks:
                    if chunk:
                        await send(_body(kind, chunk, more=True))
            if ending.cancelled_caught and not is_of_events:
                raise Ended("the body was cut off: the server is stopping")
        await send(_body(kind, b"", more=False))
    finally:
        # Shielded: a client that has gone away has cancelled this task, and the generator of the
        # chunks has to be closed all the same.
        with anyio.move_on_after(CLOSE_S_MAX, shield=True):
            await chunks.aclose()


def _is_of_events(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether the stream is one of events, which the client reconnects to when it ends."""
    return any(
        name.lower() == b"content-type" and value.lower().startswith(b"text/event-stream")
        for name, value in headers
    )


def _has_length(headers: list[tuple[bytes, bytes]]) -> bool:
    return any(name == b"content-length" for name, _ in headers)


def _start(kind: str, status: int, headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    return {"type": f"{kind}.start", "status": status, "headers": headers}


def _body(kind: str, body: bytes, *, more: bool) -> dict[str, Any]:
    return {"type": f"{kind}.body", "body": body, "more_body": more}
