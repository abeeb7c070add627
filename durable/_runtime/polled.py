"""The statistics for those that ask each second, as a page of the inspector does, at no more than
about a hundredth of the program's time.

Two parts of them are not counters that are kept anyway: the live objects are counted by a pass over
all of them, and the store is measured, in a database by a query. So each is used again until a
hundred times as long has passed as it took; all else is of the moment.

Rule: the pass is made in short steps on the loop's thread, which serves others between them; the
store is measured on another thread, so that the loop never waits for a database.
"""

from __future__ import annotations

import threading
from typing import Final

from attrs import define, field

from durable._engine.measures import Measures
from durable._model.clock import Clock
from durable._model.errors import DurableError
from durable._object.activation import Activation

from .directory import Directory
from .disks import Disks
from .live_counts import LiveCounts

SHARE_MAX: Final = 0.01
REST_S_MAX: Final = 60.0
# How long a second thread waits for the first measures.
FIRST_S_MAX: Final = 10.0
# Objects of one step, which takes less than half a millisecond.
STEP: Final = 1_000


@define(eq=False)
class Pace:
    """When a part is due again."""

    clock: Clock
    _due_s: float | None = field(default=None, init=False)

    def is_due(self) -> bool:
        return self._due_s is None or self.clock.steady() >= self._due_s

    def took(self, seconds: float) -> None:
        self._due_s = self.clock.steady() + min(REST_S_MAX, seconds / SHARE_MAX)


@define(eq=False)
class Pass:
    """A pass over the live objects, under way."""

    left: list[Activation]
    counts: LiveCounts = field(factory=LiveCounts, init=False)
    took_s: float = field(default=0.0, init=False)


@define(eq=False)
class PolledStatistics:
    """Of one runtime, for all that ask it."""

    _clock: Clock
    _directory: Directory
    _disks: Disks
    _counts: LiveCounts | None = field(default=None, init=False)
    _measures: Measures | None = field(default=None, init=False)
    _count_pace: Pace = field(init=False)
    _measure_pace: Pace = field(init=False)
    _pass: Pass | None = field(default=None, init=False)
    _measuring: threading.Lock = field(factory=threading.Lock, init=False)

    def __attrs_post_init__(self) -> None:
        self._count_pace, self._measure_pace = Pace(self._clock), Pace(self._clock)

    @property
    def counts(self) -> LiveCounts:
        """The live objects, once `count` has returned False."""
        assert self._counts is not None
        return self._counts

    @property
    def measures(self) -> Measures:
        """The measures of the store, once `measure` has returned."""
        assert self._measures is not None
        return self._measures

    def count(self) -> bool:
        """Count some of the live objects, if that is due; returns whether there are more to count.
        For the loop's thread."""
        if self._pass is None:
            if not self._count_pace.is_due():
                return False
            self._pass = Pass(list(self._directory))
        under_way, began_s = self._pass, self._clock.steady()
        # From the end: one that is evicted meanwhile is not kept in memory for longer than needed.
        under_way.counts.add(under_way.left[-STEP:])
        del under_way.left[-STEP:]
        under_way.took_s += self._clock.steady() - began_s
        if under_way.left:
            return True
        self._counts, self._pass = under_way.counts, None
        self._count_pace.took(under_way.took_s)
        return False

    def measure(self) -> None:
        """Measure the store, if that is due. For any thread but the loop's. Raises DurableError if
        it has never been measured and cannot be now."""
        is_first = self._measures is None
        if not self._measuring.acquire(timeout=FIRST_S_MAX if is_first else 0):
            if is_first:
                raise TimeoutError("the store was not measured in time")
            return  # another thread is about it
        try:
            if self._measure_pace.is_due():
                self._measure(is_first=self._measures is None)
        finally:
            self._measuring.release()

    def _measure(self, *, is_first: bool) -> None:
        began_s = self._clock.steady()
        try:
            self._measures = self._disks.measure()
        except (DurableError, OSError):
            if is_first:
                raise
        if not is_first:
            self._measure_pace.took(self._clock.steady() - began_s)
