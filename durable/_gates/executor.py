"""The executor: the tasks that serve deliveries.

A task costs more than most deliveries do. So one that is on its way to its first step takes along
all deliveries that are let in until then, and serves them in that order; and at the end of one it
serves the next of the same object. When a delivery waits, the others get tasks of their own.

Rule: a task serves one delivery at a time, so `current_task()` is honest. Nor does it serve another
once other code has kept a reference to it, to cancel it later or to tell tasks apart.
"""

from __future__ import annotations

import types
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from attrs import define, field

from durable._cpython.references import references
from durable._loop.loop import INTERRUPTS, Loop, Task

from .abandoned import Abandoned
from .delivery import CURRENT, Delivery, drive

# Deliveries of one object that a task serves before others get their turn.
SERVED_IN_A_ROW_MAX = 64


@define(eq=False)
class RunQueue:
    """Deliveries that one task is to serve, each of another object."""

    executor: Executor = field(repr=False)
    task: Task | None = field(default=None, repr=False)
    deliveries: deque[Delivery[Any]] = field(factory=deque)

    def hand_off(self, delivery: Delivery[Any]) -> None:
        """*delivery*, which the task serves, waits: each of the others gets a task of its own.

        It is likely that they wait too. Left in the queue, each would begin a round of the loop
        after the one before.
        """
        delivery.run_queue = None
        while self.deliveries:
            self.executor.spawn(self.pop(), RunQueue(self.executor))

    def pop(self) -> Delivery[Any]:
        self.executor.in_line -= 1
        return self.deliveries.popleft()


@define(eq=False)
class Executor:
    """Starts what the gates have let in. Its `start` never suspends."""

    loop: Loop
    # What the task that was started last takes along until its first step.
    _coming: RunQueue | None = field(default=None, init=False)
    # How many stand in run queues: they are served in this round of the loop, or in the next.
    in_line: int = field(default=0, init=False)

    @property
    def is_busy(self) -> bool:
        """Whether other deliveries are served in this round of the loop, or the next."""
        return self.in_line > 0 or self.loop.is_crowded

    def start(self, delivery: Delivery[Any]) -> None:
        """Have *delivery*, which was let in, served by a task."""
        run_queue = self._coming
        if run_queue is None:
            self.send(delivery, RunQueue(self))
            return
        self.in_line += 1
        run_queue.deliveries.append(delivery)
        # No task yet: a finalizer calls, run by the collector while the task is being made.
        if run_queue.task is not None and not self.loop.may_reuse(
            run_queue.task
        ):  # it was cancelled
            self.send(run_queue.pop(), run_queue)

    def send(self, delivery: Delivery[Any], run_queue: RunQueue) -> None:
        """Start a task for *delivery* and those in *run_queue*, which more may join on its way."""
        self._coming, run_queue.task = run_queue, None
        self.spawn(delivery, run_queue)

    def spawn(self, delivery: Delivery[Any], run_queue: RunQueue) -> None:
        body = self._serve(delivery, run_queue)
        try:
            run_queue.task = self.loop.spawn(body, delivery.label, delivery.context)
        except Exception as error:  # the gate has let them in, so that nothing else would end them
            body.close()
            if self._coming is run_queue:
                self._coming = None
            delivery.fault(error)
            while run_queue.deliveries:
                run_queue.pop().fault(error)

    async def _serve(self, delivery: Delivery[Any], all_of_them: RunQueue) -> None:
        """The body of a task."""
        if self._coming is all_of_them:
            self._coming = None
        loop = self.loop
        task = loop.own_task()
        run_queue: RunQueue | None = all_of_them
        in_a_row = 0
        # Not counting the one of the run queue, which it has from the task's first step on, or only
        # after it if tasks are eager.
        known = references(task) - (all_of_them.task is not None)
        run: Callable[..., Any] | None = None
        try:
            while True:
                gate = delivery.gate
                following: Delivery[Any] | None = None
                if run_queue is not None and not run_queue.deliveries:
                    run_queue = None
                if gate.broken is None:  # else it broke before this; the caller has the reason
                    delivery.run_queue = run_queue
                    gate.task_begins(task, delivery)
                    delivery.tasks = 1
                    value: Any = None
                    error: BaseException | None = None
                    try:
                        if run is None:
                            CURRENT.set(delivery)
                            value = delivery.begin()
                            if type(value) is types.CoroutineType:
                                value = await drive(delivery, value, value.send, value.throw)
                            elif hasattr(value, "__await__"):
                                coro = _await(value)
                                value = await drive(delivery, coro, coro.send, coro.throw)
                        else:
                            value = await drive(*_begin_in(run, delivery))
                    except Abandoned:
                        return
                    except BaseException as raised:  # the author's, for the caller
                        error = raised
                        if isinstance(raised, INTERRUPTS) and not delivery.is_awaited:
                            loop.raise_in_program(raised)
                    finally:
                        delivery.tasks -= 1
                        gate.task_ends(task)
                    if delivery.run_queue is None:
                        run_queue = None  # it has waited, and others are served by another task
                    try:
                        following = delivery.end(value, error)
                    except BaseException as failure:  # a fault of ours, which is not to spread
                        if isinstance(failure, INTERRUPTS):
                            loop.raise_in_program(failure)
                        delivery.fault(failure)
                    # The delivery is in it: a cycle, which would outlive the answer.
                    del delivery.context
                    value = error = None
                if following is None and run_queue is None:
                    return
                now_known = references(task) - (all_of_them.task is not None)
                is_fit = now_known <= known and loop.may_reuse(task)
                if following is not None:
                    in_a_row += 1
                    if in_a_row < SERVED_IN_A_ROW_MAX and is_fit:
                        delivery, run = following, following.context.run
                        continue
                    gate.start(following)
                if run_queue is None:
                    return
                delivery, in_a_row = run_queue.pop(), 0
                if not is_fit:
                    self.send(delivery, run_queue)
                    return
                run = delivery.context.run
        finally:
            loop.ended(task)


def _begin_in(
    run: Callable[..., Any], delivery: Delivery[Any]
) -> tuple[Delivery[Any], Any, Callable[[Any], Any], Callable[[BaseException], Any]]:
    """Begin a delivery in its own context, which is not that of the task."""
    run(CURRENT.set, delivery)
    value = run(delivery.begin)
    if type(value) is not types.CoroutineType:
        value = _await(value) if hasattr(value, "__await__") else _answer(value)
    return delivery, value, partial(run, value.send), partial(run, value.throw)


async def _answer(value: Any) -> Any:
    return value


async def _await(value: Any) -> Any:
    return await value
