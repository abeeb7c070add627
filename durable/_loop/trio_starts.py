"""Trio's side of `task_starts`: an instrument that sees each task before its first step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio
from attrs import define

# Set by TrioLoop.spawn around the start of a task of the library's own.
own_start: list[Any] = []


@define(eq=False)
class _Starts(trio.abc.Instrument):
    """The instrument of one Trio run, and how many runtimes use it."""

    wrap: Callable[[Any], Any]
    users: int = 0

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        if not own_start:
            # The task's context is a copy of its starter's, in which *wrap* finds the starter.
            task.coro = task.context.run(self.wrap, task.coro)

    def close(self) -> None:
        self.users -= 1
        if not self.users:
            trio.lowlevel.remove_instrument(self)
            _starts.set(None)


_starts: trio.lowlevel.RunVar[_Starts | None] = trio.lowlevel.RunVar("durable", None)


def watch_trio(wrap: Callable[[Any], Any]) -> _Starts:
    """Show *wrap* every task that this Trio run starts, until closed."""
    starts = _starts.get()
    if starts is None:
        starts = _Starts(wrap)
        _starts.set(starts)
        trio.lowlevel.add_instrument(starts)
    starts.users += 1
    return starts
