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


@define(eq=False, order=False, slots=True)
class Timer:
    """One call to come. `cancel()` takes it back; more than once does no harm."""

    callback: Callable[[], None] | None

    def cancel(self) -> None:
        self.callback = None


@define(eq=False)
class Timers:
    """Calls back when the steady clock reaches a time, in order of the times."""

    clock: Clock
    _heap: list[tuple[float, int, Timer]] = field(factory=list, init=False)
    _order: itertools.count[int] = field(factory=itertools.count, init=False)
    _sleep: anyio.CancelScope | None = field(default=None, init=False)
    _sleeps_until: float = field(default=-math.inf, init=False)

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        return self.call_at(self.clock.steady() + delay_s, callback)

    def call_at(self, when_s: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(callback)
        heapq.heappush(self._heap, (when_s, next(self._order), timer))
        if self._sleep is not None and when_s < self._sleeps_until:
            self._sleep.cancel()
        return timer

    def next_due_s(self) -> float:
        """When the next timer is due, on the steady clock; infinite when there is none."""
        while self._heap and self._heap[0][2].callback is None:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else math.inf

    def run_due(self) -> None:
        """Call back all whose time has come."""
        while self.next_due_s() <= self.clock.steady():
            callback = heapq.heappop(self._heap)[2].callback
            assert callback is not None
            callback()

    async def run(self) -> None:
        """Serve the timers until cancelled."""
        while True:
            self.run_due()
            with anyio.CancelScope() as self._sleep:
                self._sleeps_until = self.next_due_s()
                if math.isinf(self._sleeps_until):
                    await anyio.sleep_forever()
                else:
                    await self.clock.sleep(self._sleeps_until - self.clock.steady())
            self._sleep = None
