"""The agenda of a simulation: what is to happen, in the order of a time that nobody waits for.

Rule: all chance comes from one generator, and what is due at one time happens in the order in which
it was put down. So a seed is a history.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Iterator

from attrs import define, field

Step = Callable[[], None]


@define(eq=False)
class Entry:
    """One step to come."""

    step: Step | None

    def cancel(self) -> None:
        """Take it back; more than once does no harm."""
        self.step = None


@define(eq=False)
class Agenda:
    """The time, and what is to come."""

    seed: int
    chance: random.Random = field(init=False)
    now_s: float = field(default=0.0, init=False)
    _heap: list[tuple[float, int, Entry]] = field(factory=list, init=False)
    _numbers: Iterator[int] = field(factory=itertools.count, init=False)

    def __attrs_post_init__(self) -> None:
        self.chance = random.Random(self.seed)

    def after(self, delay_s: float, step: Step) -> Entry:
        entry = Entry(step)
        heapq.heappush(self._heap, (self.now_s + delay_s, next(self._numbers), entry))
        return entry

    def run_until(self, until_s: float) -> None:
        """Let all happen that is due by then."""
        while self._heap and self._heap[0][0] <= until_s:
            self._next()
        self.now_s = until_s

    def run_while(self, is_unsettled: Callable[[], bool], s_max: float, every_s: float) -> float:
        """Go on until it is false, which is looked at every *every_s*, or for *s_max* at most;
        returns how long that took."""
        began_s = self.now_s
        while is_unsettled() and self.now_s - began_s < s_max:
            self.run_until(self.now_s + every_s)
        return self.now_s - began_s

    def _next(self) -> None:
        self.now_s, _, entry = heapq.heappop(self._heap)
        step, entry.step = entry.step, None
        if step is not None:
            step()
