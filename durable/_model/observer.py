"""The events that an observer is called with, as frozen values.

An observer is a callable that takes one event: `observer=print` is one. It is one function and not
a method for each event because then a new kind of event breaks no observer, two observers are a
loop, and to be choosy is a `match`.

Rule: an event is made after the thing has happened, on the thread of the runtime's loop, and says
nothing that changes later. What an observer raises is logged and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum

from attrs import frozen


class Outcome(StrEnum):
    """How a delivery ended. A str, so that it can be a label as it is."""

    OK = "ok"
    ERROR = "error"  # the object's own code raised
    RESET = "reset"  # the object broke while the delivery was under way, or before it came
    OVERLOADED = "overloaded"  # the object's queue was full
    REFUSED = "refused"  # it could not be let in for another reason, a deadlock for instance


@frozen(kw_only=True)
class ObjectEvent:
    """Something about one object."""

    class_name: str
    object_id: str  # 64 hex digits
    name: str | None  # what it was ever addressed by

    @property
    def label(self) -> str:
        """The object as logs call it."""
        return f"{self.class_name}({self.object_id if self.name is None else repr(self.name)})"


@frozen(kw_only=True)
class DeliveryCame(ObjectEvent):
    """A delivery has reached its object, and waits for its turn. The observer is called in the
    delivery's own `contextvars` context: what it sets there, the handler finds, and so do the
    objects that it calls."""

    number: int  # the same in the DeliveryEnded; no two deliveries of a runtime share one
    kind: str  # "fetch", "rpc", "alarm", "timer", or the name of a websocket handler
    method: str  # the name of the method or handler
    caller: str | None  # the id of the object whose code made the call


@frozen(kw_only=True)
class DeliveryEnded(ObjectEvent):
    """A delivery has its answer, and the answer was let out."""

    number: int
    kind: str
    method: str
    caller: str | None
    queued_s: float  # from its coming to the first step of the handler: start-up, others' turns
    gate_wait_s: float  # its code could go on, and waited for the input gate; summed over tasks
    duration_s: float  # from the first step of the handler to its end; queue and commit left out
    commit_wait_s: float  # from the handler's end until what its answer rests on was on disk
    outcome: Outcome
    error: str | None = None  # the type and the text of what the caller got


@frozen(kw_only=True)
class CommitEnded:
    """A group of batches is on the disk, or could not be put there."""

    batches: int
    size: int  # bytes of keys and values
    fsync_s: float  # of the whole transaction, nearly all of which is waiting for the disk
    error: str | None = None


@frozen(kw_only=True)
class AlarmRang(ObjectEvent):
    """The handler of an alarm or a timer begins."""

    scheduled_time: datetime
    late_s: float  # after the time that it was to ring at
    retry_count: int
    timer: str | None = None  # its name; None for the object's alarm


@frozen(kw_only=True)
class ObjectWoken(ObjectEvent):
    """An instance was built."""

    duration_s: float  # of the constructor


@frozen(kw_only=True)
class ObjectEvicted(ObjectEvent):
    """An idle object was forgotten; nothing but memory is lost."""


@frozen(kw_only=True)
class ObjectBroken(ObjectEvent):
    """An object was reset or aborted."""

    error: str  # the type of the reason
    reason: str


@frozen(kw_only=True)
class Overloaded(ObjectEvent):
    """A call was refused because the object's queue is full."""

    method: str
    queued: int
    reason: str


@frozen(kw_only=True)
class TurnTookLong(ObjectEvent):
    """Code of an object kept the event loop from all other tasks for longer than
    `SLOW_TURN_S_MIN`."""

    method: str
    duration_s: float


@frozen(kw_only=True)
class QueryEnded(ObjectEvent):
    """A call of `ctx.storage.sql.exec` has ended: one that writes as it returns, one that reads
    with the last row that was read from its cursor. The values of its parameters are left out."""

    query: str  # up to QUERY_SIZE_MAX characters of it
    rows_read: int  # rows that it has given
    rows_written: int  # rows inserted, changed and deleted
    duration_s: float  # real time within SQLite; nothing else of the program ran meanwhile
    error: str | None = None  # the type and the text of what it raised


Event = (
    DeliveryCame
    | DeliveryEnded
    | CommitEnded
    | AlarmRang
    | ObjectWoken
    | ObjectEvicted
    | ObjectBroken
    | Overloaded
    | TurnTookLong
    | QueryEnded
)
"""All events that an observer is called with."""

Observer = Callable[[Event], object]
"""Give one as `observer=` to `durable.open`."""

QUERY_SIZE_MAX = 1_000
"""Of a query that is longer a QueryEnded has so many characters, and `…` behind them."""

SLOW_TURN_S_MIN = 0.1
"""A turn that computes for longer is reported as TurnTookLong: no other task ran meanwhile."""
