"""What passes an input gate, as the gate sees it: a delivery."""

from __future__ import annotations

import enum
from contextvars import ContextVar
from typing import Any, Protocol, Self, TypeVar


class Inside(enum.Enum):
    """What a task waits for that is not on the outside."""

    # The storage, which holds the gate meanwhile.
    STORAGE = "storage"
    # A critical section, which is to have the gate.
    SECTION = "section"


class Entrant(Protocol):
    """What the gate needs to know of a delivery. It alone writes `fanned_out`, `is_section`,
    `has_left` and `heir`; the code that runs the delivery counts its tasks."""

    # Bytes that it keeps in memory while it waits in line.
    size: int
    # Tasks that run its code now.
    tasks: int
    # It has, or had in this turn, more tasks than one.
    fanned_out: bool
    is_section: bool
    has_left: bool
    # Of a section that has ended: the delivery that its remaining tasks belong to.
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
