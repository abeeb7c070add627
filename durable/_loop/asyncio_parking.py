"""A parked task of asyncio's, as which other code can run meanwhile.

asyncio lets a task wait for anything that has the methods of a future (`asyncio.isfuture`), and so
gives `AsyncioParking` the callback that wakes the task. Calling it resumes the task at once, within
the step of another task, which is not the current one meanwhile: as an eager task begins.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context
from functools import partial
from typing import Any, Final

# Makes a task the current one of its loop, or none; returns the one before.
Swap = Callable[[Any], Any]

_NOWHERE: Final = object()


def swap_in(loop: asyncio.AbstractEventLoop) -> Swap:
    """Returns the function that sets the current task of *loop*. It must not unset none."""
    swap = getattr(asyncio.tasks, "_swap_current_task", None)
    if swap is not None:  # from Python 3.12 on
        return partial(swap, loop)
    current_tasks: dict[Any, Any] = vars(asyncio.tasks)["_current_tasks"]

    def swap_by_hand(task: Any) -> Any:
        before = current_tasks.get(loop)
        if task is None:
            del current_tasks[loop]
        else:
            current_tasks[loop] = task
        return before

    return swap_by_hand


class AsyncioParking:
    """One parked task. To asyncio it is a future that the task waits for."""

    __slots__ = (
        "_asyncio_future_blocking",
        "_cancelled",
        "_context",
        "_is_wanted",
        "_joins",
        "_leaves",
        "_loop",
        "_trap",
        "_wake",
        "enter",
        "is_fit",
        "leave",
        "task",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        swap: Swap,
        joins: Callable[[], object],
        leaves: Callable[[], bool],
        is_wanted: Callable[[], bool],
    ) -> None:
        self._loop = loop
        self._joins = joins
        self._leaves = leaves
        self._is_wanted = is_wanted
        self._asyncio_future_blocking = False
        self._cancelled: asyncio.CancelledError | None = None
        self._trap: Any = _NOWHERE
        self._wake: Callable[[Any], object]
        self._context: Context
        self.enter: Callable[[], Any]
        self.leave: Swap = swap
        self.task: Any = None
        self.is_fit = True

    def __await__(self) -> Generator[Any, Any, Any]:
        if self.task is None:
            self.task = asyncio.current_task()
            self.enter = partial(self.leave, self.task)
        self._asyncio_future_blocking = True
        cancelled: asyncio.CancelledError | None = None
        try:
            yield self
        except asyncio.CancelledError as error:
            if self._trap is _NOWHERE:
                raise
            cancelled = error
        trap, self._trap = self._trap, _NOWHERE
        if trap is _NOWHERE:
            return None
        if cancelled is None:
            return (yield trap)
        # It was requested in code that ran as this task: cancel it as it begins to wait.
        if hasattr(trap, "cancel") and trap.cancel(*cancelled.args):
            return (yield trap)
        yield trap
        raise cancelled

    def go_on(self, trap: Any, before: Any) -> None:
        self._trap = trap
        self.leave(None)
        try:
            self._context.run(self._wake, self)
        finally:
            if before is not None:
                self.leave(before)

    def dismiss(self) -> None:
        before = asyncio.current_task()
        if before is not None:
            self.leave(None)
        try:
            self._context.run(self._wake, self)
        finally:
            if before is not None:
                self.leave(before)

    # The methods that a task of asyncio calls on a future

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def add_done_callback(
        self, wake: Callable[[Any], object], *, context: Context | None = None
    ) -> None:
        assert context is not None
        self._wake = wake
        self._context = context
        self._joins()

    def cancel(self, msg: Any = None) -> bool:
        self.is_fit = False
        if not self._leaves():
            return False  # code runs as the task, which is cancelled when it waits next
        self._cancelled = asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg)
        self._loop.call_soon(self._wake, self, context=self._context)
        return True

    def done(self) -> bool:
        # Debuggers and deadlock searches use this, to find out whether the task will stir.
        return self._is_wanted()

    def result(self) -> None:
        if self._cancelled is not None:
            raise self._cancelled
