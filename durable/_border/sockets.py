"""The web sockets that one object has accepted.

Rule: what is known here outlives the object's instance. An object that is evicted leaves its
hibernatable sockets open, and their next message builds it anew; a reset disconnects all of them.
What arrives at the hibernatable ones is the business of `arrivals`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import partial
from weakref import ref

from attrs import define, field

from durable._model.errors import TooManyWebSockets
from durable._model.frames import Close, as_bytes, size_of
from durable._model.ids import ObjectId
from durable._model.websocket import WebSocket
from durable._object.activation import Activation
from durable._object.live import LiveObject, Phase
from durable._object.services import Services

from .arrivals import Arrivals
from .sending import reply, send_to_all
from .socket_arguments import checked_auto_response, checked_tags
from .socket_end import End
from .socket_states import Use
from .unread import UnreadTotal
from .websocket import ObjectSocket, end_of, known_socket

LEAVING_MIN = 64
GOING_AWAY = 1001
RESTART = 1012
MOVES = "the object moves to another process"

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
    arrivals: Arrivals = field(init=False)
    # In the order in which they were accepted.
    _hibernatable: dict[End, ObjectSocket] = field(factory=dict, init=False)
    _by_tag: dict[str, dict[End, ObjectSocket]] = field(factory=dict, init=False)
    # Those that the object reads itself, each with the live object that it keeps in memory.
    _classic: dict[ref[End], LiveObject] = field(factory=dict, init=False)
    # Those whose peer has closed, and whose reply is perhaps still held back.
    _leaving: list[ref[End]] = field(factory=list, init=False)
    # When they are so many, those that have left are taken out.
    _leaving_max: int = field(default=LEAVING_MIN, init=False)

    def __attrs_post_init__(self) -> None:
        self.arrivals = Arrivals(
            self.object_id,
            self.cls,
            self.class_number,
            self.services,
            self._hibernatable,
            self._has_ended,
            self._refused,
        )

    # Hibernatable sockets

    def accept(self, ws: WebSocket, tags: Iterable[str]) -> None:
        """Let the object's handlers have what arrives at *ws*."""
        socket = known_socket(ws, "accept_websocket()")
        end = end_of(socket)
        end.check_hibernate()
        limits = self.services.limits
        kept = checked_tags(tags, limits.websocket_tags_max, limits.websocket_tag_size_max)
        if len(self._hibernatable) >= limits.websockets_max:
            raise TooManyWebSockets(limits.websockets_max)
        end.hibernate()
        self._put(socket, end, kept)

    def _put(self, socket: ObjectSocket, end: End, tags: tuple[str, ...]) -> None:
        socket.tags = tags
        socket.attachment_size_max = self.services.limits.attachment_size_max
        self._hibernatable[end] = socket
        for tag in tags:
            self._by_tag.setdefault(tag, {})[end] = socket
        self._listen(end)
        end.on_arrival = self.arrivals.arrived
        if end.inbox:
            self.arrivals.arrived(end)

    def all(self, tag: str | None) -> list[WebSocket]:
        """The sockets with *tag*, in order of acceptance; or all, the last accepted one first."""
        _check_tag(tag)
        if tag is None:
            return list(reversed(self._hibernatable.values()))
        return list(self._by_tag.get(tag, {}).values())

    def broadcast(
        self, message: object, tag: str | None, without: WebSocket | Iterable[WebSocket]
    ) -> int:
        """Send *message* to the sockets with *tag*, or to all; returns to how many."""
        _check_tag(tag)
        text = message if isinstance(message, str | bytes) else as_bytes(message)
        size = size_of(text)
        those = [without] if isinstance(without, WebSocket) else without
        left_out = {end_of(known_socket(ws, "broadcast(without=...)")) for ws in those}
        ends = self._hibernatable if tag is None else self._by_tag.get(tag, {})
        chosen = [end for end in ends if end not in left_out] if left_out else list(ends)
        return send_to_all(chosen, text, size)

    @property
    def auto_response(self) -> tuple[str, str] | None:
        """The text that is answered without waking the object, and the response."""
        return self.arrivals.auto_response

    def set_auto_response(self, request: str | None, response: str | None) -> None:
        """Answer the text *request* with *response*, from now on; None for both clears it."""
        size_max = self.services.limits.auto_response_size_max
        self.arrivals.auto_response = checked_auto_response(request, response, size_max)

    def _has_ended(self, ws: ObjectSocket) -> None:
        """The object has seen how *ws* ended."""
        self._forget(ws)
        end = end_of(ws)
        reply(end)
        self._leaves(end)

    def _refused(self, ws: ObjectSocket) -> None:
        """The object was reset with an event of *ws* in its line."""
        end = end_of(ws)
        if end in self._hibernatable:
            self._forget(ws)
            end.drop()

    def _forget(self, ws: ObjectSocket) -> None:
        end = end_of(ws)
        if self._hibernatable.pop(end, None) is None:
            return
        end.on_arrival = None
        for tag in ws.tags:
            tagged = self._by_tag[tag]
            del tagged[end]
            if not tagged:
                del self._by_tag[tag]

    # Sockets that the object reads itself

    def keep_for(self, live: LiveObject, end: End) -> None:
        """The object reads *end*, and stays in memory until the peer has closed or its own code
        has dropped it."""
        self._classic[ref(end, self._classic_dropped)] = live
        live.pin()
        self._listen(end)
        end.on_arrival = self._classic_arrived
        if end.inbox:
            self._classic_arrived(end)

    @property
    def are_read(self) -> bool:
        """Whether code of the object reads sockets itself, and so ends when they do."""
        return bool(self._classic)

    def _classic_arrived(self, end: End) -> None:
        if end.has_close_frame:
            end.on_arrival = None
            self._untie(ref(end))
            self._leaves(end)

    def _classic_dropped(self, which: ref[End]) -> None:
        # Called in any thread, in the middle of any statement.
        self.services.loop.call_soon_threadsafe(partial(self._untie, which))

    def _untie(self, which: ref[End]) -> None:
        live = self._classic.pop(which, None)
        if live is not None:
            live.unpin()

    # All of them

    def _listen(self, end: End) -> None:
        unread = self.services.find(SocketTable).unread
        end.belong_to(unread, self.services.loop.call_soon_threadsafe)

    def _leaves(self, end: End) -> None:
        """Our close reply may still be held back; a reset must reach this peer."""
        self._leaving.append(ref(end))
        if len(self._leaving) > self._leaving_max:
            self._leaving = [which for which in self._leaving if _is_leaving(which())]
            # Where thousands leave at once, each is looked at about twice.
            self._leaving_max = max(LEAVING_MIN, 2 * len(self._leaving))

    def close_all(self) -> None:
        """Close the hibernatable sockets; the object is not notified."""
        for ws in list(self._hibernatable.values()):
            self._forget(ws)
            ws.close(GOING_AWAY, "the object was evicted")

    def disconnect_all(self) -> None:
        """The object was reset, or the store closes: its peers see 1006."""
        self.services.find(SocketTable).of_objects.pop(self.object_id.raw, None)
        leaving = [which for which in self._leaving if _is_leaving(which())]
        others = [end for which in (*self._classic, *leaving) if (end := which()) is not None]
        ends = [*self._hibernatable, *others]
        self._hibernatable.clear()
        self._by_tag.clear()
        self._classic.clear()
        self._leaving.clear()
        self.arrivals.clear()
        for end in ends:
            end.on_arrival = None
        for end in ends:  # two of them may be the ends of one pair
            end.drop()

    def pause(self) -> None:
        """The object is about to move: let what arrives wait."""
        self.arrivals.is_paused = True

    def let_go(self, may_go: Callable[[End], bool]) -> list[ObjectSocket]:
        """The object moves to another process: the hibernatable sockets that can go with it, which
        are no more among those here."""
        going = [
            ws
            for end, ws in self._hibernatable.items()
            if end.is_open and not end.outbox and may_go(end)
        ]
        self.arrivals.clear()
        for ws in going:
            self._forget(ws)
        return going

    def take_over(self, ws: ObjectSocket, tags: Iterable[str]) -> None:
        """Let the object have *ws*, which it had in another process."""
        end = end_of(ws)
        end.hibernate()
        self._put(ws, end, tuple(tags))

    def restart_all(self) -> None:
        """The object moves to another process: its peers see 1012, by which they know that they may
        connect anew."""
        classic = [end for which in self._classic if (end := which()) is not None]
        for end in (*self._hibernatable, *classic):
            if end.can_speak and end.close():
                end.say(Close(RESTART, MOVES, True), 0)
        self.disconnect_all()

    def object_gone(self, *, is_broken: bool) -> None:
        """The object has left memory: it was reset, or evicted."""
        if is_broken:
            self.disconnect_all()
        elif not self._hibernatable:
            self.services.find(SocketTable).of_objects.pop(self.object_id.raw, None)

    def described(self) -> Iterator[dict[str, object]]:
        """Each socket for an operator: its tags, and how much of it waits to be read."""
        for end, ws in self._hibernatable.items():
            yield {"tags": list(ws.tags), "hibernates": True, "unread": len(end.inbox)}
        for which in self._classic:
            read = which()
            if read is not None:
                yield {"tags": [], "hibernates": False, "unread": len(read.inbox)}

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
    # The bytes that wait to be read at all of them.
    unread: UnreadTotal = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.unread = UnreadTotal(self.services.limits.websocket_unread_bytes_max, End.cut)
        self.services.share(self)
        self.services.keep_socket = lambda activation, ws: self.of(activation).keep_for(
            activation, end_of(ws)
        )
        self.services.on_gone.append(self._object_gone)

    def of(self, activation: LiveObject) -> Sockets:
        """The sockets of one object."""
        sockets = self.of_objects.get(activation.id.raw)
        if sockets is None:
            number = activation.handle.class_number
            sockets = self.of_id(activation.id, activation.cls, number)
        return sockets

    def of_id(self, object_id: ObjectId, cls: type, class_number: int) -> Sockets:
        """The sockets of one object, which may be in memory or not."""
        sockets = self.of_objects.get(object_id.raw)
        if sockets is None:
            sockets = Sockets(object_id, cls, class_number, self.services)
            self.of_objects[object_id.raw] = sockets
        return sockets

    def _object_gone(self, activation: LiveObject) -> None:
        sockets = self.of_objects.get(activation.id.raw)
        if sockets is not None:
            sockets.object_gone(is_broken=activation.phase is Phase.BROKEN)

    def __iter__(self) -> Iterator[Sockets]:
        return iter(list(self.of_objects.values()))


def sockets_of(activation: Activation) -> Sockets:
    """The sockets of one live object."""
    return activation.services.find(SocketTable).of(activation)


def tags_of(ws: WebSocket) -> list[str]:
    """The tags that *ws* was accepted with."""
    socket = known_socket(ws, "get_tags()")
    use = end_of(socket).use
    if use is Use.ACCEPTED:
        raise TypeError(HAS_NO_TAGS)
    if use is not Use.HIBERNATABLE:
        raise TypeError(NOT_ACCEPTED)
    return list(socket.tags)


def answered_at(ws: WebSocket) -> datetime | None:
    """When *ws* was last sent an auto-response."""
    return known_socket(ws, "get_websocket_auto_response_timestamp()").answered_at


def _is_leaving(end: End | None) -> bool:
    return end is not None and end.is_leaving


def _check_tag(tag: str | None) -> None:
    if tag is not None and not isinstance(tag, str):
        raise TypeError(f"a tag is a str, one of those given to accept_websocket(), not {tag!r}")
