"""The responses of the inspector, which no other site may read, frame or keep."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any, Final

import anyio

from durable.asgi.stopping import LOOKED_AT_S, is_stopping

from .requests import Receive

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

HEADERS: Final = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
JSON: Final = b"application/json"
# A stream sends something at least so often, so that the page knows that it is alive.
BEAT_S: Final = 15.0


async def send_body(
    send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    size = (b"content-length", b"%d" % len(body))
    await send(
        {"type": "http.response.start", "status": status, "headers": [*HEADERS, *headers, size]}
    )
    await send({"type": "http.response.body", "body": body})


async def send_json(send: Send, what: Any, status: int = 200) -> None:
    body = json.dumps(what, ensure_ascii=False).encode("utf-8", "backslashreplace")
    await send_body(send, status, [(b"content-type", JSON)], body)


async def send_stream(said: AsyncIterator[dict[str, Any]], receive: Receive, send: Send) -> None:
    """Send events as server-sent events, until the page leaves or the server stops."""
    first = await anext(said, None)  # an error in opening it becomes a response of its own
    kind = (b"content-type", b"text/event-stream; charset=utf-8")
    await send({"type": "http.response.start", "status": 200, "headers": [*HEADERS, kind]})

    async def leave() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        group.cancel_scope.cancel()

    async def beat() -> None:
        while True:
            with anyio.move_on_after(BEAT_S):
                while not is_stopping():
                    await anyio.sleep(LOOKED_AT_S)
                # A server that stops waits for its responses, and a page reads for ever.
                group.cancel_scope.cancel()
                return
            await send({"type": "http.response.body", "body": b": \n\n", "more_body": True})

    async def send_event(what: dict[str, Any]) -> None:
        body = b"data: " + json.dumps(what, default=str).encode() + b"\n\n"
        await send({"type": "http.response.body", "body": body, "more_body": True})

    try:
        async with anyio.create_task_group() as group:
            group.start_soon(leave)
            group.start_soon(beat)
            if first is not None:
                await send_event(first)
                async for what in said:
                    await send_event(what)
            group.cancel_scope.cancel()
    finally:
        close = getattr(said, "aclose", None)
        if close is not None:
            with anyio.CancelScope(shield=True):
                await close()
    await send({"type": "http.response.body", "body": b""})
