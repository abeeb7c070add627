"""What arrives at an object's hibernatable sockets becomes invocations of the object.

Rule: a socket has at most one invocation in its object's line, and all sockets of an object have
at most 64 there. What else has arrived waits in its socket, slows down its sender, and leaves
the queue to the object's callers. So an invocation is never refused: a queue that callers have
filled delays what sockets say and loses none of it. A message is unread until its handler
begins.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from contextvars import copy_context
from datetime import UTC, datetime
from functools import partial
from typing import Any

from attrs import define, field

from durable._model.frames import Close, size_of
from durable._model.ids import ObjectId
from durable._model.log import log
from durable._object.invocation import Invocation
from durable._object.services import Services

from .first_step import run_first_step
from .socket_end import End
from .websocket import ObjectSocket, end_of

IN_LINE_MAX = 64


@define(eq=False)
class Arrivals:
    """Makes the invocations of one object's sockets. Nothing here suspends."""

    object_id: ObjectId
    cls: type
    class_number: int
    services: Services
    # The sockets that the object has accepted and whose end it has not seen.
    listed: Mapping[End, ObjectSocket]
    # Called when the object has seen how a socket ended, and when it was reset before.
    on_end: Callable[[ObjectSocket], None]
    on_refused: Callable[[ObjectSocket], None]
    # What is answered without waking the object: a text, and the response to it.
    auto_response: tuple[str, str] | None = None
    # The object is about to move: what arrives waits for where it will be.
    is_paused: bool = False
    # Sockets with something to read and no invocation in the object's line.
    _waiting: deque[ObjectSocket] = field(factory=deque, init=False)
    # Those, and the sockets that have an invocation in it.
    _busy: set[End] = field(factory=set, init=False)
    _in_line: int = field(default=0, init=False)

    def arrived(self, end: End) -> None:
        """*end* has something to read."""
        if end not in self._busy:
            self._busy.add(end)
            self._waiting.append(self.listed[end])
            self._fill_line()

    def clear(self) -> None:
        """Make no invocations of what waits."""
        self._waiting.clear()
        self._busy.clear()

    def left(self, invocation: SocketInvocation) -> None:
        """*invocation* has left the object's line, and its message is not unread any more."""
        if invocation.is_in_line:
            invocation.is_in_line = False
            self._in_line -= 1
            end_of(invocation.ws).took(invocation.unread)

    def refused(self, invocation: SocketInvocation) -> None:
        """The object was reset before the handler of *invocation* began, or before it ended."""
        self.left(invocation)
        self._busy.discard(end_of(invocation.ws))
        self.on_refused(invocation.ws)

    @property
    def _may_deliver(self) -> bool:
        return self.services.is_open and not self.is_paused

    def _fill_line(self) -> None:
        """Make invocations of what waits, as far as there is room for them."""
        while self._waiting and self._in_line < IN_LINE_MAX and self._may_deliver:
            ws = self._waiting.popleft()
            end = end_of(ws)
            self._busy.discard(end)
            while end.inbox:
                invocation = self._invocation_of(ws, end)
                if invocation is not None:
                    self._busy.add(end)
                    self._in_line += 1
                    invocation.activation.deliver(invocation)
                    break

    def _invocation_of(self, ws: ObjectSocket, end: End) -> SocketInvocation | None:
        """What the next frame is to the object; None if it is nothing."""
        frame, size = end.inbox.popleft()
        if isinstance(frame, Close):
            return self._end_invocation(ws, end, frame)
        if self.auto_response is not None and frame == self.auto_response[0]:
            end.took(size)
            self._answer(ws, end, self.auto_response[1])
            return None
        if not hasattr(self.cls, "websocket_message"):
            end.took(size)
            return None
        return self._make_invocation(ws, "websocket_message", frame, unread=size)

    def _end_invocation(self, ws: ObjectSocket, end: End, frame: Close) -> SocketInvocation | None:
        end.hear(frame)
        name = "websocket_close" if frame.error is None else "websocket_error"
        if not hasattr(self.cls, name):
            self.on_end(ws)
            return None
        how = (frame.code, frame.reason, frame.was_clean)
        return self._make_invocation(ws, name, *(how if frame.error is None else (frame.error,)))

    def _answer(self, ws: ObjectSocket, end: End, text: str) -> None:
        if not end.can_speak:
            return
        ws.answered_at = datetime.fromtimestamp(self.services.clock.now(), UTC)
        size = size_of(text)
        if end.reserve(size):
            end.say(text, size)

    def _make_invocation(
        self, ws: ObjectSocket, name: str, *args: Any, unread: int = 0
    ) -> SocketInvocation:
        activation = self.services.activation_of(self.object_id, self.cls, self.class_number)

        def run() -> Any:
            handle = partial(getattr(activation.instance, name), ws, *args)
            return run_first_step(handle, began)

        def began() -> None:
            if name != "websocket_message":
                self.on_end(ws)
            self._began(invocation)

        invocation = SocketInvocation(activation, run, copy_context(), name, None)
        invocation.arrivals, invocation.ws, invocation.unread = self, ws, unread
        invocation.is_in_line = True
        return invocation

    def _began(self, invocation: SocketInvocation) -> None:
        """The handler waits or has ended: the next frame of its socket may wait in line."""
        self.left(invocation)
        ws, end = invocation.ws, end_of(invocation.ws)
        # Not if the socket has ended, or its object was reset in this step.
        if end.inbox and end in self.listed:
            self._waiting.append(ws)
        else:
            self._busy.discard(end)
        self._fill_line()


class SocketInvocation(Invocation[None]):
    """The delivery of one frame that arrived at a web socket. No caller waits for its answer."""

    __slots__ = ("arrivals", "is_in_line", "unread", "ws")

    # What waits at a socket is bounded there.
    is_refusable = False

    arrivals: Arrivals
    ws: ObjectSocket
    # The bytes of the message, which count at its socket until the handler begins.
    unread: int
    is_in_line: bool

    def answer(self, value: Any, error: BaseException | None) -> None:
        # A reset of the object was logged already.
        if error is not None and not self.is_done:
            self.activation.counters.errors += 1
            activation = self.activation
            log.error(
                "%s() of %s failed",
                self.label,
                activation.label,
                exc_info=error,
                extra=activation.marks,
            )
        super().answer(None, None)

    def fail(self, error: BaseException) -> None:
        is_news = not self.is_done
        super().fail(error)
        if is_news:
            self.arrivals.refused(self)
