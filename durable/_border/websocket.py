"""The web sockets that users hold: `WebSocketPair` makes the two ends of one.

Rule: here arguments are checked and attachments kept; all else is the end's (`socket_end`), which
`end_of` gives to other files.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Coroutine
from datetime import datetime
from typing import Any, NoReturn

from durable._engine.codec import Codec, MsgpackCodec
from durable._loop import here
from durable._model.errors import WrongLoop
from durable._model.frames import as_bytes, close_frame, size_of
from durable._model.limits import Limits
from durable._model.websocket import WebSocket
from durable._object.activation import sending_activation

from .by_reference import ByReference
from .sending import send_frame
from .socket_end import End, join
from .socket_states import READY_STATES, Use
from .socket_waits import DONE, Sent, hear_soon, read, reader_of

# Of an attachment that no object has made.
_CODEC = MsgpackCodec()
# Of a socket that no object has accepted yet, whose limits would be known.
_ATTACHMENT_SIZE_MAX = Limits().attachment_size_max


class ObjectSocket(WebSocket, ByReference):
    """An end as `WebSocketPair` makes it, and as a Response brings it."""

    __slots__ = (
        "__weakref__",
        "_attachment",
        "_end",
        "_thread",
        "answered_at",
        "attachment_size_max",
        "tags",
    )

    def __init__(self, end: End | None = None) -> None:
        self._end = End() if end is None else end
        # A socket belongs to the thread that it was made in.
        self._thread = here.thread()
        # With the codec of the object that made it.
        self._attachment: tuple[Codec, bytes] | None = None
        self.attachment_size_max = _ATTACHMENT_SIZE_MAX
        # What the object that has accepted it for hibernation notes about it.
        self.tags: tuple[str, ...] = ()
        self.answered_at: datetime | None = None

    def accept(self) -> None:
        if here.thread() != self._thread:
            self._refuse_thread()
        end = self._end
        is_new = end.use is not Use.ACCEPTED
        end.accept(hear_soon)
        activation = sending_activation()
        if is_new and activation is not None:
            end.gate = activation.gate
            activation.keep_for(self)

    def send(self, message: str | bytes) -> Awaitable[None]:
        if here.thread() != self._thread:
            self._refuse_thread()
        if not isinstance(message, str | bytes):
            message = as_bytes(message)
        size = size_of(message)
        end = self._end
        if not end.may_send():
            return DONE
        if end.reserve(size):
            send_frame(end, message, size)
        return Sent(end) if end.is_peer_full else DONE

    def close(self, code: int | None = None, reason: str | None = None) -> Awaitable[None]:
        if here.thread() != self._thread:
            self._refuse_thread()
        frame = close_frame(code, reason)
        if self._end.close():
            send_frame(self._end, frame, 0)
        return DONE

    @property
    def ready_state(self) -> int:
        return READY_STATES[self._end.phase]

    @property
    def close_code(self) -> int | None:
        heard = self._end.heard
        return None if heard is None else heard.code

    @property
    def close_reason(self) -> str | None:
        heard = self._end.heard
        return None if heard is None else heard.reason

    def __aiter__(self) -> AsyncIterator[str | bytes]:
        if here.thread() != self._thread:
            self._refuse_thread()
        return reader_of(self._end)

    def __anext__(self) -> Coroutine[Any, Any, str | bytes]:
        if here.thread() != self._thread:
            self._refuse_thread()
        return read(self._end)

    def serialize_attachment(self, value: Any) -> None:
        activation = sending_activation()
        codec = _CODEC if activation is None else activation.services.codec_of(activation.cls)
        encoded = codec.encode(value)
        if len(encoded) > self.attachment_size_max:
            raise ValueError(
                f"A WebSocket 'attachment' cannot be larger than {self.attachment_size_max} bytes. "
                f"'attachment' was {len(encoded)} bytes."
            )
        self._attachment = codec, encoded

    def deserialize_attachment(self) -> Any:
        if self._attachment is None:
            return None
        codec, encoded = self._attachment
        return codec.decode(encoded)

    def take_attachment(self) -> bytes | None:
        """What is attached, as the codec of the object has written it."""
        return None if self._attachment is None else self._attachment[1]

    def put_attachment(self, codec: Codec, encoded: bytes | None) -> None:
        """Attach what another process had attached."""
        self._attachment = None if encoded is None else (codec, encoded)

    def _refuse_thread(self) -> NoReturn:
        raise WrongLoop(repr(self))

    def __repr__(self) -> str:
        end = self._end
        return f"<WebSocket {end.use.value}, {end.phase.value}, {len(end.inbox)} unread>"


class WebSocketPair(tuple[WebSocket, WebSocket]):
    """The two ends of a new web socket: `client, server = WebSocketPair()`.

    The object keeps one, `ctx.accept_websocket(server)`, and answers with the other:
    `Response(status=101, websocket=client)`.
    """

    __slots__ = ()

    def __new__(cls) -> WebSocketPair:
        client, server = ObjectSocket(), ObjectSocket()
        join(client._end, server._end)
        return super().__new__(cls, (client, server))


def end_of(ws: WebSocket) -> End:
    """The end that *ws* is the user's side of."""
    return known_socket(ws, "the library")._end


def known_socket(ws: object, taker: str) -> ObjectSocket:
    """*ws*, if `WebSocketPair` has made it. Else raises TypeError, which names *taker*."""
    if not isinstance(ws, ObjectSocket):
        raise TypeError(f"{taker} takes a WebSocket, not {type(ws).__name__}")
    return ws


def hand_over(ws: WebSocket) -> WebSocket:
    """The end of *ws* for the receiver of a Response; *ws* is of no use then."""
    socket = known_socket(ws, "a Response")
    end = socket._end
    socket._end = end.give()
    return ObjectSocket(end)
