"""Timers of one runtime: one heap and one task, whatever their number.

Nothing here is on the path of a call: a timer is set for what is rare or long (a critical section,
a stalled disk, the next look for idle objects, the next alarm).

Rule: timers count the time in which the event loop could run. A process that is stopped (SIGSTOP, a
debugger, a paused container) finds its timers where they were when it goes on, so that nothing is
reset which only waited. To notice such a pause, and a wall clock that is set, the task reads the
clocks in beats for as long as there are timers; a clock that notifies need not be read.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable

import anyio
from attrs import define, field

from durable._model.clock import Clock, NotifyingClock
from durable._model.log import log

CANCELLED_MIN = 1_000
# The clocks are looked at this often. What the machine's owner does to them is heard of so late.
BEAT_S = 0.5
# A wake-up that is so much late means that the process did not run in between.
STOPPED_S_MIN = 1.0
# The wall clock may run so far off the steady one, little by little, before that counts as set.
SET_S_MIN = 0.1
# How many pauses are remembered, to compute how much of a given time was paused.
PAUSES_KEPT = 64


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
    """Calls back when the time of the running loop reaches a time, in order of the times."""

    clock: Clock
    _heap: list[tuple[float, int, Timer]] = field(factory=list, init=False)
    # Timers in the heap that were cancelled; they are cleared out when they are most of it.
    cancelled: int = field(default=0, init=False)
    _order: itertools.count[int] = field(factory=itertools.count, init=False)
    _sleep: anyio.CancelScope | None = field(default=None, init=False)
    _sleeps_until: float = field(default=math.inf, init=False)
    # For how long the process did not run, in all, and when that was noticed on the steady clock.
    _paused_s: float = field(default=0.0, init=False)
    _pauses: deque[tuple[float, float]] = field(
        factory=lambda: deque(maxlen=PAUSES_KEPT), init=False
    )
    # By how much the wall clock was ahead of the steady one at the last look.
    _ahead_s: float = field(default=0.0, init=False)
    _is_notified: bool = field(init=False)
    _when_set: list[Callable[[], None]] = field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        self._is_notified = isinstance(self.clock, NotifyingClock)
        self._pauses = deque(maxlen=PAUSES_KEPT)

    def now_s(self) -> float:
        """The steady clock, less the time in which the process did not run."""
        return self.clock.steady() - self._paused_s

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        return self.call_at(self.now_s() + delay_s, callback)

    def call_at(self, when_s: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(callback, self)
        if self.cancelled > CANCELLED_MIN and self.cancelled * 2 > len(self._heap):
            self._clear_out()
        heapq.heappush(self._heap, (when_s, next(self._order), timer))
        if self._sleep is not None and when_s < self._sleeps_until:
            self._sleep.cancel()
        return timer

    def when_set(self, on_set: Callable[[], None]) -> Callable[[], None]:
        """Call *on_set* when the wall clock was set or the process has stood still, at most a beat
        later and only while there are timers; returns how to take that back."""
        if isinstance(self.clock, NotifyingClock):
            return self.clock.when_set(on_set)
        self._when_set.append(on_set)
        return lambda: self._when_set.remove(on_set)

    def paused_since(self, steady_s: float) -> float:
        """For how many seconds since *steady_s* the process did not run."""
        self._look_for_a_pause()
        return sum(paused_s for noticed_s, paused_s in self._pauses if noticed_s > steady_s)

    def next_due_s(self) -> float:
        """When the next timer is due, on `now_s`; infinite when there is none."""
        while self._heap and self._heap[0][2].callback is None:
            heapq.heappop(self._heap)
            self.cancelled -= 1
        return self._heap[0][0] if self._heap else math.inf

    def run_due(self) -> None:
        """Call back all whose time has come."""
        while self.next_due_s() <= self.now_s():
            timer = heapq.heappop(self._heap)[2]
            callback, timer.callback = timer.callback, None
            assert callback is not None
            _call(callback)

    def _clear_out(self) -> None:
        self._heap = [entry for entry in self._heap if entry[2].callback is not None]
        heapq.heapify(self._heap)
        self.cancelled = 0

    def _look_for_a_pause(self) -> None:
        steady_s = self.clock.steady()
        late_s = steady_s - self._paused_s - self._sleeps_until
        if late_s > STOPPED_S_MIN and not self._is_notified:
            self._paused_s += late_s
            self._pauses.append((steady_s, late_s))
            self._notify_set()

    def _look_at_the_wall_clock(self) -> None:
        ahead_s = self.clock.now() - self.clock.steady()
        if abs(ahead_s - self._ahead_s) > SET_S_MIN:
            self._ahead_s = ahead_s
            self._notify_set()

    def _notify_set(self) -> None:
        for on_set in list(self._when_set):
            _call(on_set)

    def _wakes_at_s(self) -> float:
        due_s = self.next_due_s()
        if self._is_notified or math.isinf(due_s):
            return due_s
        return min(due_s, self.now_s() + BEAT_S)

    async def run(self) -> None:
        """Serve the timers until cancelled; may then be run again."""
        while True:
            if not self._is_notified:
                self._look_for_a_pause()
                self._look_at_the_wall_clock()
            self._sleeps_until = math.inf  # the task is awake
            self.run_due()
            try:
                with anyio.CancelScope() as self._sleep:
                    self._sleeps_until = self._wakes_at_s()
                    if math.isinf(self._sleeps_until):
                        await anyio.sleep_forever()
                    else:
                        # Not below zero: time has passed since we looked for what is due.
                        await self.clock.sleep(max(0.0, self._sleeps_until - self.now_s()))
            finally:
                self._sleep = None


def _call(callback: Callable[[], None]) -> None:
    """Call back: what one timer's callback raises is no matter of the other timers."""
    try:
        callback()
    except Exception:
        log.exception("a timer's callback failed: %r", callback)
