"""Critical sections: code that runs alone in its object, whatever it waits for.

`block_concurrency_while` and `transaction` both run in one. From the call on nothing else is let
in; the code starts when the turn of the call ends; it has a time limit. Sections nest.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import Any, TypeVar

from attrs import define

from durable._loop.timers import Timer, Timers
from durable._model.errors import DurableError, ObjectReset
from durable._model.limits import Limits

from .answers import Answer
from .delivery import CURRENT, Delivery
from .input_gate import InputGate

T = TypeVar("T")

TOO_DEEP = "blockConcurrencyWhile() calls are nested too deeply."
TOO_LONG = (
    "A call to blockConcurrencyWhile() in a Durable Object waited for too long. "
    "The call was canceled and the Durable Object was reset."
)


class _Section(Delivery[T]):
    """A delivery that keeps the gate until it ends."""

    __slots__ = ("on_failed", "timer")

    timer: Timer | None
    on_failed: Callable[[BaseException], None] | None

    def end(self, value: Any, error: BaseException | None) -> Delivery[Any] | None:
        if self.timer is not None:
            self.timer.cancel()
        if error is not None and self.on_failed is not None:
            # Before the gate is left. Whoever awaits the section is code of this object, and is
            # not resumed any more.
            self.on_failed(error)
        return super().end(value, error)


@define(eq=False, slots=True)
class Sections:
    """Starts the critical sections of one object."""

    gate: InputGate[Any]
    timers: Timers
    limits: Limits
    # Resets the object: a section that must not fail has.
    on_failed: Callable[[BaseException], None]

    def run(self, fn: Callable[[], Awaitable[T]], *, resets: bool) -> Answer[T]:
        """Run `fn()` alone, from the end of this turn on.

        With *resets* a throw resets the object; else it passes to whoever awaits the answer. Either
        way the object is reset when *fn* takes more than `limits.critical_section_s_max` seconds.
        Raises DurableError when sections are nested more than `critical_section_depth_max` deep.
        """
        self.gate.check()
        parent = CURRENT.get()
        if parent is not None and parent.gate is not self.gate:
            parent = None
        if _depth(parent) >= self.limits.critical_section_depth_max:
            raise DurableError(TOO_DEEP)
        section: _Section[T] = _Section(self.gate, fn, copy_context(), "critical section", parent)
        section.timer = None
        section.on_failed = self.on_failed if resets else None

        def begin() -> Awaitable[T]:
            section.timer = self.timers.call_later(
                self.limits.critical_section_s_max, self._took_too_long
            )
            return fn()

        section.body = begin
        self.gate.add_section(section)
        return section

    def _took_too_long(self) -> None:
        self.on_failed(ObjectReset(TOO_LONG, overloaded=True))


def _depth(delivery: Delivery[Any] | None) -> int:
    depth = 0
    while delivery is not None:
        depth += delivery.is_section
        delivery = delivery.parent
    return depth
