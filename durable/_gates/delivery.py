"""Deliveries: one event on its way through one object, and the tasks that carry it.

The gate lives where coroutines are resumed. `_drive` stands between the event loop and the author's
coroutine: it passes on what the coroutine yields, and when the loop resumes it, it waits for the
input gate before it sends the value on. So any await of the author's is gated, whatever library it
belongs to. It begins where the first step has ended, which the executor takes. The tasks that a
delivery starts are driven in the same way (`gate_task`).

Code of a broken object gets an exception where it waits, and may clean up (`_clean_up`, `ending`).
What has not ended then is never resumed: it is abandoned as it is, suspended (`abandoned`).
"""

from __future__ import annotations

import asyncio
import logging
import types
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, ContextVar
from typing import Any, TypeVar, cast

import anyio

from durable._loop.sleeping import chain, is_sleeping

from .abandoned import Abandoned, abandon, abandon_unbegun
from .ending import CLEAN_UP_S_MAX, Stopped
from .entrant import CURRENT_ENTRANT, Inside
from .futures import PendingAnswer
from .input_gate import InputGate

log = logging.getLogger("durable")

T = TypeVar("T")

CURRENT: ContextVar[Delivery[Any] | None] = CURRENT_ENTRANT
"""The delivery whose code runs; inherited by the tasks and callbacks that it starts."""


class Delivery(PendingAnswer[T]):
    """One event on its way through one object, and the answer that its sender waits for."""

    __slots__ = (
        "body",
        "context",
        "fanned_out",
        "gate",
        "has_left",
        "is_section",
        "label",
        "parent",
        "size",
        "tasks",
    )

    heir: Delivery[Any] | None = None

    def __init__(
        self,
        gate: InputGate[Any],
        body: Callable[[], Any],
        context: Context,
        label: str,
        parent: Delivery[Any] | None = None,
    ) -> None:
        self._loop = gate.loop
        self._is_done = False
        self._error = None
        self._waiting = None
        self.gate: InputGate[Any] = gate
        # Runs the author's code; what it returns is awaited if that can be.
        self.body: Callable[[], Any] = body
        self.context: Context = context
        self.label: str = label
        # Within the object, the delivery that made this one.
        self.parent: Delivery[Any] | None = parent
        # Bytes that it keeps in memory while it waits in line.
        self.size: int = 0
        self.tasks: int = 0
        # It has, or had in this turn, more tasks than one.
        self.fanned_out: bool = False
        self.is_section: bool = False
        self.has_left: bool = False

    @property
    def home(self) -> Delivery[Any]:
        """Whose the tasks are that it has started: its own, or its heir's once it is over."""
        delivery = self
        while delivery.heir is not None:
            delivery = delivery.heir
        return delivery

    def begin(self) -> Any:
        """Run the author's code up to its first wait."""
        return self.body()

    def end(self, value: Any, error: BaseException | None) -> Delivery[Any] | None:
        """The handler has ended: leave the gate and give the answer. Returns the delivery that is
        let in next, if any."""
        following = self.gate.leave(self)
        if error is not None:
            self.fail(error)
        else:
            self.resolve(value)
        return following

    def fault(self, error: BaseException) -> None:
        """A step of the library that was to bring the delivery on has failed: the object breaks."""
        self.fail(error)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.label}>"


def about_to_wait(delivery: Delivery[Any], coro: Any, trap: Any) -> Inside | None:
    """Record at the gate that *coro* has yielded *trap* to the event loop. Returns what it waits
    for, if that is not on the outside."""
    gate = delivery.gate
    if gate.broken is not None:
        ending, task = gate.ending, gate.loop.own_task()
        if ending is not None and ending.is_to_stop(task):
            ending.interrupt_soon(task)
        return None
    inside = gate.inside
    if inside is not None:
        gate.inside = None
        if inside is Inside.SECTION:
            gate.suspended(delivery)
    else:
        # A bare yield, as asyncio and Trio write it: the task runs again in the next round.
        is_bare = trap is None or isinstance(trap, type)
        gate.suspended(delivery, is_bare=is_bare and not is_sleeping(coro))
    return inside


def _drive(
    delivery: Delivery[Any],
    coro: Coroutine[Any, Any, T],
    send: Callable[[Any], Any],
    throw: Callable[[BaseException], Any],
    value: Any = None,
    error: BaseException | None = None,
    *,
    inside: Inside | None = None,
    is_let_in: bool = False,
) -> Generator[Any, Any, T]:
    """Run *coro* on, which gets *value* or *error* for what it has waited for, *inside* perhaps.

    Each of its resumptions is held back until the gate lets it on; the first one is not if it
    *is_let_in*.
    """
    gate = delivery.gate
    while True:
        if not is_let_in:
            if delivery.heir is not None:
                delivery = delivery.home  # the section that started this task is over
            if gate.broken is None and not gate.resume_nowait(delivery, inside is not None):
                error = yield from _wait_turn(delivery, error, inside)
                delivery = delivery.home
            if gate.broken is not None:
                value, error = yield from _clean_up(delivery, coro, value, error)
        is_let_in = False
        try:
            if error is None:
                trap = send(value)
            else:
                thrown, error = error, None
                trap = throw(thrown)
                del thrown
        except StopIteration as stop:
            result: T = stop.value
            return result
        inside = about_to_wait(delivery, coro, trap)
        try:
            value = yield trap
        except GeneratorExit:
            close(delivery, coro)
            raise
        except BaseException as raised:
            error = raised


def close(delivery: Delivery[Any], coro: Coroutine[Any, Any, Any]) -> None:
    """The loop is gone, and will not go on with *coro*."""
    if delivery.gate.broken is None:
        coro.close()
    else:
        abandon(coro, delivery.gate.loop)


def _clean_up(
    delivery: Delivery[Any], coro: Coroutine[Any, Any, Any], value: Any, error: BaseException | None
) -> Generator[Any, Any, tuple[Any, BaseException | None]]:
    """Stop the code of a broken object, which has waited; it may clean up.

    Returns what to send into *coro*, or else to throw. Raises Abandoned when its time is over.
    """
    loop, ending = delivery.gate.loop, delivery.gate.ending
    task = loop.own_task()
    loop.was_woken(task)
    if ending is None or ending.is_over:
        _log_abandoned(delivery, coro)
        abandon(coro, loop)
        yield from loop.leave_scopes().__await__()
        raise Abandoned
    if ending.is_to_stop(task) and (error is not None or loop.may_stop_at(coro)):
        ending.mark_stopped(task)
        stopped = Stopped(ending.reason)
        if not isinstance(error, Stopped):
            stopped.__context__ = error
        error = stopped
        del stopped
    return value, error


def _log_abandoned(delivery: Delivery[Any], coro: Any) -> None:
    ending = delivery.gate.ending
    where = [f"{code.co_qualname}()" for code, _ in chain(coro)]
    log.warning(
        "code of %s had not ended %g s after the reset, and will never go on: %s waits in %s; let "
        "what is cancelled end",
        "an evicted object" if ending is None else ending.label,
        CLEAN_UP_S_MAX,
        delivery.label,
        " > ".join(where) or "code that cannot be looked into",
    )


drive = types.coroutine(_drive)


def _wait_turn(
    delivery: Delivery[Any], error: BaseException | None, inside: Inside | None = None
) -> Generator[Any, Any, BaseException | None]:
    """Wait in line; returns the error to throw into the handler when it goes on, if any.

    A cancellation does not end this wait: it is kept, and meets the handler where it waited.
    """
    gate = delivery.gate
    waker = gate.loop.waker(shield=True)
    waiter = gate.queue_resumption(delivery, waker, is_first=inside is Inside.SECTION)
    goes_on = None if gate.on_wait is None else gate.on_wait(delivery)
    shield: anyio.CancelScope | None = None
    try:
        while True:
            if waiter.is_let_in:
                if gate.broken is not None or gate.resume_nowait(delivery.home, inside is not None):
                    break
                # Let in with another task of its delivery, which has ended the turn before it.
                waker = gate.loop.waker(shield=True)
                waiter = gate.queue_resumption(delivery.home, waker)
            assert waiter.waker is not None
            try:
                yield from waiter.waker.__await__()
            except asyncio.CancelledError as cancelled:
                cancelled.__context__ = error
                error = cancelled
                waiter.waker = gate.loop.waker(shield=True)
                if shield is None:
                    # This wait is spliced into a handler that may be inside an expired scope of its
                    # own, and anyio goes on to cancel whatever waits there, round after round.
                    shield = anyio.CancelScope(shield=True)
                    shield.__enter__()
    finally:
        if shield is not None:
            shield.__exit__(None, None, None)
        if goes_on is not None:
            goes_on()
    return error


def _go_in(
    delivery: Delivery[Any], coro: Coroutine[Any, Any, T], error: BaseException | None
) -> Generator[Any, Any, T]:
    return _drive(delivery, coro, coro.send, coro.throw, None, error, is_let_in=True)


def gate_task(coro: Coroutine[Any, Any, Any]) -> Coroutine[Any, Any, Any]:
    """The coroutine for a task that starts now: a gated one if an object's code starts it."""
    delivery = CURRENT.get()
    if delivery is None:
        return coro
    return cast("Coroutine[Any, Any, Any]", _GatedTask(delivery, coro))


class _GatedTask:
    """The coroutine of a task that a delivery started.

    A coroutine by its methods, not by its base. They are those of a generator that stands at its
    first `yield` already: so a task that is cancelled before its first step throws into the
    author's coroutine, as it would without us.
    """

    __slots__ = ("_coro", "_steps", "close", "send", "throw")

    def __init__(self, delivery: Delivery[Any], coro: Coroutine[Any, Any, Any]) -> None:
        self._coro = coro
        gate = delivery.gate
        # Of what the clean-up of a broken object starts; what it had started before does not begin.
        is_clean_up = gate.broken is not None
        depth = gate.depth_of(gate.loop.own_task()) + 1
        self._steps = _drive_task(delivery, coro, depth, is_clean_up)
        next(self._steps)
        self.send = self._steps.send
        self.throw = self._steps.throw
        self.close = self._steps.close
        delivery.gate.child_started(delivery.home)

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._steps

    def __getattr__(self, name: str) -> Any:
        # Names, frames and flags, for debuggers.
        return getattr(self._coro, name)


def _drive_task(
    delivery: Delivery[Any], coro: Coroutine[Any, Any, Any], depth: int, is_clean_up: bool
) -> Generator[Any, Any, Any]:
    gate = delivery.gate
    error: BaseException | None = None
    try:
        yield
    except GeneratorExit:
        coro.close()
        raise
    except BaseException as raised:
        error = raised
    task = gate.loop.own_task()
    delivery = delivery.home
    gate.task_begins(task, delivery, depth)
    delivery.tasks += 1
    gate.child_started(delivery)
    try:
        if is_clean_up and gate.ending is not None and not gate.ending.is_over:
            gate.ending.mark_stopped(task)
            _, error = yield from _clean_up(delivery, coro, None, error)
            return (yield from _go_in(delivery, coro, error))
        if gate.broken is None and not gate.enter_nowait(delivery):
            error = yield from _wait_turn(delivery, error)
        if gate.broken is not None:
            abandon_unbegun(coro)
            raise Abandoned
        return (yield from _go_in(delivery.home, coro, error))
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException:
        if gate.broken is None:
            raise
        gate.loop.end_quietly()
    finally:
        delivery = delivery.home
        delivery.tasks -= 1
        gate.task_ends(task)
        gate.child_ended(delivery)
