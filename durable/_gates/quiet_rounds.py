"""Rounds of the loop in which nothing of a delivery stirs: how a gate sees that it waits outside.

A delivery that has started tasks may be waiting for these, which is the inside. The time that it
takes to hand a child's result to its parent is a few rounds of the loop; after that it counts as
waiting on the outside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic

from attrs import define, field

from .entrant import E
from .running_code import RunningCode

# How many rounds of the loop a delivery with tasks of its own must be still before it counts as
# waiting on the outside. Each level of gather, wait_for or task group needs one or two to be woken.
QUIET_ROUNDS = 8
# A delivery whose tasks wake each other, or are woken from outside, more often than that is never
# still for so long. When it has been still for so many rounds in all, others get their chance too.
QUIET_ROUNDS_IN_ALL = 20_000


@define(eq=False, slots=True)
class QuietRounds(Generic[E]):
    """Counts the rounds in which the holder of a gate is still, and ends its turn if need be."""

    gate: WatchedGate[E]
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


@define(eq=False, slots=True)
class WatchedGate(RunningCode[E]):
    """The part of an input gate that knows how its holder stirs."""

    holder: E | None = field(default=None, init=False)
    # Counts what shows that the holder is not still.
    steps: int = field(default=0, init=False)
    # Rounds in which the holder was seen to be still, since it has owned the gate.
    quiet_in_all: int = field(default=0, init=False)
    is_watched: bool = field(default=False, init=False)
    # Each called once, when a task of a holder that has several is about to wait, or has ended.
    when_stirred: dict[Any, Callable[[], None]] | None = field(default=None, init=False, repr=False)

    @property
    def is_wanted(self) -> bool:
        """Whether anything waits for the holder to give up the gate."""
        raise NotImplementedError

    @property
    def is_shut(self) -> bool:
        """Whether nothing is let in: the storage holds the gate, or it is broken."""
        raise NotImplementedError

    def holder_is_outside(self, holder: E) -> None:
        """The holder waits on the outside: its turn is over."""
        raise NotImplementedError

    def watch(self) -> None:
        """Watch whether the holder stays still, if anything waits for the gate."""
        if not self.is_watched and self.is_wanted:
            self.is_watched = True
            QuietRounds(self, self.steps).go_on()

    def note_stirred(self) -> None:
        """A task of the holder has stirred."""
        assert self.when_stirred is not None
        callbacks, self.when_stirred = self.when_stirred, None
        for callback in callbacks.values():
            callback()
