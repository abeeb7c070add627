"""The commit watch: looks whether what an object has sealed is durable in time.

One timer for all objects. An object that has a batch on its way has an entry: when to look, and the
number that must be durable by then. All are given the same time, so the entries are in order.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol

from attrs import define, field

from durable._loop.timers import Timer, Timers


class Committing(Protocol):
    """An object with a batch on its way."""

    def look_at_commit(self, number: int) -> None:
        """The time is over by which *number* must be durable."""


@define(eq=False)
class CommitWatch:
    """When to look at which object. Nothing here suspends."""

    _timers: Timers
    _limit_s: float
    _looks: OrderedDict[Committing, tuple[float, int]] = field(factory=OrderedDict, init=False)
    _timer: Timer | None = field(default=None, init=False)

    def add(self, committing: Committing, number: int) -> None:
        """Look at an object that has no entry when the limit has passed."""
        self._looks[committing] = (self._timers.now_s() + self._limit_s, number)
        if self._timer is None:
            self._set_timer()

    def discard(self, committing: Committing) -> None:
        """Look at it no more. Without an entry, nothing happens."""
        self._looks.pop(committing, None)

    def _set_timer(self) -> None:
        first = next(iter(self._looks.values()), None)
        if first is not None:
            self._timer = self._timers.call_at(first[0], self._look)

    def _look(self) -> None:
        self._timer = None
        now_s = self._timers.now_s()
        looks = self._looks
        try:
            while looks:
                committing, (due_s, number) = next(iter(looks.items()))
                if due_s > now_s:
                    return
                del looks[committing]
                committing.look_at_commit(number)
        finally:
            if self._timer is None:
                self._set_timer()
