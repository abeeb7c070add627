"""Calls of objects of another process, on the caller's side.

A call is also its answer, as in one process. It is a frame that is written when it may leave, and
waits in a table for the frame that ends it: no task is made for it.

Rule: a call has one of four outcomes, of which its router is notified. *Answered*: a value or an
error has come. *Moved*: the other process does not have the object, and the call has not begun.
*Unsent*: the link was lost before the call left, so it has not begun. *Lost*: it may have begun.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol, TypeVar

from attrs import frozen

from durable._gates.delivery import CURRENT, Delivery
from durable._gates.futures import PendingAnswer
from durable._gates.saying import let_go, say
from durable._loop.loop import Loop, Waker
from durable._model.errors import DurableError, ObjectOverloaded, ObjectUnreachable, RuntimeClosed
from durable._model.ids import ObjectId
from durable._object.deadlocks import section_awaits
from durable._object.services import Services

from .failures import from_failure
from .frames import Kind
from .link import Link
from .reading import Readers
from .searches import Searches
from .streams import Decode, Streams
from .things import LinkThings, Written

T = TypeVar("T")

# Bytes that may wait for the other process to read them: two messages of the largest size.
WAITING_BYTES_MAX = 134_217_728
NOT_READ = (
    "Durable Object is overloaded. Too much data waits for its process, which does not read it."
)


class Called(Protocol):
    """What a call is for."""

    @property
    def class_number(self) -> int: ...
    @property
    def label(self) -> str: ...
    @property
    def id_text(self) -> str | None: ...


@frozen
class Target(Called):
    """The object that a call is for."""

    class_number: int
    object_id: ObjectId
    cls: type

    @property
    def label(self) -> str:
        return f"{self.cls.__name__}({self.object_id.name or str(self.object_id)!r})"

    @property
    def id_text(self) -> str | None:
        return str(self.object_id)


class NotBegun(enum.Enum):
    """Why a call that has not begun is back."""

    MOVED = "the process does not have the object"
    UNSENT = "the process was gone before the call left"


class Router(Protocol):
    """Decides which way calls go, and is notified of their outcomes."""

    def settled(self, call: FarCall[Any]) -> None:
        """*call* is answered or lost, and its caller knows."""

    def returned(self, call: FarCall[Any], why: NotBegun) -> None:
        """*call* is back, in the order in which calls were sent. It may be sent again."""


class FarCall(PendingAnswer[T]):
    """A call to an object of another process, and its answer."""

    __slots__ = ("caller", "kind", "label", "port", "position", "rest", "router", "target")

    is_from_afar = False

    def __init__(
        self,
        loop: Loop,
        target: Called,
        kind: Kind,
        label: str,
        rest: tuple[Any, ...],
        caller: Delivery[Any] | None,
    ) -> None:
        # Written out, and not left to the base: every call makes one of these.
        self._loop = loop
        self._is_done = False
        self._error = None
        self._waiting = None
        self.target = target
        self.kind = kind
        self.label = label
        # The fields of its frame after those that every call has.
        self.rest = rest
        # The delivery whose code made the call.
        self.caller = caller
        self.router: Router | None = None
        # The port that it was sent by last.
        self.port: Port | None = None
        # Where it ends in the stream of bytes that its link sends.
        self.position = 0

    def _add(self, waker: Waker) -> None:
        if self.caller is not None:
            let_go(CURRENT.get())  # this call, among others
            if self._is_done:  # where tasks are eager
                waker.wake()
                return
        super()._add(waker)

    def awaited(self) -> Iterator[tuple[Delivery[Any], PendingAnswer[Any]]]:
        """What code of an object may await of it, with the delivery whose code does."""
        if self.caller is not None:
            yield self.caller, self

    def left(self, calls: Calls, number: int) -> None:
        """The call has left over the link of *calls*."""

    def came_back(self, calls: Calls, number: int) -> None:
        """The call has moved: that link has it no more."""

    def decoder(self, readers: Readers) -> Decode:
        """The decoder of its result."""
        return readers.of(self.target.class_number).decode

    def read(self, readers: Readers, encoded: bytes) -> T:
        """The value that has come, decoded."""
        value: T = readers.of(self.target.class_number).decode(encoded)
        return value

    def fail(self, error: BaseException) -> None:
        self.caller = None
        self.rest = ()
        super().fail(error)


class Calls:
    """The calls that wait for answers over one link."""

    def __init__(
        self, link: Link, things: LinkThings, streams: Streams, searches: Searches
    ) -> None:
        self._searches = searches
        self.link = link
        self.things = things
        self.streams = streams
        self.readers: Readers
        # Calls are refused while more bytes than this wait to be sent.
        self.waiting_bytes_max = WAITING_BYTES_MAX
        self._under_way: dict[int, FarCall[Any]] = {}
        self._numbers = itertools.count(1)
        self._ports = itertools.count(1)
        link.on[Kind.ANSWER] = self._answered
        link.on[Kind.FAIL] = self._failed
        link.on[Kind.MOVED] = self._moved
        link.on[Kind.WHO_WAITS] = self._who_waits
        link.on[Kind.RING] = self._ring
        link.on_gone.append(self._lost)
        streams.on_call_over = self._stream_is_over

    def port(self, target: Target) -> Port:
        """A way to one incarnation of *target*: the one that its first call reaches."""
        return Port(self, target, next(self._ports))

    def send(self, call: FarCall[Any], *address: Any) -> None:
        """Send *call*; *address* are the fields that say where it goes."""
        link, things = self.link, self.things
        number = next(self._numbers)
        self._under_way[number] = call
        connection = link.connection
        call.position = connection.sent + connection.bytes_waiting
        rest = call.rest
        if Written in map(type, rest):
            rest = tuple(things.sent(part) if type(part) is Written else part for part in rest)
        link.send(call.kind, number, *address, call.caller is not None, *rest)
        call.left(self, number)

    def send_or_fail(self, call: FarCall[Any], *address: Any) -> None:
        """Send *call*, which has no other way to go."""
        if self.link.is_gone:
            _returned(call, NotBegun.UNSENT)
        else:
            self.send(call, *address)

    def abort(self, number: int) -> None:
        """No code waits for the response of the call *number* any more, if it is under way."""
        if number in self._under_way:
            self.link.send(Kind.ABORT, number)

    def _answered(self, frame: list[Any]) -> None:
        call = self._under_way.pop(frame[1])
        try:
            value = call.read(self.readers, frame[2])
        except DurableError as error:
            call.fail(error)
        else:
            call.caller = None
            call.rest = ()
            call.resolve(value)
        if call.router is not None:
            call.router.settled(call)

    def _failed(self, frame: list[Any]) -> None:
        call = self._under_way.pop(frame[1])
        call.fail(from_failure(frame[2], call.decoder(self.readers)))
        _settled(call)

    def _who_waits(self, frame: list[Any]) -> None:
        call = self._under_way.get(frame[1])
        if call is not None:
            self._searches.go_on(call, frame[2])

    def _ring(self, frame: list[Any]) -> None:
        self._searches.report(frame[1], frame[2])

    def _stream_is_over(self, number: int) -> None:
        call = self._under_way.pop(number)
        call.caller = None
        call.rest = ()
        call.resolve(None)
        _settled(call)

    def _moved(self, frame: list[Any]) -> None:
        number = frame[1]
        call = self._under_way.pop(number)
        if call.port is not None:
            call.port.has_moved = True
        for part in call.rest:
            self.things.take_back(part)
        call.came_back(self, number)
        _returned(call, NotBegun.MOVED)

    def _lost(self, why: str) -> None:
        under_way, self._under_way = self._under_way, {}
        for call in under_way.values():
            if call.position >= self.link.connection.sent:
                _returned(call, NotBegun.UNSENT)
            else:
                call.fail(unreachable(call, f"{why}; the call may have been carried out"))
                _settled(call)

    def __len__(self) -> int:
        return len(self._under_way)


class Port:
    """The way to one incarnation of an object over one link. It is gone with the link, and when the
    other process does not have the object any more."""

    __slots__ = ("__weakref__", "_calls", "_is_known", "has_moved", "number", "target")

    def __init__(self, calls: Calls, target: Target, number: int) -> None:
        self._calls = calls
        self.target = target
        self.number = number
        self._is_known = False  # to the other side
        # The other process has said that it does not have the object.
        self.has_moved = False

    @property
    def is_gone(self) -> bool:
        return self.has_moved or self._calls.link.is_gone

    def send(self, call: FarCall[Any]) -> None:
        """Send *call* to the object. It is back at once if the port is gone."""
        calls = self._calls
        if self.has_moved or calls.link.is_gone:
            _returned(call, NotBegun.MOVED if self.has_moved else NotBegun.UNSENT)
            return
        if calls.link.connection.bytes_waiting > calls.waiting_bytes_max:
            call.fail(ObjectOverloaded(NOT_READ, object_id=call.target.id_text))
            _settled(call)
            return
        if not self._is_known:
            self._is_known = True
            object_id = self.target.object_id
            calls.link.send(
                Kind.OPEN, self.number, self.target.class_number, object_id.raw, object_id.name
            )
        call.port = self
        calls.send(call, self.number)

    def __del__(self) -> None:
        if self._is_known:
            link = self._calls.link
            if link.loop.is_here():
                link.send(Kind.SHUT, self.number)
            else:  # the last reference was another thread's
                number = self.number
                link.loop.call_soon_threadsafe(lambda: link.send(Kind.SHUT, number))


def say_call(services: Services, call: FarCall[Any], send: Callable[[FarCall[Any]], None]) -> None:
    """Send *call*: one made by code of an object when its turn ends or it waits for another, and
    when what the object has written before is on disk."""
    sender = call.caller
    if sender is None:
        if services.is_open:
            send(call)
        else:
            call.fail(RuntimeClosed())
        return
    if sender.is_section:
        section_awaits(sender, call)
    say(sender, partial(send, call), call)


def _settled(call: FarCall[Any]) -> None:
    if call.router is not None:
        call.router.settled(call)


def _returned(call: FarCall[Any], why: NotBegun) -> None:
    if call.router is not None:
        call.router.returned(call, why)
    else:
        call.fail(unreachable(call, f"{why.value}; the call was not carried out"))


def unreachable(call: FarCall[Any], why: str) -> ObjectUnreachable:
    """The error of a *call* that has no answer."""
    return ObjectUnreachable(
        f"{call.label}() of {call.target.label} has no answer, since its process cannot be "
        f"reached: {why}",
        object_id=call.target.id_text,
    )
