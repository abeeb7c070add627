"""The line before an input gate: what waits to be let in, in the order of arrival."""

from __future__ import annotations

from collections import deque
from typing import Generic

from attrs import define

from durable._loop.loop import Waker

from .entrant import E


@define(eq=False, slots=True)
class Waiter(Generic[E]):
    """One place in the line: of a new delivery, or of a task whose delivery gave up the gate."""

    delivery: E
    # None while the delivery has no task yet: then letting it in is starting one.
    waker: Waker | None = None
    # It awaits a section that has ended, and stands before all others.
    is_first: bool = False
    is_let_in: bool = False

    def let_in(self) -> None:
        self.is_let_in = True
        # A waker that is done was cancelled this moment; its task will look at `is_let_in`.
        if self.waker is not None:
            self.waker.wake()


class Line(deque[Waiter[E]]):
    """The waiters, in order; code that awaits a section which has ended stands first."""

    __slots__ = ()

    def put_first(self, waiter: Waiter[E]) -> None:
        """Put *waiter* before all that do not wait for the end of a section."""
        self.insert(sum(other.is_first for other in self), waiter)

    def remove_new(self, delivery: E) -> bool:
        """Take *delivery* out, and return True, if it waits here for its first step."""
        for waiter in self:
            if waiter.delivery is delivery and waiter.waker is None:
                self.remove(waiter)
                return True
        return False

    def let_in_tasks_of(self, delivery: E) -> Line[E]:
        """Let in all tasks of *delivery*; returns the line of the others."""
        others = Line[E]()
        for waiter in self:
            if waiter.waker is not None and waiter.delivery.home is delivery:
                waiter.let_in()
            else:
                others.append(waiter)
        return others

    @property
    def oldest_new(self) -> E | None:
        """The delivery that has waited longest for its first step."""
        return next((waiter.delivery for waiter in self if waiter.waker is None), None)
