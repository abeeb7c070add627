"""What users of a web socket await: room to send, and the next message."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from typing import Any


class Reader(AsyncIterator[str | bytes]):
    """An `async for` over an end: while it goes on, a close frame is heard in its place."""

    __slots__ = ("__weakref__", "_read")

    def __init__(self, read: Callable[[], Awaitable[str | bytes]]) -> None:
        self._read = read

    def __anext__(self) -> Awaitable[str | bytes]:
        return self._read()


class Sent(Awaitable[None]):
    """What `send` returns when the peer has much to read."""

    __slots__ = ("_wait_room",)

    def __init__(self, wait_room: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._wait_room = wait_room

    def __await__(self) -> Generator[Any, Any, None]:
        return self._wait_room().__await__()


class Done(Awaitable[None]):
    """What `send` returns otherwise: awaiting it never suspends."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, None]:
        return
        yield


DONE = Done()
