"""Timers of one runtime: one heap and one task, whatever their number.

Nothing here is on the path of a call: a timer is set for what is rare or long (a critical section,
a stalled disk, the next look for idle objects, the next alarm).
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable

import anyio
from attrs import define, field

from durable._model.clock import Clock

CANCELLED_MIN = 1_000


@define(eq=False, order=False, slots=True)
class Timer:
    """One call to come. `cancel()` takes it back; more than once does no harm."""

    callback: Callable[[], None] | None
    timers: Timers

    def cancel(self) -> None:
        if self.callback is not None:
            self.callback = None
            self.timers.cancelled += 1


@define(eq=False)
class Timers:
    """Calls back when the steady clock reaches a time, in order of the times."""

    clock: Clock
    _heap: list[tuple[float, int, Timer]] = field(factory=list, init=False)
    # Timers in the heap that were cancelled; they are cleared out when they are most of it.
    cancelled: int = field(default=0, init=False)
    _order: itertools.count[int] = field(factory=itertools.count, init=False)
    _sleep: anyio.CancelScope | None = field(default=None, init=False)
    _sleeps_until: float = field(default=-math.inf, init=False)

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        return self.call_at(self.clock.steady() + delay_s, callback)

    def call_at(self, when_s: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(callback, self)
        if self.cancelled > CANCELLED_MIN and self.cancelled * 2 > len(self._heap):
            self._clear_out()
        heapq.heappush(self._heap, (when_s, next(self._order), timer))
        if self._sleep is not None and when_s < self._sleeps_until:
            self._sleep.cancel()
        return timer

    def next_due_s(self) -> float:
        """When the next timer is due, on the steady clock; infinite when there is none."""
        while self._heap and self._heap[0][2].callback is None:
            heapq.heappop(self._heap)
            self.cancelled -= 1
        return self._heap[0][0] if self._heap else math.inf

    def run_due(self) -> None:
        """Call back all whose time has come."""
        while self.next_due_s() <= self.clock.steady():
            timer = heapq.heappop(self._heap)[2]
            callback, timer.callback = timer.callback, None
            assert callback is not None
            callback()

    def _clear_out(self) -> None:
        self._heap = [entry for entry in self._heap if entry[2].callback is not None]
        heapq.heapify(self._heap)
        self.cancelled = 0

    async def run(self) -> None:
        """Serve the timers until cancelled."""
        while True:
            self.run_due()
            with anyio.CancelScope() as self._sleep:
                self._sleeps_until = self.next_due_s()
                if math.isinf(self._sleeps_until):
                    await anyio.sleep_forever()
                else:
                    # Not below zero: time has passed since we looked for what is due.
                    await self.clock.sleep(max(0.0, self._sleeps_until - self.clock.steady()))
            self._sleep = None
