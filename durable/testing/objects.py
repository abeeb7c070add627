"""Access to the objects of a runtime: run code in one, evict it, reset it, delete it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import Any, Literal, TypeVar, overload

import anyio

from durable._border.channel import LocalChannel
from durable._border.ctx import State
from durable._border.durable_object import DurableObject
from durable._border.sockets import sockets_of
from durable._gates.delivery import CURRENT
from durable._model.errors import DurableError, ObjectReset
from durable._model.ids import ObjectId
from durable._object.activation import Activation
from durable._object.invocation import Invocation
from durable._runtime.disks import when_all_answered
from durable._runtime.namespace import Namespace
from durable._runtime.runtime import Runtime
from durable._runtime.stub import Stub

T = TypeVar("T", bound=DurableObject)
R = TypeVar("R")


@overload
async def run_in_object(stub: Stub[T], fn: Callable[[T, State], Awaitable[R]]) -> R: ...
@overload
async def run_in_object(stub: Stub[T], fn: Callable[[T, State], R]) -> R: ...
async def run_in_object(stub: Stub[T], fn: Callable[[T, State], R | Awaitable[R]]) -> R:
    """Run `fn(instance, ctx)` as an invocation of the object, gates and all; returns what it
    returns.

    The result is returned as it is, not copied.
    """
    _check_stub(stub, "run_in_object")
    activation = _reach(stub)

    def body() -> Any:
        assert activation.instance is not None
        return fn(activation.instance, activation.state)

    invocation = Invocation[R](activation, body, copy_context(), "run_in_object", CURRENT.get())
    activation.deliver(invocation)
    return await invocation


async def evict(stub: Stub[Any], websockets: Literal["hibernate", "close"] = "hibernate") -> None:
    """Evict the object, once it is idle; its stubs stay valid.

    Its hibernatable sockets stay open, or are closed with 1001. Raises DurableError if it is not in
    memory, or not idle within 30 s.
    """
    _check_websockets(websockets)
    activation = _live(stub)
    await _evict(activation, websockets)


def _check_websockets(websockets: str) -> None:
    if websockets not in {"hibernate", "close"}:
        raise TypeError('websockets must be "hibernate" or "close"')


async def _evict(activation: Activation, websockets: str) -> None:
    with anyio.move_on_after(30):
        while not activation.phase.is_over:
            if activation.is_idle:
                if websockets == "close":
                    sockets_of(activation).close_all()
                activation.evict()
                return
            await anyio.sleep(0.001)  # not 0, so that `wait_all_tasks_blocked` sees it wait
    if not activation.phase.is_over:
        raise DurableError(
            "Timed out waiting to evict Durable Object: it still has active references."
        )


async def evict_all(
    runtime: Runtime, websockets: Literal["hibernate", "close"] = "hibernate"
) -> None:
    """Evict every object, each once it is idle."""
    _check_websockets(websockets)
    for activation in runtime._directory:
        await _evict(activation, websockets)


async def abort_all(runtime: Runtime) -> None:
    """Reset every live object: their old stubs get ObjectReset."""
    for activation in runtime._directory:
        activation.break_(ObjectReset("Application called abortAllDurableObjects()."))


async def run_alarm(stub: Stub[Any]) -> bool:
    """Ring the object's alarm now, whatever time it is set for; returns False if none is set.

    Returns when the handler has ended and its outcome is stored; an error of the handler is not
    raised here, and is retried as usual. TypeError for a class with timers: `run_timer`.
    """
    _check_stub(stub, "run_alarm")
    if hasattr(stub._entry.cls, "timer"):
        raise TypeError(f"{stub._entry.cls.__name__} has timers; call run_timer(stub, name)")
    return await stub._entry.directory.services.ring_now(_reach(stub), None) is not None


async def run_timer(stub: Stub[Any], name: str) -> bool:
    """Ring the object's timer *name* now, whatever time it is set for; False if there is none.

    As `run_alarm`. A timer with a schedule is set for its next time after the one it was set for.
    """
    _check_stub(stub, "run_timer")
    return await stub._entry.directory.services.ring_now(_reach(stub), name) is not None


async def reset(runtime: Runtime) -> None:
    """Delete every object of every class that the runtime has: live ones are reset, their old stubs
    get ObjectReset; everything stored is deleted, alarms too."""
    for activation in runtime._directory:
        activation.break_(ObjectReset("Application called deleteAllDurableObjects()."))
    # Wait for their batches on the way to the disk, so that the search below finds all of them.
    answered = anyio.Event()
    when_all_answered(runtime._disks, answered.set)
    await answered.wait()
    for namespace in list(runtime._classes):
        async for stored in Namespace(namespace).objects():
            storage = namespace.activation_of(stored.id).storage.storage
            storage.delete_all()
            await storage.sync()


async def list_object_ids(namespace: Namespace[Any]) -> list[ObjectId]:
    """The ids of the objects that have a stored key or an alarm."""
    return [stored.id async for stored in namespace.objects()]


def is_live(stub: Stub[Any]) -> bool:
    """Whether the object is in memory."""
    _check_stub(stub, "is_live")
    return stub._entry.directory.live(stub.id) is not None


def _reach(stub: Stub[Any]) -> Activation:
    """The activation that a call by *stub* would reach; made if there is none."""
    stub._entry.check_open()
    channel = stub._reach()
    if isinstance(channel, LocalChannel):
        return channel.activation
    return stub._entry.activation_of(stub.id)


def _live(stub: Stub[Any]) -> Activation:
    _check_stub(stub, "evict")
    activation = stub._entry.directory.live(stub.id)
    if activation is None:
        raise DurableError("Cannot evict Durable Object: it is not currently running.")
    return activation


def _check_stub(stub: object, used: str) -> None:
    if not isinstance(stub, Stub):
        raise TypeError(f"{used}() can only be used on a Durable Object stub.")
