"""The ends of web sockets that objects and programs hold: what they say goes through the gates.

A message leaves when all that its sender wrote before it is on disk. Messages of one end leave in
the order in which they were sent, whoever sent them; so one that need not wait waits for those
before it that do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from datetime import datetime
from threading import get_ident
from typing import Any

from attrs import define

from durable._engine.codec import Codec, MsgpackCodec
from durable._gates.delivery import CURRENT
from durable._gates.input_gate import InputGate
from durable._gates.saying import say
from durable._loop.loop import which_backend
from durable._loop.open_loop import make_loop
from durable._model.errors import WrongLoop
from durable._model.frames import Close, Frame
from durable._model.limits import Limits
from durable._model.websocket import WebSocket
from durable._object.activation import sending_activation

from .by_reference import ByReference
from .role import Role
from .socket_end import End, join

# Of an attachment that no object has made.
_CODEC = MsgpackCodec()
# Of a socket that no object has accepted yet, whose limits would be known.
_ATTACHMENT_SIZE_MAX = Limits().attachment_size_max


@define(eq=False, slots=True)
class _Held:
    """A frame on its way out; *gate* is that of the object that has sent it."""

    ws: ObjectSocket
    frame: Frame
    size: int
    gate: InputGate[Any] | None
    may_leave: bool = False

    def leave(self) -> None:
        self.may_leave = True
        self.ws._flush()

    def fail(self, _: Exception) -> None:
        """Its object was reset: those behind it need not wait for it."""
        self.ws._flush()


class ObjectSocket(End, ByReference):
    """An end as `WebSocketPair` makes it."""

    __slots__ = (
        "_attachment",
        "_gate",
        "_held",
        "_thread",
        "answered_at",
        "attachment_size_max",
        "is_lined",
        "tags",
    )

    def __init__(self) -> None:
        super().__init__()
        self._held: deque[_Held] | None = None
        # A socket belongs to the thread that it was made in.
        self._thread = get_ident()
        # With the codec of the object that made it.
        self._attachment: tuple[Codec, bytes] | None = None
        # Of the object that reads it itself; its replies wait for what the object wrote.
        self._gate: InputGate[Any] | None = None
        self.attachment_size_max = _ATTACHMENT_SIZE_MAX
        # What the object that has accepted it for hibernation notes about it.
        self.tags: tuple[str, ...] = ()
        self.answered_at: datetime | None = None
        self.is_lined = False

    def _check_here(self) -> None:
        if get_ident() != self._thread:
            raise WrongLoop(repr(self))

    def send(self, message: str | bytes) -> Awaitable[None]:
        self._check_here()
        return super().send(message)

    def close(self, code: int | None = None, reason: str | None = None) -> Awaitable[None]:
        self._check_here()
        return super().close(code, reason)

    def accept(self) -> None:
        self._check_here()
        is_new = self._role is Role.NEW
        super().accept()
        activation = sending_activation()
        if is_new and activation is not None:
            self._gate = activation.gate
            activation.keep_for(self)

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

    def _find_loop(self) -> Callable[[Callable[[], object]], None]:
        return make_loop(which_backend()).call_soon_threadsafe

    def _say(self, frame: Frame, size: int) -> None:
        sender = CURRENT.get()
        if sender is None:
            self.say_ungated(frame, size)
        elif sender.gate.broken is not None:
            if not isinstance(frame, Close):  # which the library says too
                sender.gate.check()
        else:
            held = self._hold(frame, size, sender.gate)
            say(sender, held.leave, held)

    def _say_reply(self, frame: Close) -> None:
        gate = self._gate
        if gate is None:
            self._say(frame, 0)
        elif gate.output.is_open():
            self.say_ungated(frame, 0)
        else:
            held = self._hold(frame, 0, gate)
            gate.output.when_durable(gate.output.seqno(), held.leave, held)

    def say_ungated(self, frame: Frame, size: int) -> None:
        """Send *frame* after those that are held, and wait for nothing else."""
        if self._held:
            self._hold(frame, size, None).may_leave = True
            self._flush()
        else:
            self._pass_on(frame, size)

    def _hold(self, frame: Frame, size: int, gate: InputGate[Any] | None) -> _Held:
        if self._held is None:
            self._held = deque()
        held = _Held(self, frame, size, gate)
        self._held.append(held)
        return held

    def _flush(self) -> None:
        """Let out what may leave and has nothing before it."""
        while self._held:
            first = self._held[0]
            if first.may_leave:
                self._held.popleft()
                self._pass_on(first.frame, first.size)
            elif first.gate is not None and first.gate.broken is not None:
                self._held.popleft()  # its sender was reset: this is never said
                peer = self._peer()
                if peer is not None:
                    peer._took(first.size)
            else:
                return

    def _lose(self, end: Close, *, forget: bool) -> None:
        held, self._held = self._held, None
        peer = self._peer()
        if held and peer is not None:
            peer._took(sum(each.size for each in held))
        super()._lose(end, forget=forget)


def end_of(ws: WebSocket) -> ObjectSocket:
    """The end that *ws* is, as the library knows it."""
    if not isinstance(ws, ObjectSocket):
        raise TypeError(f"{ws!r} is not an end of a WebSocketPair")
    return ws


class WebSocketPair(tuple[WebSocket, WebSocket]):
    """The two ends of a new web socket: `client, server = WebSocketPair()`.

    The object keeps one, `ctx.accept_websocket(server)`, and answers with the other:
    `Response(status=101, websocket=client)`.
    """

    __slots__ = ()

    def __new__(cls) -> WebSocketPair:
        client, server = ObjectSocket(), ObjectSocket()
        join(client, server)
        return super().__new__(cls, (client, server))
