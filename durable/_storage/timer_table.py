"""The timers of one object: side records by name, and the one alarm that stands for the first.

Rule: whenever the timers change, the alarm is set to the first due time, in the same batch. So the
store's index of alarms knows when the object has to be woken, and nothing else of its timers.

A timer that rings stays as it is stored until its handler has ended: so one whose process was
killed rings again. Meanwhile its object does not see it, or sees when it rings next.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from typing import Final

from attrs import define, evolve, field

from durable._engine.batch import Alarm
from durable._engine.stored_timer import (
    PAST_TIMERS,
    TIMERS,
    StoredTimer,
    read_timer,
    write_timer,
)
from durable._engine.view import Malformed
from durable._model.errors import StoreDamaged

from .side_records import SideRecords
from .write_buffer import WriteBuffer

# More than an object can have, whatever its limit was when they were set.
TIMERS_READ_MAX: Final = 1 << 30


@define(eq=False, slots=True)
class TimerTable:
    """What is kept of the timers, decoded and in order. Nothing here suspends."""

    _sides: SideRecords
    _buffer: WriteBuffer
    _timers: dict[str, StoredTimer] = field(factory=dict, init=False)
    _order: list[tuple[int, str]] = field(factory=list, init=False)
    # What had been undone when the two above were read; -1: they were not.
    _undone: int = field(default=-1, init=False)

    # Asking

    def stored(self, name: str) -> StoredTimer | None:
        """The timer as it is kept, whether or not its handler runs."""
        self._refresh()
        return self._timers.get(name)

    def seen(self, name: str) -> StoredTimer | None:
        """The timer as its object sees it."""
        timer = self.stored(name)
        return None if timer is None else self._as_seen(timer)

    def all_seen(self) -> list[StoredTimer]:
        """Those that the object sees, the first to ring first."""
        self._refresh()
        seen = [each for timer in self._timers.values() if (each := self._as_seen(timer))]
        return sorted(seen, key=lambda timer: (timer.due_us, timer.name))

    def _as_seen(self, timer: StoredTimer) -> StoredTimer | None:
        if not self.is_running(timer.name):
            return timer
        next_us = self._buffer.timers_run[timer.name]
        return None if next_us is None else _rung(timer, next_us)

    def is_running(self, name: str) -> bool:
        """Whether the handler runs for this very timer: it was not set or deleted since."""
        return name in self._buffer.timers_run

    def due(self, now_us: int) -> Iterator[StoredTimer]:
        """Those that are due, the oldest first, those that ring included."""
        self._refresh()
        for due_us, name in list(self._order):
            if due_us > now_us:
                return
            yield self._timers[name]

    def next_us(self, now_us: int) -> int | None:
        """When the first that is not due yet will be."""
        self._refresh()
        place = bisect_right(self._order, (now_us + 1,))
        return self._order[place][0] if place < len(self._order) else None

    def __len__(self) -> int:
        self._refresh()
        return len(self._timers)

    # Changing

    def put(self, timer: StoredTimer) -> None:
        """Keep *timer*, in place of the one of its name."""
        self._refresh()
        self._change(timer.name, timer)

    def remove(self, name: str) -> None:
        """Keep no timer of this name."""
        if self.stored(name) is not None:
            self._change(name, None)

    def forget_running(self, name: str) -> None:
        """What rings is not the object's timer any more: it was set anew, or deleted."""
        running = self._buffer.timers_run
        if name in running:
            self._buffer.timers_run = {
                other: next_us for other, next_us in running.items() if other != name
            }

    def begin(self, name: str, next_us: int | None) -> None:
        """The handler of a timer starts, which rings next at *next_us*, or not again."""
        self._buffer.timers_run = {**self._buffer.timers_run, name: next_us}

    def end(self, name: str, next_us: int | None, retry: StoredTimer | None) -> bool:
        """The handler has ended, in the turn under way: the timer is set for the next time, or
        deleted; or it is set as *retry* says. Returns whether it still was the object's."""
        if not self.is_running(name):
            return False
        self.forget_running(name)
        timer = self._timers[name]
        if retry is not None:
            self.put(evolve(retry, payload=timer.payload))
        elif next_us is not None:
            self.put(_rung(timer, next_us))
        else:
            self._change(name, None)
        return True

    def amend(self, expected: StoredTimer, timer: StoredTimer | None) -> None:
        """Keep *timer* in place of *expected*, outside of any turn; not if it is another one."""
        if self.stored(expected.name) == expected and not self.is_running(expected.name):
            self._change(expected.name, timer)

    def _change(self, name: str, timer: StoredTimer | None) -> None:
        before = self._timers.pop(name, None)
        if before is not None:
            del self._order[bisect_left(self._order, (before.due_us, name))]
        if timer is not None:
            self._timers[name] = timer
            insort(self._order, (timer.due_us, name))
            self._sides.put(timer.key, write_timer(timer))
        elif before is not None:
            self._sides.delete(before.key)
        # Also where it is the same: the scheduler looks at the object's timers when it hears of it.
        self._buffer.write_alarm(self._alarm(), confirmed=True)

    def _alarm(self) -> Alarm | None:
        if not self._order:
            return None
        first = self._timers[self._order[0][1]]
        return Alarm(first.due_us, first.scheduled_us, first.retry_count, first.backoff)

    # Knowing

    def _refresh(self) -> None:
        """Read the timers where what is known may be wrong: at the first use, and once a
        transaction was rolled back, or all was deleted."""
        if self._undone != self._buffer.undone:
            stored = self._sides.scan(TIMERS, PAST_TIMERS, count_max=TIMERS_READ_MAX)
            self._timers = {timer.name: timer for timer in map(_timer_of, stored)}
            self._order = sorted((timer.due_us, timer.name) for timer in self._timers.values())
            self._undone = self._buffer.undone


def _rung(timer: StoredTimer, next_us: int) -> StoredTimer:
    """*timer*, for its next time."""
    return evolve(timer, due_us=next_us, scheduled_us=next_us, retry_count=0, backoff=0)


def _timer_of(stored: tuple[bytes, bytes]) -> StoredTimer:
    try:
        return read_timer(*stored)
    except Malformed as error:
        raise StoreDamaged(f"a timer is damaged: {error}") from error
