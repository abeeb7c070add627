"""A savepoint: what one transaction that runs has written, and how to undo it in memory."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final

from attrs import define, field

from durable._engine.batch import Alarm, Unchanged
from durable._engine.history_records import Item

from .cache import Before, Known
from .side_writes import SideBefore, SideValue

UNCHANGED: Final = Unchanged.UNCHANGED

AlarmChange = Alarm | Unchanged | None
TimersRun = Mapping[str, int | None]
"""Timers whose handlers run, by name, with when each rings next; None: it does not."""
NONE_RUN: Final[TimersRun] = MappingProxyType({})


class Phase(Enum):
    """Whether a transaction runs, and how it has ended."""

    OPEN = "open"
    COMMITTED = "committed"
    ROLLED_BACK = "rolled back"


@define(eq=False, slots=True)
class Savepoint:
    """The writes of one transaction that runs, and what was there before them."""

    alarm_before: Alarm | None
    alarm_runs_before: bool
    timers_run_before: TimersRun
    puts: dict[str, Known] = field(factory=dict, init=False)
    undo: dict[str, Before] = field(factory=dict, init=False)
    sides: dict[bytes, SideValue] = field(factory=dict, init=False)
    side_undo: dict[bytes, SideBefore] = field(factory=dict, init=False)
    # Records of the history, each with what it is about.
    history: dict[bytes, tuple[Item, bytes]] = field(factory=dict, init=False)
    alarm: AlarmChange = field(default=UNCHANGED, init=False)
    has_written: bool = field(default=False, init=False)
    is_confirmed: bool = field(default=False, init=False)
    phase: Phase = field(default=Phase.OPEN, init=False)
    # It began in the turn in which it ends, and that goes on after it.
    is_within_turn: bool = field(default=False, init=False)

    def note(self, confirmed: bool) -> None:
        self.has_written = True
        self.is_confirmed |= confirmed

    def merge_into(self, outer: Savepoint) -> None:
        """The transaction is done: what it wrote is the work of the one around it."""
        outer.puts.update(self.puts)
        outer.undo = self.undo | outer.undo
        outer.sides.update(self.sides)
        outer.side_undo = self.side_undo | outer.side_undo
        outer.history.update(self.history)
        if self.alarm is not UNCHANGED:
            outer.alarm = self.alarm
        if self.has_written:
            outer.note(self.is_confirmed)
