"""The web sockets of one object: those it has accepted, and the invocations that their messages
become.

What is known of them here outlives the object's activation: an object that is evicted leaves its
hibernatable sockets open, and the next message builds it anew. A reset disconnects them all.

A socket has at most one message in its object's line, and the sockets of an object have few at a
time. The others wait in their sockets, where they slow down those who send them, and do not fill
the queue that the object's callers share. So the line is never refused: a queue that callers have
filled delays what sockets say and loses none of it. What waits counts as unread until its handler
begins, and that has a bound of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextvars import copy_context
from datetime import UTC, datetime
from functools import partial
from typing import Any
from weakref import ref

from attrs import define, field

from durable._model.errors import DurableError, TooManyWebSockets
from durable._model.frames import Close, size_of, utf8_size
from durable._model.ids import ObjectId
from durable._model.log import log
from durable._model.websocket import WebSocket
from durable._object.activation import Activation
from durable._object.invocation import Invocation
from durable._object.live import LiveObject, Phase
from durable._object.services import Services

from .first_step import run_first_step
from .role import Role
from .socket_end import End, count_all, cut
from .unread import UnreadTotal
from .websocket import ObjectSocket, end_of

IN_LINE_MAX = 64
LEAVING_MIN = 64
GOING_AWAY = 1001

ACCEPTED_BEFORE = (
    "Cannot call `accept_websocket()` if the WebSocket was already accepted via `accept()`"
)
ACCEPTED_TWICE = "Cannot call `accept_websocket()` on a WebSocket that it has accepted before."
PAIR_IS_USED = (
    "Cannot call `accept_websocket()` on this WebSocket because its pair has already been accepted "
    "or used in a Response."
)
NOT_ACCEPTED = (
    "you must call 'accept_websocket()' before attempting to access the tags of a WebSocket."
)
HAS_NO_TAGS = "only hibernatable websockets can have tags."


@define(eq=False)
class Sockets:
    """What one object has accepted. Nothing here suspends."""

    object_id: ObjectId
    cls: type
    class_number: int
    services: Services
    # What is answered without waking anybody: a text, and the text to answer it with.
    auto_response: tuple[str, str] | None = None
    # In the order in which they were accepted.
    _hibernatable: dict[End, None] = field(factory=dict, init=False)
    _by_tag: dict[str, dict[End, None]] = field(factory=dict, init=False)
    # Those that the object reads itself, and that keep it in memory as long as it has them.
    _classic: dict[ref[End], LiveObject] = field(factory=dict, init=False)
    # Those whose peer has said goodbye, and has perhaps no reply yet.
    _leaving: list[ref[End]] = field(factory=list, init=False)
    # When they are so many, those that have gone since are taken out.
    _leaving_max: int = field(default=LEAVING_MIN, init=False)
    # Sockets that have something to read and nothing in the object's line.
    _lined: deque[ObjectSocket] = field(factory=deque, init=False)
    _in_line: int = field(default=0, init=False)

    # What the object asks for

    def accept(self, ws: WebSocket, tags: Iterable[str]) -> None:
        """Let the object's handlers have what arrives at *ws*."""
        socket = _usable(ws)
        limits = self.services.limits
        kept = _checked_tags(tags, limits.websocket_tags_max, limits.websocket_tag_size_max)
        if len(self._hibernatable) >= limits.websockets_max:
            raise TooManyWebSockets(limits.websockets_max)
        socket._role = Role.HIBERNATABLE
        socket.tags = kept
        socket.attachment_size_max = limits.attachment_size_max
        self._hibernatable[socket] = None
        for tag in kept:
            self._by_tag.setdefault(tag, {})[socket] = None
        count_all(socket, self.services.find(SocketTable).unread)
        socket._tell = self.services.loop.call_soon_threadsafe
        socket._look_for_peer()
        socket._on_arrival = self._arrived
        if socket._inbox:
            self._arrived(socket)

    def all(self, tag: str | None) -> list[WebSocket]:
        """The sockets with *tag*, in order of acceptance; or all, the last accepted one first."""
        if tag is None:
            return list(reversed(self._hibernatable))
        return list(self._by_tag.get(tag, ()))

    def set_auto_response(self, request: str | None, response: str | None) -> None:
        """Answer the text *request* with *response*, from now on."""
        if request is None and response is None:
            self.auto_response = None
            return
        size_max = self.services.limits.auto_response_size_max
        self.auto_response = (
            _checked_text("Request", request, size_max),
            _checked_text("Response", response, size_max),
        )

    def keep_for(self, activation: LiveObject, ws: End) -> None:
        """The object reads *ws* itself, and stays in memory until the peer has closed it, or its
        code has dropped it."""
        self._classic[ref(ws, self._dropped_classic)] = activation
        activation.pins += 1
        count_all(ws, self.services.find(SocketTable).unread)
        ws._tell = self.services.loop.call_soon_threadsafe
        ws._look_for_peer()
        ws._on_arrival = self._arrived_classic
        if ws._inbox:
            self._arrived_classic(ws)

    @property
    def are_read(self) -> bool:
        """Whether code of the object reads sockets itself, and so ends when they do."""
        return bool(self._classic)

    def _arrived_classic(self, ws: End) -> None:
        if isinstance(ws._inbox[-1][0], Close):
            ws._on_arrival = None
            self._untie(ref(ws))
            self._leaves(ws)

    def _dropped_classic(self, which: ref[End]) -> None:
        # As when an end is gone: in any thread, in the middle of anything.
        self.services.loop.call_soon_threadsafe(partial(self._untie, which))

    def _untie(self, which: ref[End]) -> None:
        activation = self._classic.pop(which, None)
        if activation is not None:
            activation.unpin()

    # What arrives

    def _arrived(self, ws: End) -> None:
        assert isinstance(ws, ObjectSocket)
        if not ws.is_lined:
            ws.is_lined = True
            self._lined.append(ws)
            self._fill_line()

    def _fill_line(self) -> None:
        """Make invocations of what waits, as far as there is room for them."""
        while self._lined and self._in_line < IN_LINE_MAX and self.services.is_open:
            ws = self._lined.popleft()
            ws.is_lined = False
            while ws._inbox:
                invocation = self._invocation_of(ws)
                if invocation is not None:
                    ws.is_lined = True
                    self._in_line += 1
                    invocation.activation.deliver(invocation)
                    break

    def _invocation_of(self, ws: ObjectSocket) -> SocketInvocation | None:
        """What the next thing that *ws* has heard is to the object; None if it is nothing."""
        frame, size = ws._inbox.popleft()
        if isinstance(frame, Close):
            return self._event_of_end(ws, frame)
        if self.auto_response is not None and frame == self.auto_response[0]:
            ws._took(size)
            self._answer(ws, self.auto_response[1])
            return None
        if not hasattr(self.cls, "websocket_message"):
            ws._took(size)
            return None
        return self._make_event(ws, "websocket_message", frame, unread=size)

    def _event_of_end(self, ws: ObjectSocket, frame: Close) -> SocketInvocation | None:
        ws._end = frame
        name = "websocket_close" if frame.error is None else "websocket_error"
        if not hasattr(self.cls, name):
            self._goodbye(ws)
            return None
        end = (frame.code, frame.reason, frame.was_clean)
        return self._make_event(ws, name, *(end if frame.error is None else (frame.error,)))

    def _answer(self, ws: ObjectSocket, text: str) -> None:
        if ws._has_closed or ws._is_lost:
            return
        ws.answered_at = datetime.fromtimestamp(self.services.clock.now(), UTC)
        size = size_of(text)
        if ws._has_room_for(size):
            ws.say_ungated(text, size)

    def _make_event(
        self, ws: ObjectSocket, name: str, *args: Any, unread: int = 0
    ) -> SocketInvocation:
        activation = self.services.activation_of(self.object_id, self.cls, self.class_number)

        def run() -> Any:
            handle = partial(getattr(activation.instance, name), ws, *args)
            return run_first_step(handle, came_in)

        def came_in() -> None:
            if name != "websocket_message":
                self._goodbye(ws)
            self._came_in(invocation)

        invocation = SocketInvocation(activation, run, copy_context(), name, None)
        invocation.sockets, invocation.ws, invocation.unread = self, ws, unread
        invocation.is_in_line = True
        return invocation

    def _came_in(self, invocation: SocketInvocation) -> None:
        """*invocation* is in the object, and waits or has ended: the next one is in line."""
        self._leaves_line(invocation)
        ws = invocation.ws
        # Not if it has ended, or that first step has broken the object: nobody hears the rest.
        ws.is_lined = bool(ws._inbox) and ws in self._hibernatable
        if ws.is_lined:
            self._lined.append(ws)
        self._fill_line()

    # How they end

    def _goodbye(self, ws: ObjectSocket) -> None:
        """*ws* has ended, and the object knows."""
        self._forget(ws)
        ws._reply_close()
        self._leaves(ws)

    def _leaves(self, ws: End) -> None:
        """The reply to *ws* may be held back for long, and a reset must still be heard there."""
        self._leaving.append(ref(ws))
        if len(self._leaving) > self._leaving_max:
            self._leaving = [which for which in self._leaving if _is_leaving(which())]
            # So that thousands may leave at once: each is looked at twice or so.
            self._leaving_max = max(LEAVING_MIN, 2 * len(self._leaving))

    def _forget(self, ws: ObjectSocket) -> None:
        if ws not in self._hibernatable:
            return
        del self._hibernatable[ws]
        ws._on_arrival = None
        for tag in ws.tags:
            tagged = self._by_tag[tag]
            del tagged[ws]
            if not tagged:
                del self._by_tag[tag]

    def _leaves_line(self, invocation: SocketInvocation) -> None:
        if invocation.is_in_line:
            invocation.is_in_line = False
            self._in_line -= 1
            invocation.ws._took(invocation.unread)

    def refused(self, invocation: SocketInvocation) -> None:
        """*invocation* did not get into the object, or not to its end: it was reset."""
        self._leaves_line(invocation)
        ws = invocation.ws
        ws.is_lined = False
        if ws in self._hibernatable:
            self._forget(ws)
            ws._drop()

    def close_all(self) -> None:
        """Close the hibernatable sockets; the object is not told."""
        for ws in list(self._hibernatable):
            assert isinstance(ws, ObjectSocket)
            self._forget(ws)
            ws.close(GOING_AWAY, "the object was evicted")

    def disconnect_all(self) -> None:
        """The object was reset, or the store closes: its sockets are gone for whoever has them."""
        self.services.find(SocketTable).of_objects.pop(self.object_id.raw, None)
        leaving = [which for which in self._leaving if _is_leaving(which())]
        others = [ws for which in (*self._classic, *leaving) if (ws := which()) is not None]
        sockets = [*self._hibernatable, *others]
        self._hibernatable.clear()
        self._by_tag.clear()
        self._classic.clear()
        self._leaving.clear()
        self._lined.clear()
        for ws in sockets:
            ws._on_arrival = None
        for ws in sockets:  # two of them may be the ends of one pair
            ws._drop()

    def host_gone(self, *, is_broken: bool) -> None:
        """The object is not in memory any more: it was reset, or evicted."""
        if is_broken:
            self.disconnect_all()
        elif not self._hibernatable:
            self.services.find(SocketTable).of_objects.pop(self.object_id.raw, None)

    @property
    def label(self) -> str:
        return f"{self.cls.__name__}({self.object_id.name or self.object_id})"

    def __len__(self) -> int:
        return len(self._hibernatable) + len(self._classic)

    def __repr__(self) -> str:
        return (
            f"<Sockets of {self.label}, {len(self._hibernatable)} hibernatable, "
            f"{len(self._classic)} others>"
        )


@define(eq=False)
class SocketTable:
    """The web sockets of the objects that have some; they stay when the objects are evicted."""

    services: Services
    of_objects: dict[bytes, Sockets] = field(factory=dict, init=False)
    # What waits to be read at all of them.
    unread: UnreadTotal = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.unread = UnreadTotal(self.services.limits.websocket_unread_bytes_max, cut)
        self.services.share(self)
        self.services.keep_socket = lambda activation, ws: self.of(activation).keep_for(
            activation, end_of(ws)
        )
        self.services.on_gone.append(self._host_gone)

    def of(self, activation: LiveObject) -> Sockets:
        """Those of one object."""
        raw = activation.id.raw
        if raw not in self.of_objects:
            self.of_objects[raw] = Sockets(
                activation.id, activation.cls, activation.handle.class_number, self.services
            )
        return self.of_objects[raw]

    def _host_gone(self, activation: LiveObject) -> None:
        sockets = self.of_objects.get(activation.id.raw)
        if sockets is not None:
            sockets.host_gone(is_broken=activation.phase is Phase.BROKEN)

    def __iter__(self) -> Iterator[Sockets]:
        return iter(list(self.of_objects.values()))


class SocketInvocation(Invocation[None]):
    """The delivery of one thing that arrived at a web socket. Nobody waits for its answer."""

    __slots__ = ("is_in_line", "sockets", "unread", "ws")

    # What waits at a socket is bounded there.
    is_refusable = False

    sockets: Sockets
    ws: ObjectSocket
    # The bytes of the message, which count at its socket until the handler begins.
    unread: int
    is_in_line: bool

    def answer(self, value: Any, error: BaseException | None) -> None:
        # An object that was reset has said so already.
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
            self.sockets.refused(self)


def sockets_of(activation: Activation) -> Sockets:
    """The sockets of the object that *activation* keeps."""
    return activation.services.find(SocketTable).of(activation)


def tags_of(ws: WebSocket) -> list[str]:
    """The tags that *ws* was accepted with."""
    if not isinstance(ws, ObjectSocket):
        raise TypeError(f"get_tags() takes a WebSocket, not {type(ws).__name__}")
    if ws._role is Role.ACCEPTED:
        raise TypeError(HAS_NO_TAGS)
    if ws._role is not Role.HIBERNATABLE:
        raise TypeError(NOT_ACCEPTED)
    return list(ws.tags)


def answered_at(ws: WebSocket) -> datetime | None:
    """When *ws* was last sent an auto-response."""
    if not isinstance(ws, ObjectSocket):
        raise TypeError(
            f"get_websocket_auto_response_timestamp() takes a WebSocket, not {type(ws).__name__}"
        )
    return ws.answered_at


def _is_leaving(ws: End | None) -> bool:
    """Whether the last word of this side is still to come, or on its way."""
    if ws is None or ws._is_lost:
        return False
    return not ws._has_closed or (isinstance(ws, ObjectSocket) and bool(ws._held))


def _usable(ws: WebSocket) -> ObjectSocket:
    if not isinstance(ws, ObjectSocket):
        raise TypeError(f"accept_websocket() takes a WebSocket, not {type(ws).__name__}")
    if ws._role is Role.ACCEPTED:
        raise DurableError(ACCEPTED_BEFORE)
    if ws._role is Role.HIBERNATABLE:
        raise DurableError(ACCEPTED_TWICE)
    peer = ws._peer()
    if ws._role is Role.GIVEN or (
        peer is not None and (peer._role is not Role.NEW or peer._was_given)
    ):
        raise DurableError(PAIR_IS_USED)
    return ws


def _checked_tags(tags: Iterable[str], count_max: int, size_max: int) -> tuple[str, ...]:
    if isinstance(tags, str | bytes):
        raise TypeError(f"the tags of a WebSocket must be a list of str, not {tags!r}; give [tag]")
    kept: dict[str, None] = {}
    for tag in tags:
        if len(kept) == count_max:
            raise ValueError(f"a Hibernatable WebSocket cannot have more than {count_max} tags")
        if not isinstance(tag, str):
            raise TypeError(f"a tag must be a str, not {type(tag).__name__}")
        if len(tag.encode("utf-8", "surrogatepass")) > size_max:
            raise ValueError(f'"{tag}" is longer than the max tag length ({size_max} characters).')
        kept[tag] = None
    return tuple(kept)


def _checked_text(what: str, text: object, size_max: int) -> str:
    if not isinstance(text, str):
        raise TypeError(
            f"set_websocket_auto_response() takes two str, or None to clear, not "
            f"{type(text).__name__}"
        )
    size = utf8_size(what, text)
    if size > size_max:
        raise ValueError(
            f"{what} cannot be larger than {size_max} bytes. A {what.lower()} of size {size} was "
            f"provided."
        )
    return text
