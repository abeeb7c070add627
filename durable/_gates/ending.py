"""The ending of a broken object: its code is stopped, cleans up, and is over before a successor.

`Stopped` is thrown into each of its coroutines, in the task that runs it: first into the tasks that
were started last, and into those around them when these have ended, as structured concurrency has
it. So `finally` blocks run where they belong, and what they await they get. Code that does not end
is stopped a second time, and is abandoned when the time is over.

Rule: an ending is over for good after `CLEAN_UP_S_MAX`, whatever the code does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextvars import Context
from functools import partial
from typing import Any

from attrs import define, field

from durable._loop.loop import Loop, Waiting

from .futures import PendingAnswer

# How long code of a broken object may clean up, on the loop's own clock. Those that have not ended
# after half of it are stopped again.
CLEAN_UP_S_MAX = 1.0
# Rounds of the loop in which what a task leaves behind as it ends may start to clean up.
LAST_ROUNDS = 2
# Calls of the code of a broken object that raise; the answers of further ones do.
REFUSALS_AT_ONCE_MAX = 100


class Stopped(asyncio.CancelledError):
    """The object was reset: raised in its code, wherever that waits or asks its storage.

    A cancellation for asyncio, whose locks and pools give back what they have granted when they see
    one; no `Exception`, so that code which goes on after errors does not go on after this.
    """


@define(eq=False)
class Ending:
    """The tasks of one broken object on the way to their ends. Nothing here suspends."""

    loop: Loop
    # The tasks that run its code, and how deep each of them stands under others.
    running: Mapping[Any, Any]
    depth_of: Callable[[Any], int]
    label: str
    # Why it was reset.
    reason: str
    # How often `Stopped` has to be thrown into each task.
    level: int = field(default=1, init=False)
    is_over: bool = field(default=False, init=False)
    # How many calls of the code were refused.
    refusals: int = field(default=0, init=False)
    _stopped_at: dict[Any, int] = field(factory=dict, init=False)
    _interrupted: set[Any] = field(factory=set, init=False)
    _timer: Waiting | None = field(default=None, init=False)
    _when_over: list[Callable[[], None]] = field(factory=list, init=False)

    def begin(self) -> None:
        """Stop the code; at once over if there is none."""
        if not self.running:
            self._finish()
            return
        self._timer = self.loop.call_later(CLEAN_UP_S_MAX / 2, self._stop_again)
        self._advance()

    def when_over(self, callback: Callable[[], None]) -> None:
        """Call back when no code of the object runs any more: at once, or on the loop's thread."""
        if self.is_over:
            callback()
        else:
            self._when_over.append(callback)

    def is_to_stop(self, task: Any) -> bool:
        """Whether `Stopped` has yet to be thrown into the code of *task*."""
        return self._stopped_at.get(task, 0) < self.level

    def mark_stopped(self, task: Any) -> None:
        """`Stopped` is being thrown into the code of *task*."""
        self._stopped_at[task] = self.level

    def interrupt_soon(self, task: Any) -> None:
        """*task* is about to wait, and does not know yet."""
        self.loop.call_soon(partial(self._interrupt, task))

    def task_ended(self, task: Any) -> None:
        self._stopped_at.pop(task, None)
        self._interrupted.discard(task)
        if self.is_over:
            return
        if self.running:
            self._advance()
        else:
            self._look(LAST_ROUNDS)

    def refuse(self, stopped: Stopped) -> PendingAnswer[Any]:
        """Raise *stopped*, or return an answer that raises it in the next round: code that catches
        it again and again, and never waits, would keep the loop for itself."""
        self.refusals += 1
        if self.refusals <= REFUSALS_AT_ONCE_MAX:
            raise stopped
        answer: PendingAnswer[Any] = PendingAnswer(self.loop)
        self.loop.call_soon(partial(answer.fail, stopped))
        return answer

    def _look(self, rounds: int) -> None:
        if self.running or self.is_over:
            return
        if rounds:
            self.loop.call_soon(partial(self._look, rounds - 1))
        else:
            self._finish()

    def _advance(self) -> None:
        """Wake the innermost tasks; those around them wait for these, and are woken later."""
        deepest = max(map(self.depth_of, self.running))
        for task in list(self.running):
            if self.depth_of(task) == deepest:
                self._interrupt(task)

    def _interrupt(self, task: Any) -> None:
        is_due = self.is_to_stop(task) and task not in self._interrupted and task in self.running
        if is_due and self.loop.interrupt(task, partial(self._stop, task)):
            self._interrupted.add(task)

    def _stop(self, task: Any) -> Stopped:
        self.mark_stopped(task)
        return Stopped(self.reason)

    def _stop_again(self) -> None:
        self.level += 1
        self._interrupted.clear()
        self._timer = self.loop.call_later(CLEAN_UP_S_MAX / 2, self._give_up)
        for task in list(self.running):
            self._interrupt(task)

    def _give_up(self) -> None:
        """Each of the tasks that are left finds, when it wakes, that it is over."""
        left = list(self.running)
        self._finish()
        for task in left:
            self.loop.interrupt(task, partial(self._stop, task))
            task.cancel()

    def _finish(self) -> None:
        self.is_over = True
        if self._timer is not None:
            self._timer.cancel()
        self._stopped_at.clear()
        callbacks, self._when_over = self._when_over, []
        for callback in callbacks:
            # Not in the context of code that is over.
            Context().run(callback)
