"""What an operator can do with an object in the memory of this program: look at it, run its alarm,
evict it, reset it.

Rule: looking wakes no object. Only the object's own handlers change what is stored.
"""

from __future__ import annotations

from contextvars import Context
from itertools import islice
from typing import Any

from durable._border.channel import LocalChannel, reached
from durable._border.durable_object import DurableObject
from durable._border.sockets import SocketTable
from durable._engine.shards import NotOwner
from durable._model.errors import DurableError, ObjectAborted, text_of
from durable._model.ids import BASE_SIZE, ObjectId
from durable._object.activation import Activation
from durable._object.invocation import Invocation
from durable._object.services import Services

from .class_table import ClassEntry

# The error if the object is in another process; then nothing was done.
ELSEWHERE = "the object is in another process now"
RESET_BY_OPERATOR = "an operator reset the object"
SOCKETS_MAX = 1_000


def look(entry: ClassEntry[DurableObject], object_id: ObjectId) -> dict[str, Any]:
    """The present state of the object, and its web sockets; it is not woken."""
    services = _check_here(entry, object_id)
    activation = entry.directory.live(object_id)
    sockets = services.find(SocketTable).of_objects.get(object_id.raw)
    return {
        "is_live": activation is not None,
        "open_deliveries": 0 if activation is None else len(activation.open),
        "queued_deliveries": 0 if activation is None else activation.gate.queued,
        "websockets": 0 if sockets is None else len(sockets),
        "sockets": [] if sockets is None else list(islice(sockets.described(), SOCKETS_MAX)),
    }


async def run_alarm(
    entry: ClassEntry[DurableObject], object_id: ObjectId, timer: str | None
) -> dict[str, Any]:
    """Run the alarm now, or the timer of this name; returns whether there was one, and the text of
    its handler's error. A failure is retried as usual."""
    has_timers = hasattr(entry.cls, "timer")
    if has_timers and timer is None:
        raise DurableError(f"{entry.cls.__name__} has timers: say which of them is to run")
    if timer is not None and not has_timers:
        raise DurableError(f"{entry.cls.__name__} has no timers, but an alarm")
    if not has_timers and not hasattr(entry.cls, "alarm"):
        raise DurableError(f"{entry.cls.__name__} has no alarm() handler that could run")
    channel = entry.channel_of(object_id)
    if not isinstance(channel, LocalChannel):
        raise DurableError(f"{ELSEWHERE}; ask that one")
    ringing = await entry.directory.services.ring_now(channel.activation, timer)
    if ringing is None:
        return {"ran": False, "error": None}
    failure = ringing.failure or ringing.error
    why = None if failure is None else f"{type(failure).__name__}: {text_of(failure)}"
    return {"ran": True, "error": why}


async def evict(entry: ClassEntry[DurableObject], object_id: ObjectId) -> None:
    """Evict the object, once what waits in its line has ended; DurableError if it is not in memory,
    or has more to do."""
    _check_here(entry, object_id)
    activation = _live(entry, object_id)
    invocation: Invocation[None] = Invocation(activation, _nothing, Context(), "evict", None)
    activation.deliver(invocation)
    await invocation
    await _next_round(activation.services)  # until then it is not evicted
    activation = reached(invocation)
    if activation.phase.is_over:
        return
    if not activation.is_idle:
        raise DurableError(
            "the object stays in memory: calls are under way, or work of wait_until(), or it reads "
            "open sockets itself"
        )
    activation.evict()


def abort(entry: ClassEntry[DurableObject], object_id: ObjectId) -> None:
    """Reset the object at once, whatever it does: its callers get ObjectAborted. DurableError if it
    is not in memory."""
    _check_here(entry, object_id)
    _live(entry, object_id).break_(ObjectAborted(RESET_BY_OPERATOR))


def _check_here(entry: ClassEntry[DurableObject], object_id: ObjectId) -> Services:
    entry.check_open()
    services = entry.directory.services
    try:
        services.disk_of(object_id.raw[:BASE_SIZE])
    except NotOwner as error:
        raise DurableError(f"{ELSEWHERE}; ask that one") from error
    return services


def _live(entry: ClassEntry[DurableObject], object_id: ObjectId) -> Activation:
    activation = entry.directory.live(object_id)
    if activation is None:
        raise DurableError("the object is not in memory, so there is nothing to do")
    return activation


async def _next_round(services: Services) -> None:
    waker = services.loop.waker()
    services.loop.call_soon(waker.wake)
    await waker


def _nothing() -> None:
    """The event that an eviction waits for."""
