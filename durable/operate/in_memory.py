"""Objects in the memory of the program that has the store: looked at without waking them, their
alarms run now, evicted, reset.

The program must have opened the store with `operate=True`, and carries out each order itself.
Raises NotRunning if no program has the store, Refused with the reason if the program refuses.
"""

from __future__ import annotations

import os
from typing import Any

from attrs import frozen

from durable._runtime.orders import Order

from .changing import order_of, result_of, send_order
from .unowned import Where
from .watching import NotRunning


@frozen
class Socket:
    """A web socket that an object has accepted."""

    tags: tuple[str, ...]
    hibernates: bool  # else the object reads it itself, and stays in memory
    unread: int  # messages that wait for the object


@frozen
class InMemory:
    """The present state of an object."""

    is_live: bool  # whether it is in memory
    open_deliveries: int
    queued_deliveries: int
    websockets: int
    sockets: tuple[Socket, ...]  # the first 1,000


@frozen
class Rung:
    """The outcome of running an alarm."""

    ran: bool  # False: there was none
    error: str | None  # what its handler raised; then it is retried


def in_memory(store: Where, cls: str, name_or_id: str) -> InMemory:
    """The present state of the object, and its web sockets; it is not woken."""
    return seen(_done(store, look_order(cls, name_or_id)))


def run_alarm(store: Where, cls: str, name_or_id: str, timer: str | None = None) -> Rung:
    """Run the alarm of the object now, or its timer of this name, whatever time it is set for.

    Returns when the handler has ended, and its outcome is stored."""
    return Rung(**_done(store, alarm_order(cls, name_or_id, timer)))


def evict(store: Where, cls: str, name_or_id: str) -> None:
    """Evict the object, once what waits in its line has ended. Refused if it has more to do."""
    _done(store, evict_order(cls, name_or_id))


def abort(store: Where, cls: str, name_or_id: str) -> None:
    """Reset the object at once, whatever it does: what it has not committed is gone, and its
    callers get ObjectAborted."""
    _done(store, abort_order(cls, name_or_id))


def look_order(cls: str, name_or_id: str) -> Order:
    """The order of `in_memory`, for `obey`; its result is for `seen`."""
    return order_of("look", cls, name_or_id)


def alarm_order(cls: str, name_or_id: str, timer: str | None) -> Order:
    """The order of `run_alarm`, for `obey`."""
    return order_of("alarm", cls, name_or_id, timer=timer)


def evict_order(cls: str, name_or_id: str) -> Order:
    """The order of `evict`, for `obey`."""
    return order_of("evict", cls, name_or_id)


def abort_order(cls: str, name_or_id: str) -> Order:
    """The order of `abort`, for `obey`."""
    return order_of("abort", cls, name_or_id)


def seen(result: Any) -> InMemory:
    """The state in the result of a `look_order`."""
    sockets = tuple(Socket(**{**each, "tags": tuple(each["tags"])}) for each in result["sockets"])
    return InMemory(**{**result, "sockets": sockets})


def _done(store: Where, order: Order) -> Any:
    reply = send_order(store, order)
    if reply is None:
        raise NotRunning(
            f"no program that takes orders has the store {os.fspath(store)!r} open; it must have "
            f"opened it with durable.open(..., operate=True), or run with DURABLE_OPERATE=1, as "
            f"this user"
        )
    return result_of(reply)
