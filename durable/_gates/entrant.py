"""Who passes an input gate, as the gate sees it: deliveries, and their tasks that wait in line."""

from __future__ import annotations

import enum
from collections.abc import Iterable, MutableMapping, Sequence
from contextvars import ContextVar
from typing import Any, Generic, Protocol, Self, TypeVar

from attrs import define

from durable._loop.loop import Waker


class Inside(enum.Enum):
    """What a task waits for that is not on the outside."""

    # The storage, which holds the gate meanwhile.
    STORAGE = "storage"
    # A critical section, which is to have the gate.
    SECTION = "section"


class Entrant(Protocol):
    """What the gate needs to know of a delivery. It alone writes `fanned_out`, `is_section`,
    `has_left` and `heir`; whoever runs the delivery counts its tasks."""

    # Bytes that it keeps in memory while it waits in line.
    size: int
    # Tasks that run its code now.
    tasks: int
    # It has, or had in this turn, more tasks than one.
    fanned_out: bool
    is_section: bool
    has_left: bool
    # Of a section that has ended: whose the tasks are that it has left running.
    heir: Self | None

    @property
    def home(self) -> Self:
        """Whose its tasks are: its own, or those of its heir."""

    @property
    def gate(self) -> object: ...
    @property
    def parent(self) -> Self | None:
        """Within the object, the delivery that made this one."""


E = TypeVar("E", bound=Entrant)

CURRENT_ENTRANT: ContextVar[Any] = ContextVar("durable_delivery", default=None)
"""The delivery whose code runs: `delivery.CURRENT`."""


@define(eq=False, slots=True)
class Waiter(Generic[E]):
    """One who waits to be let in: a new delivery, or a task of one that had given up the gate."""

    delivery: E
    # None while the delivery has no task yet: then letting it in is starting one.
    waker: Waker | None = None
    # It awaits a section that has ended, and stands before all others.
    is_first: bool = False
    is_let_in: bool = False

    def let_in(self) -> None:
        self.is_let_in = True
        # A waker that is done was cancelled this moment; its task will look at `is_let_in`.
        if self.waker is not None and not self.waker.done():
            self.waker.set_result(None)


def new_one(waiters: Iterable[Waiter[E]], delivery: E) -> Waiter[E] | None:
    """Of *waiters* the one of *delivery* that waits for its first step."""
    return next((w for w in waiters if w.delivery is delivery and w.waker is None), None)


def next_section(pending: Iterable[E], running: Sequence[E]) -> E | None:
    """The section of *pending* to start: the oldest, or the oldest that the innermost of those that
    run has started."""
    for section in pending:
        outer = section.parent
        while running and outer is not None and outer is not running[-1]:
            outer = outer.parent
        if not running or outer is not None:
            return section
    return None


def bequeath(section: E, running: MutableMapping[Any, E]) -> None:
    """Make those of the *running* tasks that *section* has left its heir's."""
    heir = section.parent
    if heir is None or heir.gate is not section.gate:
        return
    heir = section.heir = heir.home
    heir.tasks += section.tasks
    section.tasks = 0
    for task in [task for task, delivery in running.items() if delivery is section]:
        running[task] = heir
