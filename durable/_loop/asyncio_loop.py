"""The loop on asyncio: the default loop, uvloop, with and without eager tasks."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from typing import Any

from attrs import define, field

from .loop import CROWD, Waker

# Where Python can, a task's first step is taken at once, inside of its starter's.
EAGER: dict[str, Any] = {"eager_start": True} if sys.version_info >= (3, 12) else {}

# An eagerly started task runs inside its starter's frame. A chain of objects that call each other
# would nest as deep as it is long, so from this depth on tasks start in the next round.
EAGER_DEPTH_MAX = 12


def _anyio_states() -> Any:
    # Private, so it may go; then the scopes that an author leaves open are not seen.
    return getattr(importlib.import_module("anyio._backends._asyncio"), "_task_states", {})


def _closed_over(callback: Any) -> list[Any]:
    cells = getattr(callback, "__closure__", None) or ()
    found = [*getattr(callback, "args", ())]
    for cell in cells:
        with suppress(ValueError):  # an empty one
            found.append(cell.cell_contents)
    return [each for each in found if isinstance(each, asyncio.Future)]


@define(eq=False)
class AsyncioLoop:
    name = "asyncio"

    _loop: asyncio.AbstractEventLoop = field(factory=asyncio.get_running_loop, init=False)
    _tasks: set[asyncio.Task[None]] = field(factory=set, init=False)
    _depth: int = field(default=0, init=False)
    # Tasks that `interrupt` has cancelled, and that do not know yet.
    _interrupted: set[asyncio.Task[Any]] = field(factory=set, init=False)
    # In which of anyio's cancel scopes a task is.
    _anyio_states: Any = field(factory=_anyio_states, init=False)

    def is_here(self) -> bool:
        # Made for this very question: None on another thread, and in a forked child.
        return asyncio._get_running_loop() is self._loop

    def has_ended(self) -> bool:
        return self._loop.is_closed()

    def spawn(
        self, body: Coroutine[Any, Any, None], name: str, context: Context | None = None
    ) -> asyncio.Task[None]:
        # Not loop.create_task: a task of ours is not for the program's task factory.
        if EAGER and self._depth < EAGER_DEPTH_MAX:
            self._depth += 1
            try:
                task = asyncio.Task(body, loop=self._loop, name=name, context=context, **EAGER)
            finally:
                self._depth -= 1
            if task.done():
                return task
        else:
            task = asyncio.Task(body, loop=self._loop, name=name, context=context)
        # The loop itself keeps only a weak reference. No done callback, which would cost a round of
        # the loop for each task: the body says `ended` as its last word.
        self._tasks.add(task)
        return task

    @property
    def is_crowded(self) -> bool:
        return len(self._tasks) >= CROWD

    def ended(self, task: Any) -> None:
        self._tasks.discard(task)

    def waker(self, *, shield: bool = False) -> asyncio.Future[None]:
        return self._loop.create_future()

    def call_soon(self, callback: Callable[[], None]) -> None:
        self._loop.call_soon(callback)

    def call_soon_threadsafe(self, callback: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the loop was closed under us: nobody is left to be told
            self._loop.call_soon_threadsafe(callback)

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        return self._loop.call_later(delay_s, callback, context=Context())

    def interrupt(self, task: Any, make_error: Callable[[], BaseException]) -> bool:
        if task is asyncio.current_task():
            return False
        if task.cancel():
            self._interrupted.add(task)
        return True

    def was_woken(self, task: Any) -> None:
        if task in self._interrupted:
            self._interrupted.discard(task)
            task.uncancel()  # else time-outs in the clean-up would not know their own

    def may_stop_at(self, coro: Any) -> bool:
        return True  # as a cancellation does, when it comes late

    def may_reuse(self, task: Any) -> bool:
        # Before Python 3.13 `uncancel` does not take back what the task has not been told yet.
        if task.cancelling() or task._must_cancel:
            return False
        state = self._anyio_states.get(task)
        return state is None or state.cancel_scope is None

    def is_cancellation(self, error: BaseException) -> bool:
        return isinstance(error, asyncio.CancelledError)

    own_task = staticmethod(asyncio.current_task)

    def task_at(self, waker: Waker) -> Any:
        for callback, _ in getattr(waker, "_callbacks", None) or ():
            task = getattr(callback, "__self__", None)
            if isinstance(task, asyncio.Task):
                return task
        return None

    def is_awaited_by(self, task: Any, other: Any) -> bool:
        waits_for = getattr(other, "_fut_waiter", None)
        if waits_for is task or task in getattr(waits_for, "_children", ()):  # of a gather
            return True
        for callback, _ in getattr(task, "_callbacks", None) or ():
            group = getattr(callback, "__self__", None)
            if isinstance(group, asyncio.TaskGroup) and getattr(group, "_parent_task", 0) is other:
                return True
            # asyncio's wait, wait_for and shield have it among what their callbacks close over.
            if waits_for is not None and waits_for in _closed_over(callback):
                return True
        state = self._anyio_states.get(task)
        scope = None if state is None else state.cancel_scope
        while scope is not None:
            host = getattr(scope, "_host_task", None)
            if host is not task:
                return host is other
            scope = getattr(scope, "_parent_scope", None)
        return False

    def end_quietly(self) -> None:
        raise asyncio.CancelledError

    async def bury(self) -> None:
        # asyncio lets a task end wherever its code is suspended. anyio would keep what is inside of
        # a scope that nobody leaves, and the scope's timer.
        task = asyncio.current_task()
        state = self._anyio_states.get(task)
        while state is not None and getattr(state.cancel_scope, "_host_task", None) is task:
            state.cancel_scope.__exit__(None, None, None)

    async def open(self) -> None:
        """Nothing to prepare: the set of tasks is all there is."""

    async def close(self) -> None:
        while tasks := [task for task in self._tasks if not task.done()]:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        self._tasks.clear()
