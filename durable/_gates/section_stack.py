"""The critical sections of one object: a stack of those that run, and those that are to start."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, Generic

from attrs import define, field

from .entrant import E


@define(eq=False, slots=True)
class SectionStack(Generic[E]):
    """The sections of one object; its gate has no stack while there are none."""

    # Innermost last.
    running: list[E] = field(factory=list)
    # In the order in which they were made.
    pending: list[E] = field(factory=list)

    @property
    def next(self) -> E | None:
        """The section to start: the oldest, or the oldest that the innermost of those that run has
        started."""
        running = self.running
        for section in self.pending:
            outer = section.parent
            while running and outer is not None and outer is not running[-1]:
                outer = outer.parent
            if not running or outer is not None:
                return section
        return None

    def start_next(self) -> E | None:
        """The section to start, which runs from now on."""
        section = self.next
        if section is not None:
            self.pending.remove(section)
            self.running.append(section)
        return section

    def remove(self, section: E) -> bool:
        """*section* has ended; returns whether it was the innermost."""
        was_innermost = self.running[-1] is section
        self.running.remove(section)
        return was_innermost


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
