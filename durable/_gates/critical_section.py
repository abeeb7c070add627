"""Critical sections: code that runs alone in its object, whatever it waits for.

`block_concurrency_while` and `transaction` both run in one. From the call on nothing else is let
in; the code starts when the turn of the call ends; it has a time limit. Sections nest. The code
that awaits one goes on before anything else that waits.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextvars import Context, copy_context
from typing import Any, TypeVar

from attrs import define

from durable._loop.loop import Waker
from durable._loop.timers import Timer, Timers
from durable._model.errors import DurableError, ObjectReset, WrongLoop
from durable._model.limits import Limits

from .delivery import CURRENT, Delivery
from .entrant import Inside
from .futures import Answer
from .input_gate import InputGate

T = TypeVar("T")

TOO_DEEP = "blockConcurrencyWhile() calls are nested too deeply."
TOO_LONG = (
    "A call to blockConcurrencyWhile() in a Durable Object waited for too long. "
    "The call was canceled and the Durable Object was reset."
)


@define(eq=False, slots=True)
class _Awaiter:
    """A task that awaits a section."""

    waker: Waker
    # The delivery whose code awaits; None if it is no code of the object.
    delivery: Delivery[Any] | None
    # The section has ended, and the gate is held until this task has taken its step.
    holds: bool = False


class Section(Delivery[T]):
    """A delivery that keeps the gate until its function has ended."""

    __slots__ = ("_awaiters", "heir", "resets", "timer")

    def __init__(
        self,
        gate: InputGate[Any],
        body: Callable[[], Any],
        context: Context,
        parent: Delivery[Any] | None,
        *,
        resets: bool = False,
    ) -> None:
        super().__init__(gate, body, context, "critical section", parent)
        self._awaiters: list[_Awaiter] = []
        self.heir: Delivery[Any] | None = None
        self.timer: Timer | None = None
        # Whether an exception of the function resets the object.
        self.resets = resets

    def __await__(self) -> Generator[Any, Any, T]:
        if not self._is_done:
            delivery = CURRENT.get()
            if delivery is not None and delivery.gate is not self.gate:
                delivery = None
            awaiter = _Awaiter(self._loop.waker(), delivery)
            self._awaiters.append(awaiter)
            self._add(awaiter.waker)
            if delivery is not None:
                self.gate.inside = Inside.SECTION
            try:
                yield from awaiter.waker.__await__()
            except BaseException as error:
                self._drop(awaiter.waker)
                if self._is_of_other_loop(error):
                    raise WrongLoop("the answer") from None
                raise
            finally:
                self._awaiters.remove(awaiter)
                if awaiter.holds:
                    self.gate.release()
        return (yield from super().__await__())

    def end(self, value: Any, error: BaseException | None) -> Delivery[Any] | None:
        if self.timer is not None:
            self.timer.cancel()
        if error is not None and self.resets:
            # Before the gate is left. What awaits the section is code of this object, which does
            # not go on any more.
            self.gate.owner.fail(error)
        following = self._leave()
        if error is not None:
            self.fail(error)
        else:
            self.resolve(value)
        return following

    def _leave(self) -> Delivery[Any] | None:
        """Leave the gate to the code that awaits this section, if any does."""
        gate = self.gate
        # One that was cancelled this moment goes on with that, and not with what it has awaited.
        awaiters = [a for a in self._awaiters if a.delivery is not None and not a.waker.done()]
        first = awaiters[0].delivery if awaiters else None
        following: Delivery[Any] | None = gate.leave(self, first)
        if first is not None and gate.holder is first.home and gate.broken is None:
            for awaiter in awaiters:
                if awaiter.delivery is not None and awaiter.delivery.home is gate.holder:
                    awaiter.holds = True
                    gate.hold()
        return following

    @property
    def is_awaited(self) -> bool:
        return not self.resets and super().is_awaited

    def fault(self, error: BaseException) -> None:
        self.gate.owner.fail(error)


@define(eq=False, slots=True)
class Sections:
    """Starts the critical sections of one object."""

    gate: InputGate[Any]
    timers: Timers
    limits: Limits

    def run(self, fn: Callable[[], Awaitable[T]], *, resets: bool) -> Answer[T]:
        """Run `fn()` alone, from the end of this turn on.

        With *resets* what *fn* raises resets the object; else it is raised where the answer is
        awaited. Either way the object is reset when *fn* takes more than
        `limits.critical_section_s_max` seconds.
        Raises DurableError when sections are nested more than `critical_section_depth_max` deep.
        """
        self.gate.check_loop()
        parent = CURRENT.get()
        parent = None if parent is None or parent.gate is not self.gate else parent.home
        if _depth(parent) >= self.limits.critical_section_depth_max:
            raise DurableError(TOO_DEEP)
        section: Section[T] = Section(self.gate, fn, copy_context(), parent, resets=resets)

        def begin() -> Awaitable[T]:
            section.timer = self.timers.call_later(
                self.limits.critical_section_s_max, self._took_too_long
            )
            return fn()

        section.body = begin
        self.gate.add_section(section)
        return section

    def _took_too_long(self) -> None:
        self.gate.owner.fail(ObjectReset(TOO_LONG, overloaded=True))


def _depth(delivery: Delivery[Any] | None) -> int:
    depth = 0
    while delivery is not None:
        depth += delivery.is_section
        delivery = delivery.parent
    return depth
