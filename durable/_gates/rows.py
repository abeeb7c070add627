"""Rows of first steps: how many deliveries begin at once before the loop has a round.

Other tasks must get their turn. Code that makes one call after the other without giving the loop a
round has to wait for one after 64 calls or a few more. Nor does the loop wait long for calls that
compute, whichever tasks make them: meanwhile it reads no socket, and no call leaves for another
process. It has a round after about a millisecond of first steps.

Reading the clock at each first step would make a call slower by a twentieth, and so would asking
which task causes it. So one in 17 is looked at while they are short, and each once they are long.
"""

from __future__ import annotations

from attrs import define, field

from durable._model.clock import Clock

# First steps that one task may cause before others get their turn.
STEPS_IN_A_ROW_MAX = 64
# Seconds of computing in first steps, of all tasks, before the loop has a round.
COMPUTING_S_MAX = 0.001
# A first step of so many seconds counts as computing.
LONG_S = 0.0001
# First steps that are not measured between two that are. Of those, after every SHORT_IN_A_ROW that
# were short, two more are left out: an even number, so that of calls that are short and long by
# turns it is not always the short ones that are measured.
UNMEASURED_MAX = 16
SHORT_IN_A_ROW = 4


@define(eq=False)
class Rows:
    """Counts first steps, and measures some; the executor is one."""

    clock: Clock
    # First steps since the loop had a round, or another task was seen to cause one.
    _in_a_row: int = field(default=0, init=False)
    # After how many of them the next is measured, or has to wait for a round.
    _look_at: int = field(default=0, init=False)
    # Of those that were measured, how many were short since one was long, as far as it matters.
    _short: int = field(default=0, init=False)
    # What they have computed since the loop had a round, as far as it was measured.
    _computed_s: float = field(default=0.0, init=False)

    @property
    def _has_computed(self) -> bool:
        """Whether the loop has to have a round now, whatever the task."""
        return self._computed_s >= COMPUTING_S_MAX

    def _begin_row(self) -> None:
        """Another task causes first steps, or the loop has had a round."""
        self._look_at -= self._in_a_row
        self._in_a_row = 0

    def _count(self, took_s: float, computed_s: float) -> bool:
        """A first step was measured, with those within it; they had computed *computed_s* before.
        Returns whether it was long."""
        is_long = took_s >= LONG_S
        if is_long:
            self._short = 0
            self._computed_s = computed_s + took_s
            if self._has_computed:
                self._in_a_row = STEPS_IN_A_ROW_MAX
        elif self._short < SHORT_IN_A_ROW * UNMEASURED_MAX // 2:
            self._short += 1
        unmeasured = self._short // SHORT_IN_A_ROW * 2
        self._look_at = min(self._in_a_row + unmeasured, STEPS_IN_A_ROW_MAX)
        return is_long
