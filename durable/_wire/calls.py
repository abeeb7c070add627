"""Calls of objects of another process, on the caller's side.

A call is also its answer, as in one process. It is a frame that is written when it may leave, and
waits in a table for the frame that ends it: no task is made for it.

Rule: a call has one of four ends, which its router is told. It is answered, with a value or an
error. It has *moved*: the other process does not have the object, and nothing has begun. It was
*unsent* when the link was lost, so that nothing has begun. It was *lost*: it may have begun.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Iterator
from typing import Any, Protocol, TypeVar

from attrs import frozen

from durable._gates.delivery import CURRENT, Delivery
from durable._gates.futures import PendingAnswer
from durable._gates.saying import let_go
from durable._loop.loop import Loop, Waker
from durable._model.errors import DurableError, ObjectUnreachable
from durable._model.ids import ObjectId

from .crossing import Crossing
from .failures import from_failure
from .frames import Kind
from .link import Link

T = TypeVar("T")


@frozen
class Target:
    """The object that a call is for."""

    class_number: int
    object_id: ObjectId
    cls: type

    @property
    def label(self) -> str:
        return f"{self.cls.__name__}({self.object_id.name or self.object_id})"


class NotBegun(enum.Enum):
    """Why a call is back, of which nothing has begun."""

    MOVED = "the process does not have the object"
    UNSENT = "the process was gone before the call left"


class Router(Protocol):
    """Decides which way calls go, and is told what becomes of them."""

    def settled(self, call: FarCall[Any]) -> None:
        """*call* is answered or lost, and its caller knows."""

    def returned(self, call: FarCall[Any], why: NotBegun) -> None:
        """*call* is back, in the order in which calls were sent. It may be sent again."""


class FarCall(PendingAnswer[T]):
    """A call of an object of another process, and its answer."""

    __slots__ = ("caller", "kind", "label", "port", "position", "rest", "router", "target")

    def __init__(
        self,
        loop: Loop,
        target: Target,
        kind: Kind,
        label: str,
        rest: tuple[Any, ...],
        caller: Delivery[Any] | None,
    ) -> None:
        super().__init__(loop)
        self.target = target
        self.kind = kind
        self.label = label
        # The fields of its frame after those that all have.
        self.rest = rest
        # The delivery whose code made the call.
        self.caller = caller
        self.router: Router | None = None
        # By which it was sent last.
        self.port: Port | None = None
        # Of the bytes that its link has to send, those before it.
        self.position = 0

    def _add(self, waker: Waker) -> None:
        if self.caller is not None:
            let_go(CURRENT.get())  # this call, among others
            if self._is_done:  # where tasks are eager
                waker.set_result(None)
                return
        super()._add(waker)

    def awaited(self) -> Iterator[tuple[Delivery[Any], PendingAnswer[Any]]]:
        """What code of an object may await of it, and which code does."""
        if self.caller is not None:
            yield self.caller, self

    def answered(self, value: T) -> None:
        """The value has come."""
        self.caller = None
        self.resolve(value)

    def fail(self, error: BaseException) -> None:
        self.caller = None
        super().fail(error)


class Calls:
    """The calls that wait for an answer over one link."""

    def __init__(self, link: Link, crossing: Crossing) -> None:
        self.link = link
        self.crossing = crossing
        self._under_way: dict[int, FarCall[Any]] = {}
        self._numbers = itertools.count(1)
        self._ports = itertools.count(1)
        link.on[Kind.ANSWER] = self._answered
        link.on[Kind.FAIL] = self._failed
        link.on[Kind.MOVED] = self._moved
        link.on_gone.append(self._lost)

    def port(self, target: Target) -> Port:
        """A way to the incarnation of *target* that is the first to be called by it."""
        return Port(self, target, next(self._ports))

    def send(self, call: FarCall[Any], *address: Any) -> int:
        """Send *call*; *address* says where it goes. Returns its number."""
        link = self.link
        number = next(self._numbers)
        self._under_way[number] = call
        connection = link.connection
        call.position = connection.sent + connection.bytes_waiting
        link.send(call.kind, number, *address, call.caller is not None, *call.rest)
        return number

    def _take(self, number: int) -> FarCall[Any]:
        return self._under_way.pop(number)

    def _answered(self, frame: list[Any]) -> None:
        call = self._take(frame[1])
        try:
            value = self.crossing.reader_of(call.target.class_number).decode(frame[2])
        except DurableError as error:
            call.fail(error)
        else:
            call.answered(value)
        _settled(call)

    def _failed(self, frame: list[Any]) -> None:
        call = self._take(frame[1])
        reader = self.crossing.reader_of(call.target.class_number)
        call.fail(from_failure(frame[2], reader.decode))
        _settled(call)

    def _moved(self, frame: list[Any]) -> None:
        call = self._take(frame[1])
        if call.port is not None:
            call.port.has_moved = True
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
        if self.is_gone:
            _returned(call, NotBegun.MOVED if self.has_moved else NotBegun.UNSENT)
            return
        if not self._is_known:
            self._is_known = True
            object_id = self.target.object_id
            self._calls.link.send(
                Kind.OPEN, self.number, self.target.class_number, object_id.raw, object_id.name
            )
        call.port = self
        self._calls.send(call, self.number)

    def __del__(self) -> None:
        if self._is_known:
            link = self._calls.link
            if link.loop.is_here():
                link.send(Kind.SHUT, self.number)
            else:  # the last reference was another thread's
                number = self.number
                link.loop.call_soon_threadsafe(lambda: link.send(Kind.SHUT, number))


def _settled(call: FarCall[Any]) -> None:
    if call.router is not None:
        call.router.settled(call)


def _returned(call: FarCall[Any], why: NotBegun) -> None:
    if call.router is not None:
        call.router.returned(call, why)
    else:
        call.fail(unreachable(call, f"{why.value}; the call was not carried out"))


def unreachable(call: FarCall[Any], why: str) -> ObjectUnreachable:
    """Why *call* has no answer."""
    return ObjectUnreachable(
        f"{call.label}() of {call.target.label} has no answer, since its process cannot be "
        f"reached: {why}",
        object_id=str(call.target.object_id),
    )
