"""A parked task of Trio's, as which other code can run meanwhile.

A Trio task that waits is one that has an abort function, and goes on when it is rescheduled. So a
parked one waits for something else as soon as it has the abort function of that.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import trio
from outcome import Error, Value
from trio._core._run_context import GLOBAL_RUN_CONTEXT
from trio._core._traps import CancelShieldedCheckpoint, WaitTaskRescheduled


class TrioParking:
    """One parked task."""

    __slots__ = ("_is_dismissed", "_joins", "_leaves", "_may_park", "task")

    def __init__(
        self,
        may_park: Callable[[Any], bool],
        joins: Callable[[], object],
        leaves: Callable[[], bool],
    ) -> None:
        self._may_park = may_park
        self._joins = joins
        self._leaves = leaves
        self.task: Any = None
        self._is_dismissed = False

    def __await__(self) -> Generator[Any, Any, Any]:
        self.task = trio.lowlevel.current_task()
        self._joins()
        # What is sent in is passed on as it is, to the code that awaits what the task waits for.
        outcome = yield WaitTaskRescheduled(self._abort)
        if self._is_dismissed:
            outcome.unwrap()
        return outcome

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self._is_dismissed = True
        self._leaves()
        return trio.lowlevel.Abort.SUCCEEDED

    @property
    def is_fit(self) -> bool:
        return not self._is_dismissed and self._may_park(self.task)

    def enter(self) -> Any:
        before = GLOBAL_RUN_CONTEXT.task
        GLOBAL_RUN_CONTEXT.task = self.task
        self.task._abort_func = None  # as of a task that runs
        return before

    def leave(self, before: Any) -> None:
        GLOBAL_RUN_CONTEXT.task = before
        self.task._abort_func = self._abort
        self.task._attempt_delivery_of_any_pending_cancel()

    def go_on(self, trap: Any, before: Any) -> None:
        """Do what Trio does when a task has yielded *trap*."""
        GLOBAL_RUN_CONTEXT.task = before
        task = self.task
        task._schedule_points += 1
        if task._next_send_fn is not None:
            return  # what it would wait for has come already
        if trap is CancelShieldedCheckpoint:
            trio.lowlevel.reschedule(task, Value(None))
        elif type(trap) is WaitTaskRescheduled:
            task._cancel_points += 1
            task._abort_func = trap.abort_func
            task._attempt_delivery_of_any_pending_cancel()
        else:
            error = TypeError(
                f"Trio does not know what to do with {trap!r}: was a library for asyncio called?"
            )
            trio.lowlevel.reschedule(task, Error(error))
            task._next_send_fn, task._next_send = task.coro.throw, error

    def dismiss(self) -> None:
        if self._is_dismissed:
            return  # cancelled, and about to go on
        self._is_dismissed = True
        trio.lowlevel.reschedule(self.task, Value(None))
