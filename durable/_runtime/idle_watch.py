"""The idle watch: evicts the objects that have been idle for long enough.

One timer for all objects. Each has an entry in a heap: when it is to be looked at next, since it
may be due then. A call moves no entry: an object that was called meanwhile gets a new one when it
is looked at.
"""

from __future__ import annotations

import heapq

from attrs import define, field

from durable._loop.timers import Timer
from durable._object.activation import Activation
from durable._object.services import Services

# So many entries of objects that have left memory by other ways are kept at least.
STALE_MIN = 1_000


@define(eq=False)
class IdleWatch:
    """When each live object is looked at next. Nothing here suspends."""

    services: Services
    _live: dict[bytes, Activation]
    _looks: list[tuple[float, bytes]] = field(factory=list, init=False)
    # With more entries than these, those of objects that have left are cleared out.
    _most: int = field(default=STALE_MIN, init=False)
    _timer: Timer | None = field(default=None, init=False)

    def add(self, activation: Activation) -> None:
        """An object is in memory from now on."""
        self._look_after(activation, self.services.limits.idle_s_max)
        if len(self._looks) > self._most:
            self._clear_out()
        if self._timer is None:
            self._set_timer()

    def _look_after(self, activation: Activation, delay_s: float) -> None:
        activation.look_s = look_s = self.services.timers.now_s() + delay_s
        heapq.heappush(self._looks, (look_s, activation.id.raw))

    def _set_timer(self) -> None:
        # What is added later is due later: all wait for the same time.
        if self._looks:
            self._timer = self.services.timers.call_at(self._looks[0][0], self._look)

    def _look(self) -> None:
        """Evict those that are due, and look again when the next one may be."""
        self._timer = None
        now_s = self.services.timers.now_s()
        looks = self._looks
        try:
            while looks and looks[0][0] <= now_s:
                look_s, raw = heapq.heappop(looks)
                activation = self._live.get(raw)
                if activation is not None and activation.look_s == look_s:
                    self._evict_if_due(activation)
        finally:
            if self._timer is None:  # an eviction may have made another object
                self._set_timer()

    def _evict_if_due(self, activation: Activation) -> None:
        limit_s = self.services.limits.idle_s_max
        if not activation.is_idle:
            self._look_after(activation, limit_s)
            return
        left_s = activation.idle_since_s + limit_s - self.services.clock.steady()
        if left_s > 0:
            self._look_after(activation, left_s)
        else:
            activation.evict()

    def _clear_out(self) -> None:
        """Keep one entry for each object in memory."""
        self._looks = [(live.look_s, raw) for raw, live in self._live.items()]
        heapq.heapify(self._looks)
        self._most = STALE_MIN + 2 * len(self._looks)
