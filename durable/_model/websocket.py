"""Web sockets: the two ends of one, and what is on its way between them.

Rule: what one end says is queued at the other, and nothing here waits to be sent. So one number,
the bytes that an end has not taken yet, says how slow it is: above one bound whoever awaits `send`
waits, above a second the socket is cut with 1013.

Objects are not known here; the end that objects hold adds what they need (`_object/websocket.py`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from enum import Enum
from typing import Any, NoReturn, Self

import anyio
from attrs import frozen

from .errors import WebSocketClosed

# Awaiting `send` waits while the other end has more than this unread: enough that one round trip
# never leaves a fast reader without work, little enough that ten thousand slow ones fit in memory.
UNREAD_BYTES_WAIT = 1_048_576
# Nobody is made to await `send`, so a broadcast to a reader that has stopped would grow for ever.
# Above this, the next message cuts the socket instead.
UNREAD_BYTES_MAX = 16_777_216
# What a message takes in memory beside its text, so that a million empty ones count too.
MESSAGE_OVERHEAD = 64
MESSAGE_SIZE_MAX = 33_554_432
REASON_SIZE_MAX = 123

NO_CODE = 1005
DROPPED = 1006
TOO_SLOW = 1013
DROPPED_TEXT = "WebSocket disconnected without sending Close frame."
TOO_SLOW_TEXT = "too many messages are waiting to be read"
SENT_TOO_SOON = (
    "You must call one of accept() or ctx.accept_websocket() on this WebSocket before sending "
    "messages."
)
USED_IN_RESPONSE = "Can't accept() WebSocket that was already used in a response."
HIBERNATES = "Can't accept() WebSocket after enabling hibernation."
RESPONSE_TOO_LATE = (
    "Can't return WebSocket in a Response after it was accepted; accept the other end of the pair"
)


class Role(Enum):
    """Who reads what arrives at an end."""

    NEW = "not accepted"
    ACCEPTED = "accepted"
    HIBERNATABLE = "hibernatable"
    GIVEN = "used in a response"


@frozen
class Close:
    """The last thing that arrives at an end: a close frame, or the loss of the connection."""

    code: int
    reason: str
    was_clean: bool
    error: Exception | None = None


Message = str | bytes
Frame = Message | Close


class SentAfterClose(WebSocketClosed, TypeError):
    """`send` after `close`: a mistake of the one who sends."""


class WebSocket(ABC):
    """One end of a web socket. `WebSocketPair()` makes the two.

    To use an end, `accept()` it or give it to `ctx.accept_websocket`. An accepted end is read with
    `async for message in ws`, which ends at a close frame and raises WebSocketClosed when the peer
    is gone without one.
    """

    __slots__ = (
        "__weakref__",
        "_arrival",
        "_end",
        "_has_closed",
        "_inbox",
        "_is_lost",
        "_on_arrival",
        "_peer",
        "_role",
        "_room",
        "_unread",
        "_was_given",
    )

    _peer: WebSocket

    def __init__(self) -> None:
        self._role = Role.NEW
        # What has arrived and was not taken, and the bytes of that and of what is held on its way.
        self._inbox: deque[tuple[Frame, int]] = deque()
        self._unread = 0
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
        # Told that something has arrived, in place of whoever reads.
        self._on_arrival: Callable[[WebSocket], None] | None = None

    # Using it

    def accept(self) -> None:
        """Begin to use this end; more than once does no harm."""
        if self._role is Role.HIBERNATABLE:
            raise TypeError(HIBERNATES)
        if self._role is Role.GIVEN:
            raise TypeError(USED_IN_RESPONSE)
        self._role = Role.ACCEPTED

    def send(self, message: str | bytes) -> Awaitable[None]:
        """Send a message; it is on its way when this returns.

        Awaiting the answer waits while the peer has much unread. If nobody awaits, and more than
        16 MiB are unread, the socket is closed with 1013. What is sent to a peer that is gone is
        dropped. Raises TypeError for what no message can be and before the end is accepted,
        ValueError for more than 32 MiB, WebSocketClosed after `close()`.
        """
        if not isinstance(message, str | bytes):
            message = _as_bytes(message)
        size = _size(message)
        self._check_used()
        if self._is_lost:
            return _DONE
        if self._has_closed:
            raise SentAfterClose("Can't call WebSocket send() after close().")
        if self._end is not None:
            return _DONE
        peer = self._peer
        if peer._unread > UNREAD_BYTES_MAX:
            self._cut_slow_peer()
            return _DONE
        peer._unread += size
        self._say(message, size)
        return _DONE if peer._unread <= UNREAD_BYTES_WAIT else _Sent(self)

    def close(self, code: int | None = None, reason: str | None = None) -> Awaitable[None]:
        """Say that this end sends nothing more. What the peer sends is still read.

        Once is enough, and further calls do nothing. Raises ValueError for a code that may not be
        sent and for a reason of more than 123 bytes, TypeError for a reason without a code.
        """
        frame = _close_frame(code, reason)
        self._check_used()
        if not self._has_closed and not self._is_lost:
            self._has_closed = True
            self._say(frame, 0)
        return _DONE

    @property
    def close_code(self) -> int | None:
        """The code that the peer has closed with: 1005 if it gave none, 1006 if it is gone without
        a word; None while it has not, or that was not read yet."""
        return None if self._end is None else self._end.code

    @property
    def close_reason(self) -> str | None:
        """The reason that the peer has closed with."""
        return None if self._end is None else self._end.reason

    def __aiter__(self) -> Self:
        return self

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
                    return frame
                self._hear_end(frame)
            if self._end is not None:
                self._stop(self._end)
            if self._arrival is None:
                self._arrival = anyio.Event()
            await self._arrival.wait()

    @abstractmethod
    def serialize_attachment(self, value: Any) -> None:
        """Keep *value* with the socket; it survives hibernation.

        Raises UnstorableValue, and ValueError if it takes more than `Limits.attachment_size_max`.
        """

    @abstractmethod
    def deserialize_attachment(self) -> Any:
        """A copy of what was kept last, or None."""

    # What is on its way

    def _say(self, frame: Frame, size: int) -> None:
        """Send *frame* off; here it arrives at once."""
        self._pass_on(frame, size)

    def _pass_on(self, frame: Frame, size: int) -> None:
        """Let *frame* arrive at the other end."""
        self._peer._arrive(frame, size)

    def _arrive(self, frame: Frame, size: int) -> None:
        if self._is_lost and not isinstance(frame, Close):
            self._unread -= size
            return
        self._inbox.append((frame, size))
        if self._arrival is not None:
            self._arrival.set()
            self._arrival = None
        if self._on_arrival is not None:
            self._on_arrival(self)

    def _take(self) -> Frame:
        """The oldest thing that has arrived."""
        frame, size = self._inbox.popleft()
        self._took(size)
        return frame

    def _took(self, size: int) -> None:
        self._unread -= size
        if self._unread <= UNREAD_BYTES_WAIT:
            self._peer._make_room()

    def _make_room(self) -> None:
        if self._room is not None:
            self._room.set()
            self._room = None

    async def _wait_room(self) -> None:
        while self._peer._unread > UNREAD_BYTES_WAIT and not self._is_lost:
            if self._room is None:
                self._room = anyio.Event()
            await self._room.wait()

    # The end

    def _hear_end(self, frame: Close) -> None:
        """The peer's last word has been taken."""
        self._end = frame
        if frame.was_clean and not self._has_closed:
            self._reply_close()

    def _reply_close(self) -> None:
        """Answer the peer's close frame with the same code, as the protocol wants it."""
        if self._end is not None and not self._has_closed and not self._is_lost:
            self._has_closed = True
            self._say(Close(self._end.code, "", True), 0)

    def _stop(self, end: Close) -> NoReturn:
        if end.was_clean:
            raise StopAsyncIteration
        raise WebSocketClosed(f"{end.reason} ({end.code})") from end.error

    def _drop(self, error: Exception | None = None) -> None:
        """Be gone without a close frame: the peer sees 1006, or *error*."""
        self._lose(Close(DROPPED, DROPPED_TEXT, False), forget=True)
        text = DROPPED_TEXT if error is None else str(error)
        self._peer._lose(Close(DROPPED, text, False, error), forget=False)

    def _cut_slow_peer(self) -> None:
        """The peer has far too much unread: forget that, and close on both sides."""
        self._has_closed = True
        self._peer._lose(Close(TOO_SLOW, TOO_SLOW_TEXT, True), forget=True)
        self._lose(Close(TOO_SLOW, TOO_SLOW_TEXT, False), forget=False)

    def _lose(self, end: Close, *, forget: bool) -> None:
        """The connection is gone; *end* is the last to be read here, after what has arrived."""
        if self._is_lost:
            return
        self._is_lost = True
        if forget:
            self._inbox.clear()
            self._unread = 0
        self._make_room()
        said_goodbye = bool(self._inbox) and isinstance(self._inbox[-1][0], Close)
        if self._end is None and not said_goodbye:
            self._arrive(end, 0)

    def _hand_over(self) -> WebSocket:
        """Another object for this end, which leaves in a Response; this one is of no use then."""
        if self._role is Role.GIVEN:
            raise TypeError(USED_IN_RESPONSE)
        if self._role is not Role.NEW:
            raise TypeError(RESPONSE_TOO_LATE)
        given = self.__class__()
        given._peer, given._peer._peer = self._peer, given
        given._inbox, given._unread = self._inbox, self._unread
        given._is_lost = self._is_lost
        given._was_given = True
        self._role = Role.GIVEN
        return given

    def _check_used(self) -> None:
        if self._role is Role.NEW or self._role is Role.GIVEN:
            raise TypeError(SENT_TOO_SOON)

    def __repr__(self) -> str:
        if self._is_lost:
            state = "disconnected"
        elif self._has_closed:
            state = "closing" if self._end is None else "closed"
        else:
            state = "open" if self._end is None else "closed by the peer"
        return f"<WebSocket {self._role.value}, {state}, {len(self._inbox)} unread>"


class _Sent(Awaitable[None]):
    """What `send` answers when the peer has much to read."""

    __slots__ = ("_ws",)

    def __init__(self, ws: WebSocket) -> None:
        self._ws = ws

    def __await__(self) -> Generator[Any, Any, None]:
        return self._ws._wait_room().__await__()


class _Done(Awaitable[None]):
    """What `send` answers otherwise: awaiting it never suspends."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, None]:
        return
        yield


_DONE = _Done()


def join(one: WebSocket, other: WebSocket) -> None:
    """Make two new ends the ends of one socket."""
    one._peer, other._peer = other, one


def _as_bytes(message: object) -> bytes:
    if isinstance(message, bytearray | memoryview):
        return bytes(message)
    raise TypeError(f"a WebSocket message must be str or bytes, not {type(message).__name__}")


def _size(message: str | bytes) -> int:
    """What *message* counts for; the length of a long text is that of its UTF-8."""
    if isinstance(message, bytes) or message.isascii():
        size = len(message)
    else:
        try:
            size = len(message.encode())
        except UnicodeEncodeError as error:
            raise ValueError(
                f"the message has a lone surrogate at {error.start}, which UTF-8 cannot express; "
                f"send bytes, or mend the text"
            ) from None
    if size > MESSAGE_SIZE_MAX:
        raise ValueError(
            f"a WebSocket message cannot be larger than {MESSAGE_SIZE_MAX} bytes; this one has "
            f"{size}. Send it in parts"
        )
    return size + MESSAGE_OVERHEAD


def _close_frame(code: int | None, reason: str | None) -> Close:
    if code is None:
        if reason is not None:
            raise TypeError(
                "If you specify a WebSocket close reason, you must also specify a code."
            )
        return Close(NO_CODE, "", True)
    if isinstance(code, bool) or not isinstance(code, int):
        raise TypeError(f"a WebSocket close code must be an int, not {code!r}")
    if not 1000 <= code <= 4999 or code in {1004, 1005, 1006, 1015}:
        raise ValueError(f"Invalid WebSocket close code: {code}.")
    if not isinstance(reason, str | None):
        raise TypeError(f"a WebSocket close reason must be a str, not {type(reason).__name__}")
    size = len((reason or "").encode("utf-8", "surrogatepass"))
    if size > REASON_SIZE_MAX:
        raise ValueError(
            f"a WebSocket close reason cannot be larger than {REASON_SIZE_MAX} bytes of UTF-8; "
            f"this one has {size}"
        )
    return Close(code, reason or "", True)
