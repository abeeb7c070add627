"""The executor: the tasks that run deliveries.

A task costs more than most deliveries do. So a delivery that is let in takes its first step at
once, as one of a pool of parked tasks: that is the current one meanwhile, and knows nothing of it
when the delivery ends in that step, as most do. When it waits, the task goes on with it.

Other tasks must get their turn, too: so many calls may begin in a row (`rows.py`), and calls within
calls are nested 12 deep at most. What exceeds either is queued for the next round.

Rule: a task runs one delivery at a time, so `current_task()` is honest. Nor does it run another
once other code has kept a reference to it, to cancel it later or to compare tasks.
"""

from __future__ import annotations

import sys
import types
from collections import deque
from collections.abc import Callable
from contextvars import Context
from functools import partial
from typing import Any, Final
from weakref import ref

from attrs import define, field

from durable._cpython.references import references
from durable._cpython.switch import BORROWS
from durable._loop.loop import INTERRUPTS, Loop, Parking

from .abandoned import Abandoned
from .delivery import CURRENT, Delivery, about_to_wait, close, drive
from .entrant import Inside
from .rows import STEPS_IN_A_ROW_MAX, Rows

# First steps within others.
DEPTH_MAX = 12
# Tasks that are kept when there is nothing for them to do.
PARKED_MAX = 64
# From so many running deliveries on, it is a crowd: others will soon do what one does.
CROWD = 8

_WAITS: Final = object()


def _no_task() -> None:
    """In place of a reference to a task: no task was the current one."""


@define(eq=False, slots=True)
class Worker:
    """A task that runs deliveries, and the one that it goes on with."""

    parking: Parking = field(init=False)
    task: Any = field(default=None, init=False)
    # What waits, set by its first step.
    delivery: Delivery[Any] | None = field(default=None, init=False)
    coro: Any = field(default=None, init=False)
    trap: Any = field(default=None, init=False)
    inside: Inside | None = field(default=None, init=False)

    def first_step(self, delivery: Delivery[Any]) -> Any:
        """Run *delivery* up to its first wait, in its own context; returns its value, or _WAITS."""
        CURRENT.set(delivery)
        value = delivery.begin()
        if type(value) is not types.CoroutineType:
            if not hasattr(value, "__await__"):
                return value
            value = _await(value)
        try:
            self.trap = value.send(None)
        except StopIteration as stop:
            return stop.value
        self.coro = value
        return _WAITS


@define(eq=False)
class Executor(Rows):
    """Runs what the gates have let in. Its `start` never suspends."""

    loop: Loop = field(kw_only=True)
    _parked: list[Worker] = field(factory=list, init=False)
    # How many tasks there are, parked or not.
    _workers: int = field(default=0, init=False)
    # Of the tasks, how many are on their way to be parked for the first time.
    _coming: int = field(default=0, init=False)
    _queue: deque[Delivery[Any]] = field(factory=deque, init=False)
    _is_round_coming: bool = field(default=False, init=False)
    # First steps that are under way, one within the other.
    _depth: int = field(default=0, init=False)
    # In which callback of the loop first steps were looked at last, as far as that is known.
    _callbacks: int = field(default=0, init=False)
    # The task that causes the row of first steps, as far as it was looked at.
    _causer: Callable[[], object] = field(init=False)
    # Whether the references to tasks are counted.
    _counts: bool = field(init=False)
    # Whether a task may be lent whatever runs.
    _nests: bool = field(init=False)
    # References to a parked task that no other code knows, learned from the first one; -1, which no
    # task has, where they should be counted and cannot be.
    _references: int = field(init=False)
    # The same of one that runs, at the end of a delivery.
    _references_at_end: int = field(default=sys.maxsize, init=False)

    def __attrs_post_init__(self) -> None:
        self._causer = _no_task
        self._nests = self.loop.nests
        self._counts = BORROWS and self.loop.has_awaitable_tasks
        self._references = -1 if self.loop.has_awaitable_tasks and not BORROWS else sys.maxsize

    @property
    def is_busy(self) -> bool:
        """Whether other deliveries are served in this round of the loop, or the next."""
        return bool(self._queue) or self._workers - len(self._parked) >= CROWD

    def start(self, delivery: Delivery[Any]) -> None:
        """Run *delivery*, which was let in."""
        if self._queue or self._depth >= DEPTH_MAX or not (self._nests or self.loop.may_lend()):
            self._enqueue(delivery)
        else:
            self._serve(delivery)

    def _serve(self, delivery: Delivery[Any]) -> None:
        """Take the first step of *delivery*; of those that its end lets in, too."""
        following: Delivery[Any] | None = delivery
        while following is not None:
            if self._in_a_row >= self._look_at:
                following = self._look(following)
                continue
            worker = self._take()
            if worker is None:
                self._enqueue(following)
                return
            following = self._step(worker, following)

    def _look(self, delivery: Delivery[Any]) -> Delivery[Any] | None:
        """Take the first step of *delivery* and measure it, or let it wait for the next round."""
        if not self._depth:
            callbacks = self.loop.callbacks
            if callbacks != self._callbacks:
                self._callbacks = callbacks
                self._computed_s = 0.0
                self._begin_row()
            elif not self._has_computed:
                task = self.loop.own_task()
                if self._causer() is not task:
                    self._causer = _no_task if task is None else ref(task)
                    self._begin_row()
        worker = self._take() if self._in_a_row < STEPS_IN_A_ROW_MAX else None
        if worker is None:
            self._enqueue(delivery)
            return None
        return self._measured_step(worker, delivery)

    def _measured_step(self, worker: Worker, delivery: Delivery[Any]) -> Delivery[Any] | None:
        """Take a first step, and see how long it takes, with those within it."""
        computed_s, began_s = self._computed_s, self.clock.steady()
        following = self._step(worker, delivery)
        is_long = self._count(self.clock.steady() - began_s, computed_s)
        # Not for a single one: a caller that waits for each of its writes makes only such.
        if is_long and (computed_s or self._has_computed):
            self._ask_for_round()
        return following

    def _step(self, worker: Worker, delivery: Delivery[Any]) -> Delivery[Any] | None:
        """Take the first step of *delivery* as the task of *worker*, which is parked; returns
        the delivery that its end lets in."""
        gate = delivery.gate
        if gate.broken is not None:  # it broke before this; the caller has the reason
            self._parked.append(worker)
            return None
        parking = worker.parking  # not the task: the references to it are counted
        following: Delivery[Any] | None = None
        value: Any = None
        error: BaseException | None = None
        before = parking.enter()
        self._in_a_row += 1
        self._depth += 1
        try:
            gate.task_begins(worker.task, delivery)
            delivery.tasks = 1
            try:
                value = delivery.context.run(worker.first_step, delivery)
                if value is _WAITS:
                    worker.inside = about_to_wait(delivery, worker.coro, worker.trap)
                    worker.delivery = delivery
            except BaseException as raised:  # the author's, for the caller
                error = raised
            if worker.delivery is None:
                following = self._end(delivery, worker, value, error)
        finally:
            error = None  # its traceback holds this frame
            if worker.delivery is not None:
                parking.go_on(worker.trap, before)
            else:
                parking.leave(before)
                if parking.is_fit and references(parking.task) <= self._references:
                    self._parked.append(worker)
                else:
                    parking.dismiss()
            self._depth -= 1
        return following

    def _end(
        self, delivery: Delivery[Any], worker: Worker, value: Any, error: BaseException | None
    ) -> Delivery[Any] | None:
        """The handler of *delivery* has ended; returns the delivery that this lets in."""
        if error is not None and isinstance(error, INTERRUPTS) and not delivery.is_awaited:
            self.loop.raise_in_program(error)
        delivery.tasks -= 1
        delivery.gate.task_ends(worker.task)
        following: Delivery[Any] | None = None
        try:
            following = delivery.end(value, error)
        except BaseException as failure:  # a fault of the library, which must not spread
            if isinstance(failure, INTERRUPTS):
                self.loop.raise_in_program(failure)
            delivery.fault(failure)
        # The delivery is in it: dropping the answer then drops what came with it.
        del delivery.context
        return following

    # The pool

    def _take(self) -> Worker | None:
        """A task that is parked; None if there is none yet."""
        parked = self._parked
        while True:
            while parked:
                worker = parked.pop()
                if not self._counts:
                    return worker
                known = references(worker.parking.task)
                if known <= self._references:
                    self._references = known
                    return worker
                worker.parking.dismiss()  # a program that has asked for all tasks has kept it
            if not self._spawn() or not parked:
                return None

    def _is_kept(self, worker: Worker) -> bool:
        """Whether code has kept the task, which runs, at the end of its delivery."""
        if not self._counts:
            return self._references < 0
        known = references(worker.parking.task)
        self._references_at_end = min(self._references_at_end, known)
        return known > self._references_at_end

    def _spawn(self) -> bool:
        """Make a task. Where tasks are eager it is parked by now."""
        worker = Worker()
        worker.parking = self.loop.parking(
            partial(self._join, worker), partial(self._part, worker), self._is_wanted
        )
        body = self._work(worker)
        self._coming += 1
        self._workers += 1
        try:
            self.loop.spawn(body, "durable worker", Context())
        except Exception as error:  # the gate has let them in, so that nothing else would end them
            body.close()
            self._coming -= 1
            self._workers -= 1
            while self._queue:
                self._queue.popleft().fault(error)
            return False
        return True

    def _join(self, worker: Worker) -> None:
        """The task of *worker* is parked."""
        self._parked.append(worker)
        if self._queue:
            self._ask_for_round()

    def _is_wanted(self) -> bool:
        return bool(self._queue)

    def _part(self, worker: Worker) -> bool:
        """The task of *worker* is cancelled; returns whether it was parked."""
        if worker not in self._parked:
            return False
        self._parked.remove(worker)
        return True

    async def _work(self, worker: Worker) -> None:
        """The body of a task."""
        loop = self.loop
        worker.task = loop.own_task()
        self._coming -= 1
        try:
            while True:
                value: Any = None
                error: BaseException | None = None
                try:
                    value = await worker.parking
                except GeneratorExit:
                    if worker.delivery is not None:
                        close(worker.delivery, worker.coro)
                    raise
                except BaseException as raised:
                    error = raised
                if worker.delivery is None:
                    return
                following = await self._go_on(worker, value, error)
                value = error = None
                if following is not None:
                    self.start(following)
                if not loop.may_reuse(worker.task) or self._is_kept(worker):
                    return
                if len(self._parked) >= PARKED_MAX:
                    return
        except Abandoned:
            return
        finally:
            self._workers -= 1
            loop.ended(worker.task)

    async def _go_on(
        self, worker: Worker, value: Any, error: BaseException | None
    ) -> Delivery[Any] | None:
        """Run the delivery of *worker* to its end."""
        delivery, coro = worker.delivery, worker.coro
        assert delivery is not None
        worker.delivery = worker.coro = worker.trap = None
        run: Callable[..., Any] = delivery.context.run
        send, throw = partial(run, coro.send), partial(run, coro.throw)
        try:
            value = await drive(delivery, coro, send, throw, value, error, inside=worker.inside)
            error = None
        except Abandoned:
            delivery.tasks -= 1
            delivery.gate.task_ends(worker.task)
            raise
        except BaseException as raised:  # the author's, for the caller
            error = raised
        del coro, send, throw
        try:
            return self._end(delivery, worker, value, error)
        finally:
            value = error = None  # its traceback holds this frame

    # The queue

    def _enqueue(self, delivery: Delivery[Any]) -> None:
        """Run *delivery* in the next round."""
        self._queue.append(delivery)
        if self._parked:
            self._ask_for_round()
        elif not self._coming:
            self._spawn()

    def _ask_for_round(self) -> None:
        if not self._is_round_coming:
            self._is_round_coming = True
            self.loop.call_soon(self._round)

    def _round(self) -> None:
        """Run what is in the queue, as far as there are tasks for it."""
        self._is_round_coming = False
        queue, self._queue = self._queue, deque()
        self._computed_s = 0.0
        self._begin_row()
        while queue:
            if self._has_computed:
                self._put_back(queue)
                return
            self._begin_row()
            worker = self._take()
            if worker is None:
                self._wait_for_tasks(queue)
                return
            if self._in_a_row >= self._look_at:
                following = self._measured_step(worker, queue.popleft())
            else:
                following = self._step(worker, queue.popleft())
            if following is not None:
                self._serve(following)
        while len(self._parked) > PARKED_MAX:  # what was likely to wait has not
            self._parked.pop().parking.dismiss()

    def _put_back(self, queue: deque[Delivery[Any]]) -> None:
        """Leave *queue* for a later round, before what has come meanwhile."""
        queue.extend(self._queue)
        self._queue = queue

    def _wait_for_tasks(self, queue: deque[Delivery[Any]]) -> None:
        """All tasks are in use: it is likely that what is in *queue* will wait, too."""
        self._put_back(queue)
        for _ in range(len(queue) - self._coming):
            if not self._spawn():
                return


async def _await(value: Any) -> Any:
    return await value
