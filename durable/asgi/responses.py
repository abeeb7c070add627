"""What the client is answered, from our words to ASGI's."""

from __future__ import annotations

from typing import Any

import anyio

from durable import Response

from .requests import Send

_NO_CONTENT = frozenset({204, 304})


def raw_headers(response: Response) -> list[tuple[bytes, bytes]]:
    """The headers, one by one, as often as they were added."""
    return [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in response.headers.items()
    ]


async def send_response(response: Response, send: Send, *, is_head: bool, kind: str) -> None:
    """Answer with *response*; *kind* is what ASGI's messages begin with."""
    headers = raw_headers(response)
    if response._take_stream() is not None:
        await _send_stream(response, headers, send, is_head, kind)
        return
    body = await response.bytes()
    if not (is_head and _has_length(headers)) and response.status not in _NO_CONTENT:
        headers = [pair for pair in headers if pair[0] != b"content-length"]
        headers.append((b"content-length", b"%d" % len(body)))
    await send(_start(kind, response.status, headers))
    await send(_body(kind, b"" if is_head else body, more=False))


async def _send_stream(
    response: Response, headers: list[tuple[bytes, bytes]], send: Send, is_head: bool, kind: str
) -> None:
    chunks: Any = response.stream()
    try:
        await send(_start(kind, response.status, headers))
        if not is_head:
            async for chunk in chunks:
                if chunk:
                    await send(_body(kind, chunk, more=True))
        await send(_body(kind, b"", more=False))
    finally:
        # Shielded: a client that has gone away has cancelled us, and the one who makes the chunks
        # is to hear of it.
        with anyio.CancelScope(shield=True):
            await chunks.aclose()


def _has_length(headers: list[tuple[bytes, bytes]]) -> bool:
    return any(name == b"content-length" for name, _ in headers)


def _start(kind: str, status: int, headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    return {"type": f"{kind}.start", "status": status, "headers": headers}


def _body(kind: str, body: bytes, *, more: bool) -> dict[str, Any]:
    return {"type": f"{kind}.body", "body": body, "more_body": more}
