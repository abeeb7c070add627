"""Rounds of the loop in which nothing of a delivery stirs: how a gate sees that it waits outside.

A delivery that has started tasks may be waiting for these, which is the inside. The time that it
takes to hand a child's result to its parent is a few rounds of the loop; after that it counts as
waiting on the outside.
"""

from __future__ import annotations

from typing import Generic, Protocol

from attrs import define

from durable._loop.loop import Loop

from .entrant import E

# How many rounds of the loop a delivery with tasks of its own must be still before it counts as
# waiting on the outside. Each level of gather, wait_for or task group needs one or two to be woken.
QUIET_ROUNDS = 8
# A delivery whose tasks wake each other, or are woken from outside, more often than that is never
# still for so long. When it has been still for so many rounds in all, others get their chance too.
QUIET_ROUNDS_IN_ALL = 20_000


class Watched(Protocol[E]):
    """What is asked of the gate whose holder is watched."""

    loop: Loop
    holder: E | None
    steps: int
    quiet_in_all: int
    is_watched: bool

    @property
    def is_wanted(self) -> bool: ...
    @property
    def is_shut(self) -> bool: ...
    def holder_is_outside(self, holder: E) -> None: ...


@define(eq=False, slots=True)
class QuietRounds(Generic[E]):
    """Counts the rounds in which the holder of a gate is still, and ends its turn if need be."""

    gate: Watched[E]
    # How often it had stirred when it was last looked at.
    steps: int
    # Rounds since then.
    quiet: int = 0

    def go_on(self) -> None:
        """Look again in the next round."""
        self.gate.loop.call_soon(self._look)

    def _look(self) -> None:
        gate = self.gate
        holder = gate.holder
        if holder is None or gate.is_shut or not gate.is_wanted:
            gate.is_watched = False
        elif gate.steps != self.steps:
            self.steps, self.quiet = gate.steps, 0
            self.go_on()
        elif self.quiet + 1 < QUIET_ROUNDS and gate.quiet_in_all < QUIET_ROUNDS_IN_ALL:
            gate.quiet_in_all += 1
            self.quiet += 1
            self.go_on()
        else:
            gate.is_watched = False
            gate.holder_is_outside(holder)
