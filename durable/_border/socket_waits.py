"""What users of a web socket await: room to send, and the next message.

Rule: what is waited for is decided by the end (`socket_end`); here are only the waits around it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import Any, NoReturn
from weakref import ref

import anyio

from durable._loop import here
from durable._loop.loop import which_backend
from durable._loop.open_loop import make_loop
from durable._model.errors import WebSocketClosed, WrongLoop
from durable._model.frames import Close

from .sending import reply
from .socket_end import Bell, End
from .socket_states import Use


class Reader(AsyncIterator[str | bytes]):
    """An `async for` over an end. While it goes on, it is where a close frame is read."""

    __slots__ = ("__weakref__", "_end", "_thread")

    def __init__(self, end: End) -> None:
        self._end = end
        self._thread = here.thread()

    def __anext__(self) -> Awaitable[str | bytes]:
        if here.thread() != self._thread:
            raise WrongLoop("the WebSocket")
        return read(self._end)


class Sent(Awaitable[None]):
    """What `send` returns while the peer has much unread: awaiting it waits for room."""

    __slots__ = ("_end",)

    def __init__(self, end: End) -> None:
        self._end = end

    def __await__(self) -> Generator[Any, Any, None]:
        return _wait_room(self._end).__await__()


class Done(Awaitable[None]):
    """What `send` returns otherwise: awaiting it never suspends."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, None]:
        return
        yield


DONE = Done()


def reader_of(end: End) -> Reader:
    """The `async for` over *end* that goes on, or a new one."""
    reader = None if end.reader is None else end.reader()
    if not isinstance(reader, Reader):
        reader = Reader(end)
        end.reader = ref(reader, partial(_reader_is_freed, ref(end)))
    return reader


async def read(end: End) -> str | bytes:
    """The next message.

    Raises StopAsyncIteration when the peer has closed, WebSocketClosed when it was lost, TypeError
    for an end that was not accept()ed.
    """
    if end.use is not Use.ACCEPTED:
        raise TypeError(
            f"only a WebSocket that was accept()ed is read with `async for`; this one is "
            f"{end.use.value}"
        )
    while True:
        if end.inbox:
            frame = end.take()
            if not isinstance(frame, Close):
                return frame
            _hear(end, frame)
        if end.heard is not None:
            _stop(end.heard)
        if end.arrival is None:
            end.arrival = anyio.Event()
        end.reads += 1
        try:
            await _wait_for(end, end.arrival)
        finally:
            end.reads -= 1
            if end.has_close_frame:
                hear_soon(end)  # this task may take a message, or be cancelled, and read no further


async def _wait_room(end: End) -> None:
    while end.must_wait():
        if end.room is None:
            end.room = anyio.Event()
        await _wait_for(end, end.room)


async def _wait_for(end: End, bell: Bell) -> None:
    """Wait for *bell*. Meanwhile the peer, which will ring it, keeps *end* and so this task."""
    peer = end.peer()
    if peer is None:
        end.hear_loss()
        return
    learn_loop(end)
    end.waits += 1
    peer.waited_for = end
    del peer  # which this wait must not keep
    try:
        await bell.wait()
    finally:
        end.waits -= 1
        peer = end.peer()
        if peer is not None and not end.waits:
            peer.waited_for = None


def hear_soon(end: End) -> None:
    """Read the peer's close frame in the next round of the loop, unless a task does.

    Not at once: what the same step of code sends next, above all a reply to the last message, then
    still leaves before this end closes.
    """
    learn_loop(end)
    if end.call_soon is not None:
        end.call_soon(partial(Context().run, _hear_unread, end))


def learn_loop(end: End) -> None:
    """Let *end* know the loop that uses it."""
    if end.call_soon is None:
        with suppress(RuntimeError):  # no loop runs, so no task waits here either
            end.call_soon = _call_soon_threadsafe()


def _call_soon_threadsafe() -> Callable[[Callable[[], object]], None]:
    return make_loop(which_backend()).call_soon_threadsafe


def _hear_unread(end: End) -> None:
    frame = end.take_last_word()
    if frame is not None:
        _hear(end, frame)


def _hear(end: End, frame: Close) -> None:
    end.hear(frame)
    if end.replies:
        reply(end)


def _stop(heard: Close) -> NoReturn:
    if heard.was_clean:
        raise StopAsyncIteration
    raise WebSocketClosed(f"{heard.reason} ({heard.code})") from heard.error


def _reader_is_freed(which: ref[End], _: object) -> None:
    # Called in any thread, as when an end is freed.
    end = which()
    if end is not None and end.call_soon is not None and end.has_close_frame:
        hear_soon(end)
