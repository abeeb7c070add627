"""The limit watch: notices what takes longer than a limit.

One timer for all that have the same limit: the commits of all objects have one watch, and the
handlers of alarms another. All entries wait for the same time, so they are in order.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol

from attrs import define, field

from durable._loop.timers import Timer, Timers


class Limited(Protocol):
    """What may take so long, and no longer."""

    def reached_limit(self) -> None:
        """It was added so long ago. It has no entry any more, and may be added again."""


@define(eq=False)
class LimitWatch:
    """When what reaches its limit. Nothing here suspends."""

    _timers: Timers
    _limit_s: float
    _ends: OrderedDict[Limited, float] = field(factory=OrderedDict, init=False)
    _timer: Timer | None = field(default=None, init=False)

    def add(self, limited: Limited) -> None:
        """The time of *limited*, which has no entry, begins."""
        self._ends[limited] = self._timers.now_s() + self._limit_s
        if self._timer is None:
            self._set_timer()

    def discard(self, limited: Limited) -> None:
        """It has no limit any more. Without an entry, nothing happens."""
        self._ends.pop(limited, None)

    def _set_timer(self) -> None:
        first_s = next(iter(self._ends.values()), None)
        if first_s is not None:
            self._timer = self._timers.call_at(first_s, self._look)

    def _look(self) -> None:
        self._timer = None
        now_s = self._timers.now_s()
        ends = self._ends
        try:
            while ends:
                limited, end_s = next(iter(ends.items()))
                if end_s > now_s:
                    return
                del ends[limited]
                limited.reached_limit()
        finally:
            if self._timer is None:
                self._set_timer()
