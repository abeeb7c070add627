"""One wait of one Trio task, until other code ends it."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import trio
from attrs import define
from outcome import Value

from . import here


@define(eq=False)
class TrioWaker:
    """One wait of one Trio task."""

    _shield: bool
    _thread: int
    _task: trio.lowlevel.Task | None = None
    _done: bool = False

    def done(self) -> bool:
        return self._done

    def wake(self) -> None:
        if self._done:
            return
        self._done = True
        if self._task is not None:
            trio.lowlevel.reschedule(self._task, Value(None))
            self._task = None

    def trap(self) -> None:
        """What it waits for has to be taken in, and `may_stop_at` looks for `__await__`."""

    def __await__(self) -> Generator[Any, Any, None]:
        if self._done:
            return
        if here.thread() != self._thread:
            raise RuntimeError("another thread than the loop's cannot wait for it")
        self._task = trio.lowlevel.current_task()

        def abort(_: object) -> trio.lowlevel.Abort:
            if self._shield or self._done:
                return trio.lowlevel.Abort.FAILED
            self._done = True
            self._task = None
            return trio.lowlevel.Abort.SUCCEEDED

        yield from trio.lowlevel.wait_task_rescheduled(abort).__await__()  # noqa: ASYNC105
