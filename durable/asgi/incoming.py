"""What the client still has to send: the rest of its body, and the notice that it has gone.

ASGI delivers both through one `receive`, in order. So a task that watches for the client's end
buffers the parts of the body that come before it, for the reader of the body.

Rule: one task at a time is in `receive`; another that wants to read waits for its result.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any, Self

import anyio
from attrs import define, field

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# How many bytes of a body that may yet be read are buffered to see whether the client has gone.
# With more in the buffer, that is noticed when they are read.
AHEAD_BYTES_MAX = 1_048_576


class BodyTooLarge(Exception):
    """The body of the request has more bytes than the application takes."""

    def __init__(self, size_max: int) -> None:
        super().__init__(
            f"the body of the request is larger than {size_max} bytes; send less, or give a larger "
            f"body_size_max to durable.asgi.app()"
        )


class ClientGone(ConnectionError):
    """The client went away before its request was read or answered."""


@define(eq=False)
class Incoming:
    """The rest of one request."""

    receive: Receive
    size_max: int
    # Called once, when the client has gone away.
    on_gone: Callable[[], None] | None = None
    is_gone: bool = field(default=False, init=False)
    _is_complete: bool = field(default=False, init=False)
    # The rest of the body will not be read.
    _is_unwanted: bool = field(default=False, init=False)
    _size: int = field(default=0, init=False)
    # Buffered, and not read yet.
    _ahead: deque[bytes] = field(factory=deque, init=False)
    _ahead_bytes: int = field(default=0, init=False)
    _is_receiving: bool = field(default=False, init=False)
    # What other tasks wait for while one is in `receive`.
    _received: anyio.Event | None = field(default=None, init=False)
    # What the task that watches for the client's end waits for while the buffer is full.
    _room: anyio.Event | None = field(default=None, init=False)

    def body(self) -> Chunks:
        """The body, for one reader. When the reader drops it, the rest of the body is unwanted."""
        return Chunks(self)

    def give_up(self) -> None:
        """The rest of the body will not be read."""
        self._is_unwanted = True
        self._ahead.clear()
        self._ahead_bytes = 0
        self._has_room()

    async def next_chunk(self) -> bytes | None:
        """The next part of the body, None at its end. Raises BodyTooLarge and ClientGone."""
        while True:
            if self._size > self.size_max:
                raise BodyTooLarge(self.size_max)
            if self._ahead:
                chunk = self._ahead.popleft()
                self._ahead_bytes -= len(chunk)
                self._has_room()
                return chunk
            if self._is_complete:
                return None
            if self.is_gone:
                raise ClientGone("the client went away in the middle of its request")
            await self._take_in()

    async def wait_gone(self) -> None:
        """Return when the client has gone away."""
        while not self.is_gone:
            if self._ahead_bytes >= AHEAD_BYTES_MAX and not self._is_complete:
                self._room = anyio.Event()
                await self._room.wait()
            else:
                await self._take_in()

    async def _take_in(self) -> None:
        """Receive one message, or wait until another task has."""
        if self._is_receiving:
            if self._received is None:
                self._received = anyio.Event()
            await self._received.wait()
            return
        self._is_receiving = True
        try:
            self._keep(await self.receive())
        finally:
            self._is_receiving = False
            received, self._received = self._received, None
            if received is not None:
                received.set()

    def _keep(self, message: Message) -> None:
        if message["type"] == "http.disconnect":
            self.is_gone = True
            if self.on_gone is not None:
                self.on_gone()
            return
        if self._is_complete:
            raise RuntimeError(f"the server sent {message['type']} after the end of the body")
        chunk: bytes = message.get("body", b"")
        self._size += len(chunk)
        self._is_complete = not message.get("more_body", False)
        if chunk and not self._is_unwanted and self._size <= self.size_max:
            self._ahead.append(chunk)
            self._ahead_bytes += len(chunk)

    def _has_room(self) -> None:
        if self._room is not None:
            room, self._room = self._room, None
            room.set()


@define(eq=False)
class Chunks(AsyncIterator[bytes]):
    """The chunks of a body, as they come."""

    _incoming: Incoming | None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        chunk = None if self._incoming is None else await self._incoming.next_chunk()
        if chunk is None:
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        """Read no more."""
        self._leave()

    def _leave(self) -> None:
        incoming, self._incoming = self._incoming, None
        if incoming is not None:
            incoming.give_up()

    __del__ = _leave
