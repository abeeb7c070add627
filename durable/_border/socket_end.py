"""Web sockets: the two ends of one, and what is on its way between them.

Rule: what one end says is queued at the other, and nothing here waits to be sent. So one number,
the bytes that an end has not taken yet, says how slow it is: above one bound whoever awaits `send`
waits, above a second the socket is cut with 1013. The sum of these numbers has a bound too.

The ends know each other weakly: an end that nobody has is gone, and the other one hears it as it
hears of a broken connection. One at which somebody waits is not gone, whoever else has it.

Objects are not known here; the end that objects hold adds what they need (`_border/websocket.py`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import NoReturn
from weakref import ref

import anyio

from durable._model.errors import WebSocketClosed
from durable._model.frames import (
    DROPPED,
    DROPPED_TEXT,
    TOO_SLOW,
    TOO_SLOW_TEXT,
    Close,
    Frame,
    as_bytes,
    close_frame,
    size_of,
)
from durable._model.websocket import WebSocket

from .role import SENT_TOO_LATE, Role
from .socket_waits import DONE, Reader, Sent
from .unread import UNREAD_BYTES_MAX, Unread, UnreadTotal
from .watch import Watch


class SentAfterClose(WebSocketClosed, TypeError):
    """`send` after `close`: a mistake of the one who sends."""


class End(WebSocket):
    """One end of a socket, without the objects that use it."""

    __slots__ = (
        "__weakref__",
        "_arrival",
        "_end",
        "_has_closed",
        "_inbox",
        "_is_lost",
        "_is_waited_for",
        "_on_arrival",
        "_peer",
        "_reader",
        "_reading",
        "_replies",
        "_role",
        "_room",
        "_tell",
        "_unread",
        "_waited_for",
        "_waits",
        "_was_given",
        "_watch",
    )

    def __init__(self) -> None:
        # The other end; None once nobody has it.
        self._peer: Callable[[], End | None] = _nobody
        self._watch: Watch | None = None
        self._role = Role.NEW
        # What has arrived and was not taken, and the bytes of that and of what is on its way.
        self._inbox: deque[tuple[Frame, int]] = deque()
        self._unread = Unread(self)
        # The other end waits until less is unread.
        self._is_waited_for = False
        # What this end has said goodbye with, and heard.
        self._has_closed = False
        self._end: Close | None = None
        # The connection is gone: what is said from now on is not heard.
        self._is_lost = False
        # It left an object in a Response.
        self._was_given = False
        # Set, and forgotten, when something arrives, and when the other end has read enough.
        self._arrival: anyio.Event | None = None
        self._room: anyio.Event | None = None
        # The `async for` that goes on, and how many tasks wait for something to read.
        self._reader: ref[Reader] | None = None
        self._reading = 0
        # Whether a close frame is answered when it has been heard; a door has the network do it.
        self._replies = True
        # Told that something has arrived, in place of whoever reads.
        self._on_arrival: Callable[[End], None] | None = None
        # How many tasks wait at this end, and the other end while some wait at that one.
        self._waits = 0
        self._waited_for: End | None = None
        # Calls back on the loop of whoever uses this end, from any thread; None if that is unknown.
        self._tell: Callable[[Callable[[], object]], None] | None = None

    # Using it

    def accept(self) -> None:
        """Begin to use this end; more than once does no harm."""
        self._role.check_can_be_accepted()
        self._role = Role.ACCEPTED
        if self._has_close_frame():
            self._hear_soon()

    def send(self, message: str | bytes) -> Awaitable[None]:
        if not isinstance(message, str | bytes):
            message = as_bytes(message)
        size = size_of(message)
        self._role.check_can_speak()
        if self._has_closed:
            raise SentAfterClose(SENT_TOO_LATE if self._end is None else _closed_by_peer(self._end))
        if self._is_lost:
            return DONE
        if self._has_room_for(size):
            self._say(message, size)
        return Sent(self._wait_room) if self._is_peer_full() else DONE

    def close(self, code: int | None = None, reason: str | None = None) -> Awaitable[None]:
        frame = close_frame(code, reason)
        self._role.check_can_speak()
        if not self._has_closed and not self._is_lost:
            self._has_closed = True
            self._say(frame, 0)
        return DONE

    @property
    def ready_state(self) -> int:
        if self._is_lost or (self._has_closed and self._end is not None):
            return self.CLOSED
        return self.CLOSING if self._has_closed or self._end is not None else self.OPEN

    @property
    def close_code(self) -> int | None:
        return None if self._end is None else self._end.code

    @property
    def close_reason(self) -> str | None:
        return None if self._end is None else self._end.reason

    def __aiter__(self) -> AsyncIterator[str | bytes]:
        reader = None if self._reader is None else self._reader()
        if reader is None:
            reader = Reader(self.__anext__)
            self._reader = ref(reader, partial(_reader_is_gone, ref(self)))
        return reader

    async def __anext__(self) -> str | bytes:
        if self._role is not Role.ACCEPTED:
            raise TypeError(
                f"only a WebSocket that was accept()ed is read with `async for`; this one is "
                f"{self._role.value}"
            )
        while True:
            if self._inbox:
                frame = self._take()
                if not isinstance(frame, Close):
                    if self._inbox and isinstance(self._inbox[0][0], Close):
                        self._hear_soon()
                    return frame
                self._hear_end(frame)
            if self._end is not None:
                self._stop(self._end)
            if self._arrival is None:
                self._arrival = anyio.Event()
            self._reading += 1
            try:
                await self._wait_for(self._arrival)
            finally:
                self._reading -= 1

    @abstractmethod
    def _find_loop(self) -> Callable[[Callable[[], object]], None]:
        """What calls back on the loop that runs, from any thread; dropped if that has ended."""

    # What is on its way

    def _has_room_for(self, size: int) -> bool:
        """Count a message of *size* as unread by the peer; if that has too much, be cut instead."""
        peer = self._peer()
        if peer is None:
            return False
        unread = peer._unread
        if unread.bytes > UNREAD_BYTES_MAX:
            self._cut_slow(peer)
            return False
        unread.bytes += size
        total = unread.total
        if total is not None:
            total.bytes += size
            if total.bytes > total.bytes_max:
                total.make_room()
                if self._is_lost:
                    unread.count(-size)
                    return False
        return True

    def _say(self, frame: Frame, size: int) -> None:
        """Send *frame* off; here it arrives at once."""
        self._pass_on(frame, size)

    def _pass_on(self, frame: Frame, size: int) -> None:
        """Let *frame* arrive at the other end."""
        peer = self._peer()
        if peer is not None:
            peer._arrive(frame, size)

    def _arrive(self, frame: Frame, size: int) -> None:
        if self._is_lost and not isinstance(frame, Close):
            self._unread.count(-size)
            return
        self._inbox.append((frame, size))
        if self._arrival is not None:
            self._arrival.set()
            self._arrival = None
        if self._on_arrival is not None:
            self._on_arrival(self)
        if self._role is Role.ACCEPTED and isinstance(frame, Close):
            self._hear_soon()

    def _take(self) -> Frame:
        """The oldest thing that has arrived."""
        frame, size = self._inbox.popleft()
        self._took(size)
        return frame

    def _took(self, size: int) -> None:
        unread = self._unread
        unread.bytes -= size
        if unread.total is not None:
            unread.total.bytes -= size
        if self._is_waited_for and not self._unread.is_full():
            self._is_waited_for = False
            peer = self._peer()
            if peer is not None:
                peer._make_room()

    def _make_room(self) -> None:
        if self._room is not None:
            self._room.set()
            self._room = None

    async def _wait_room(self) -> None:
        while self._waits_for_room() and not self._is_lost:
            if self._room is None:
                self._room = anyio.Event()
            await self._wait_for(self._room)

    def _waits_for_room(self) -> bool:
        peer = self._peer()
        if peer is None or not peer._unread.is_full():
            return False
        peer._is_waited_for = True
        return True

    def _is_peer_full(self) -> bool:
        peer = self._peer()
        return peer is not None and peer._unread.is_full()

    async def _wait_for(self, event: anyio.Event) -> None:
        """Wait for *event* of this end, which is not dropped meanwhile.

        A loop keeps no task that only waits; what is going to wake it has to, the other end.
        """
        if not self._begin_wait():
            return
        try:
            await event.wait()
        finally:
            self._waits -= 1
            peer = self._peer()
            if peer is not None and not self._waits:
                peer._waited_for = None

    def _begin_wait(self) -> bool:
        """False if there is nothing to wait for, since nobody has the other end."""
        peer = self._peer()
        if peer is None:
            self._hear_loss()
            return False
        self._learn_loop()
        self._waits += 1
        peer._waited_for = self
        return True

    def _learn_loop(self) -> None:
        if self._tell is None:
            with suppress(RuntimeError):  # no loop runs, so nobody waits here either
                self._tell = self._find_loop()

    # The end

    def _has_close_frame(self) -> bool:
        return bool(self._inbox) and isinstance(self._inbox[-1][0], Close)

    def _hear_soon(self) -> None:
        """Hear the peer's last word without a reader, if nobody is about to read it.

        A round later, so that what is said in the same breath, a reply to the last message above
        all, still leaves.
        """
        self._learn_loop()
        if self._tell is not None:
            self._tell(partial(Context().run, self._hear_unread))

    def _hear_unread(self) -> None:
        is_read = self._reading or (self._reader is not None and self._reader() is not None)
        if self._end is None and not is_read and self._has_close_frame():
            frame, _ = self._inbox.pop()
            assert isinstance(frame, Close)
            self._hear_end(frame)

    def _hear_end(self, frame: Close) -> None:
        """The peer's last word has been taken."""
        self._end = frame
        if frame.was_clean and self._replies:
            self._reply_close()

    def _reply_close(self) -> None:
        """Say the peer's close frame back, as the protocol wants it."""
        if self._end is not None and not self._has_closed and not self._is_lost:
            self._has_closed = True
            self._say_reply(Close(self._end.code, self._end.reason, True))

    def _say_reply(self, frame: Close) -> None:
        self._say(frame, 0)

    def _stop(self, end: Close) -> NoReturn:
        if end.was_clean:
            raise StopAsyncIteration
        raise WebSocketClosed(f"{end.reason} ({end.code})") from end.error

    def _drop(self, error: Exception | None = None) -> None:
        """Be gone without a close frame: the peer sees 1006, or *error*."""
        self._lose(Close(DROPPED, DROPPED_TEXT, False), forget=True)
        text = DROPPED_TEXT if error is None else str(error)
        peer = self._peer()
        if peer is not None:
            peer._lose(Close(DROPPED, text, False, error), forget=False)

    def _hear_loss(self) -> None:
        """Nobody has the other end any more."""
        self._lose(Close(DROPPED, DROPPED_TEXT, False), forget=False)

    def peer_is_gone(self) -> None:
        """Nobody has the other end any more: told in any thread, in the middle of anything."""
        if self._tell is not None and not self._is_lost:
            # Not in the context that this happens to run in.
            self._tell(partial(Context().run, self._hear_loss))

    def _look_for_peer(self) -> None:
        """Hear of its loss now, if nobody could be told of it."""
        if self._peer() is None:
            self._hear_loss()

    def _cut_slow(self, peer: End) -> None:
        """The peer has far too much unread: forget that, and close on both sides."""
        peer._lose(Close(TOO_SLOW, TOO_SLOW_TEXT, True), forget=True)
        self._lose(Close(TOO_SLOW, TOO_SLOW_TEXT, False), forget=False)

    def _lose(self, end: Close, *, forget: bool) -> None:
        """The connection is gone; *end* is the last to be read here, after what has arrived."""
        if self._is_lost:
            return
        self._is_lost = True
        if forget:
            self._forget_unread()
        self._make_room()
        if self._end is None and not self._has_close_frame():
            self._arrive(end, 0)

    def _forget_unread(self) -> None:
        self._unread.count(-sum(size for _, size in self._inbox))
        self._inbox.clear()

    def _hand_over(self) -> End:
        """Another object for this end, which leaves in a Response; this one is of no use then."""
        self._role.check_can_be_given()
        given = self.__class__()
        peer = self._peer()
        if peer is not None:
            join(given, peer)
        self._peer, self._watch = _nobody, None
        given._waited_for, self._waited_for = self._waited_for, None
        given._inbox, self._inbox = self._inbox, given._inbox
        if self._unread.total is not None:
            self._unread.total.add(given._unread)
        given._unread.count(self._unread.bytes)
        self._unread.count(-self._unread.bytes)
        given._is_lost = self._is_lost
        given._was_given = True
        self._role = Role.GIVEN
        return given

    def __repr__(self) -> str:
        if self._is_lost:
            state = "disconnected"
        elif self._has_closed:
            state = "closing" if self._end is None else "closed"
        else:
            state = "open" if self._end is None else "closed by the peer"
        return f"<WebSocket {self._role.value}, {state}, {len(self._inbox)} unread>"


def cut(end: End) -> None:
    """Close the socket of *end*, which has too much unread, and forget that."""
    peer = end._peer()
    if peer is not None and not end._is_lost:
        peer._cut_slow(end)
        return
    # Nothing more comes, but for what is there: of that it hears the end only.
    last = end._inbox[-1] if end._has_close_frame() else None
    end._forget_unread()
    if last is not None:
        end._inbox.append(last)


def count_all(one: End, total: UnreadTotal) -> None:
    """Let what both ends of a socket have not read count in *total*."""
    total.add(one._unread)
    other = one._peer()
    if other is not None:
        total.add(other._unread)


def _reader_is_gone(of: ref[End], _: object) -> None:
    ws = of()  # in any thread, as when an end is gone
    if ws is not None and ws._tell is not None and ws._has_close_frame():
        ws._hear_soon()


def _closed_by_peer(end: Close) -> str:
    return f"{SENT_TOO_LATE} The peer has closed with {end.code}."


def join(one: End, other: End) -> None:
    """Make two ends the ends of one socket."""
    one._peer, other._peer = ref(other), ref(one)
    one._watch, other._watch = Watch(other, one), Watch(one, other)


def _nobody() -> None:
    """In the place of an end that is not there."""
