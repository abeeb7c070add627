"""How long a statement may run: SQLite asks now and then whether to go on."""

from __future__ import annotations

from typing import Final

from attrs import define, field

from durable._model.clock import SystemClock

# SQLite asks after so many steps of its machine. Where it has not asked for so long, it stood still
# in between.
STEPS_PER_LOOK: Final = 100_000
STOOD_STILL_S: Final = 1.0
# A statement holds the loop up, so it is real time that counts.
_REAL_TIME: Final = SystemClock()


@define(eq=False, slots=True, weakref_slot=False)
class TimeLimit:
    """For the statements of one connection, which run one at a time."""

    _s_max: float
    # When SQLite asked last; 0 as a statement begins.
    looked_s: float = field(default=0.0, init=False)
    _running_since_s: float = field(default=0.0, init=False)

    def is_over(self) -> bool:
        """Whether the statement is to be stopped."""
        now_s = _REAL_TIME.steady()
        if now_s - self.looked_s > STOOD_STILL_S:
            self._running_since_s = now_s
        self.looked_s = now_s
        return now_s - self._running_since_s > self._s_max
