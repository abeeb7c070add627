"""The loop on asyncio: the default loop, uvloop, with and without eager tasks."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import socket
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from typing import Any

import anyio
from attrs import define, field

from durable._model.log import log

from . import here
from .asyncio_parking import AsyncioParking, Swap, swap_in
from .asyncio_waker import AsyncioWaker, Woken
from .loop import BEGINS_ANEW_S, INTERRUPTS, Waker, not_now

# If Python can, a task's first step is taken at once, inside of its starter's.
EAGER: dict[str, Any] = {"eager_start": True} if sys.version_info >= (3, 12) else {}

# An eagerly started task runs inside its starter's frame. A chain of objects that call each other
# would nest as deep as it is long, so from this depth on tasks start in the next round.
EAGER_DEPTH_MAX = 12


# A task may wait for another one through several of asyncio's own futures: a shield in a gather.
FUTURES_DEEP_MAX = 4


class _Task(asyncio.Task[None]):
    """A task that takes its first step whatever happens: what it runs was let in already.

    If it is cancelled before that it would not even begin, and its object would wait for ever.
    """

    __slots__ = ()

    def cancel(self, msg: Any = None) -> bool:
        coro: Any = self.get_coro()
        if inspect.getcoroutinestate(coro) != inspect.CORO_CREATED:
            return super().cancel(msg)
        # The step was scheduled before, so it comes before.
        self.get_loop().call_soon(super().cancel, msg)
        return True


def _anyio_states() -> Any:
    # Private, so it may disappear; then scopes that an author leaves open are not seen.
    return getattr(importlib.import_module("anyio._backends._asyncio"), "_task_states", {})


def _closed_over(callback: Any) -> list[Any]:
    """The futures that *callback* may set; none if others may set them without it."""
    cells = getattr(callback, "__closure__", None) or ()
    names = getattr(getattr(callback, "__code__", None), "co_freevars", ())
    found: dict[Any, Any] = dict(enumerate(getattr(callback, "args", ())))
    for name, cell in zip(names, cells, strict=False):
        with suppress(ValueError):  # an empty one
            found[name] = cell.cell_contents
    # Of asyncio.wait: for the first of several, or for some time.
    is_of_first = found.get("return_when") == asyncio.FIRST_COMPLETED and found.get("counter") != 1
    if is_of_first or found.get("timeout_handle") is not None:
        return []
    return [each for each in found.values() if isinstance(each, asyncio.Future)]


def _wakes(future: Any, other: Any, depth: int = FUTURES_DEEP_MAX) -> bool:
    """Whether *other* is done when *future* is, or by it: through asyncio's wait, wait_for, shield
    and gather, whose callbacks close over it."""
    return any(
        each is other
        or (depth > 1 and not isinstance(each, asyncio.Task) and _wakes(each, other, depth - 1))
        for callback, _ in getattr(future, "_callbacks", None) or ()
        for each in _closed_over(callback)
    )


@define(eq=False)
class AsyncioLoop:
    name = "asyncio"
    has_awaitable_tasks = True
    nests = True
    thread: int = field(factory=here.thread_now, init=False)

    _loop: asyncio.AbstractEventLoop = field(factory=asyncio.get_running_loop, init=False)
    _tasks: set[asyncio.Task[None]] = field(factory=set, init=False)
    _swap: Swap = field(init=False)
    _depth: int = field(default=0, init=False)
    # Tasks that `interrupt` has cancelled, and that have not gone on since.
    _interrupted: set[asyncio.Task[Any]] = field(factory=set, init=False)
    _is_closing: bool = field(default=False, init=False)
    # Interrupts that have not reached the program.
    _interrupts: list[BaseException] = field(factory=list, init=False)
    _keeps_interrupts: bool = field(default=False, init=False)
    # The states of anyio by task, with the cancel scope that each is in.
    _anyio_states: Any = field(factory=_anyio_states, init=False)

    _woken: Woken = field(init=False)

    @_swap.default
    def _swap_in(self) -> Swap:
        return swap_in(self._loop)

    @_woken.default
    def _woken_in(self) -> Woken:
        return Woken(self._loop)

    if sys.version_info >= (3, 12):

        def is_here(self) -> bool:
            # Made for this question: None on another thread, and in a forked child.
            return asyncio._get_running_loop() is self._loop

    else:

        def is_here(self) -> bool:
            # There that makes a system call for the pid, which takes longer than all else.
            return here.thread() == self.thread and self._loop.is_running()

    def has_ended(self) -> bool:
        return self._loop.is_closed()

    def spawn(
        self, body: Coroutine[Any, Any, None], name: str, context: Context | None = None
    ) -> asyncio.Task[None]:
        # Not loop.create_task: the library's own tasks are not for the program's task factory.
        if EAGER and self._depth < EAGER_DEPTH_MAX:
            self._depth += 1
            try:
                task = _Task(body, loop=self._loop, name=name, context=context, **EAGER)
            finally:
                self._depth -= 1
            if task.done():
                return task
        else:
            task = _Task(body, loop=self._loop, name=name, context=context)
        # The loop itself keeps only a weak reference. No done callback, which would cost a round of
        # the loop for each task: the body calls `ended` at its end.
        self._tasks.add(task)
        return task

    def keep_running(self, body: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        self.spawn(self._keep(body, name), name)

    async def _keep(self, body: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        try:
            await body()
        except asyncio.CancelledError:
            pass  # by `close`, or by a program that cancels all tasks
        except INTERRUPTS as error:
            self.raise_in_program(error)
        except Exception:
            log.exception("the task %r failed, and begins anew", name)
        finally:
            self.ended(asyncio.current_task())
        if not self._is_closing:
            # Not at once: a loop that ends cancels its tasks, and must not get another one then.
            self._loop.call_later(BEGINS_ANEW_S, self._begin_anew, body, name)

    def _begin_anew(self, body: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        if not self._is_closing:
            self.keep_running(body, name)

    def parking(
        self,
        joins: Callable[[], None],
        leaves: Callable[[], bool],
        is_wanted: Callable[[], bool],
    ) -> AsyncioParking:
        return AsyncioParking(self._loop, self._swap, joins, leaves, is_wanted)

    def may_lend(self) -> bool:
        return True

    def ended(self, task: Any) -> None:
        self._tasks.discard(task)
        self._interrupted.discard(task)

    def waker(self, *, shield: bool = False) -> AsyncioWaker:
        return AsyncioWaker(self._woken)

    def letting_go_on(self, wake: Callable[[Callable[[], None]], object]) -> None:
        if asyncio.current_task(self._loop) is None and self.is_here():
            self._woken.letting_go_on(wake)
        else:
            wake(not_now)

    @property
    def callbacks(self) -> int:
        return self._woken.callbacks

    def call_soon(self, callback: Callable[[], None]) -> None:
        self._loop.call_soon(callback)

    def call_soon_threadsafe(self, callback: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the loop was closed meanwhile: no code is left to call
            self._loop.call_soon_threadsafe(callback)

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        return self._loop.call_later(delay_s, callback, context=Context())

    def watch_readable(self, sock: socket.socket, callback: Callable[[], None]) -> None:
        Context().run(self._loop.add_reader, sock, callback)

    def when_writable(self, sock: socket.socket, callback: Callable[[], None]) -> None:
        def once() -> None:
            self._loop.remove_writer(sock)
            callback()

        Context().run(self._loop.add_writer, sock, once)

    def forget(self, sock: socket.socket) -> None:
        if not self._loop.is_closed():
            self._loop.remove_reader(sock)
            self._loop.remove_writer(sock)

    def interrupt(self, task: Any, make_error: Callable[[], BaseException]) -> bool:
        if task is asyncio.current_task():
            return False
        if task.cancel():
            self._interrupted.add(task)
        return True

    def was_woken(self, task: Any) -> None:
        if task in self._interrupted:
            self._interrupted.discard(task)
            task.uncancel()  # else time-outs in the clean-up would not recognize their own

    def may_stop_at(self, coro: Any) -> bool:
        return True  # as a cancellation does, when it comes late

    def may_reuse(self, task: Any) -> bool:
        # A cancellation that the task has not received yet reaches it when it is parked; and an
        # open cancel scope refers to its task, which keeps the task from being reused.
        return not task.cancelling()

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
        if waits_for is not None and _wakes(task, waits_for):
            return True
        state = self._anyio_states.get(task)
        scope = None if state is None else state.cancel_scope
        while scope is not None:
            host = getattr(scope, "_host_task", None)
            if host is not task:
                return host is other
            scope = getattr(scope, "_parent_scope", None)
        return False

    def raise_in_program(self, error: BaseException) -> None:
        self._interrupts.append(error)
        # A caller that is awake already takes its step in the next round.
        self._loop.call_soon(self._loop.call_soon, self._raise, error)

    def withdraw(self, error: BaseException) -> None:
        self._interrupts = [other for other in self._interrupts if other is not error]

    def keep_interrupts(self) -> BaseException | None:
        self._keeps_interrupts = True
        return self._interrupts[0] if self._interrupts else None

    def _raise(self, error: BaseException) -> None:
        if not self._keeps_interrupts and any(other is error for other in self._interrupts):
            self.withdraw(error)
            raise error  # out of a callback of the loop, which passes it to the code that runs it

    def end_quietly(self) -> None:
        raise asyncio.CancelledError

    async def leave_scopes(self) -> None:
        # asyncio lets a task end wherever its code is suspended. anyio would keep what is inside of
        # a scope that is never left, and the scope's timer.
        task = asyncio.current_task()
        state = self._anyio_states.get(task)
        while state is not None and getattr(state.cancel_scope, "_host_task", None) is task:
            state.cancel_scope.__exit__(None, None, None)

    async def finish(self, body: Coroutine[Any, Any, None]) -> None:
        task = asyncio.Task(body, loop=self._loop, name="durable closes")
        # A program that cancels all tasks, as a loop does at its end, must not find this one.
        asyncio._unregister_task(task)
        cancelled: asyncio.CancelledError | None = None
        with anyio.CancelScope(shield=True):
            while not task.done():
                try:
                    await asyncio.wait([task])
                except asyncio.CancelledError as error:
                    cancelled = error
        task.result()
        if cancelled is not None:
            raise cancelled

    async def open(self) -> None:
        """Nothing to prepare: the set of tasks is enough."""

    async def close(self) -> None:
        self._is_closing = True
        while tasks := [task for task in self._tasks if not task.done()]:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        self._tasks.clear()
