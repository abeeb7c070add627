"""The loop on Trio.

The tasks live in a nursery that a system task holds open, and not in one around the caller's body:
so an exception of the body leaves `durable.open` as it is, in no group.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import Any, NoReturn
from weakref import WeakKeyDictionary, ref

import trio
from attrs import define, field
from outcome import Value

from durable._model.log import log

from . import here
from .loop import BEGINS_ANEW_S, INTERRUPTS, not_now
from .sleeping import chain
from .trio_parking import TrioParking
from .trio_starts import own_start
from .trio_waker import TrioWaker

# How often to check whether the program's task has come to a wait, to raise an interrupt there.
LOOKS_EVERY_S = 0.01


@define(eq=False)
class TrioTask:
    """A task on Trio; if it is the library's own, with the scope by which it is cancelled."""

    loop: TrioLoop | None = None
    scope: trio.CancelScope = field(factory=trio.CancelScope)
    # None before it begins. Weak, since the tables below have it by that very task.
    task: ref[trio.lowlevel.Task] | None = None

    def cancel(self) -> None:
        self.scope.cancel()


@define(eq=False)
class TrioLoop:
    name = "trio"
    has_awaitable_tasks = False
    nests = False

    _token: trio.lowlevel.TrioToken = field(factory=trio.lowlevel.current_trio_token, init=False)
    thread: int = field(factory=here.thread_now, init=False)
    _nursery: trio.Nursery | None = field(default=None, init=False)
    _closed: trio.Event = field(factory=trio.Event, init=False)
    _rounds: trio.lowlevel.Task | None = field(default=None, init=False)
    _rounds_asleep: bool = field(default=False, init=False)
    _soon: list[Callable[[], None]] = field(factory=list, init=False)
    # The sockets that are watched, each with its callback for when it can be read.
    _readers: dict[socket.socket, Callable[[], None]] = field(factory=dict, init=False)
    # The program's task that an interrupt is raised in.
    _opener: trio.lowlevel.Task | None = field(default=None, init=False)
    # Interrupts that have not reached the program.
    _interrupts: list[BaseException] = field(factory=list, init=False)
    _keeps_interrupts: bool = field(default=False, init=False)

    def is_here(self) -> bool:
        try:
            is_token = trio.lowlevel.current_trio_token() is self._token
        except RuntimeError:
            return False
        return is_token and here.thread() == self.thread  # a forked child has the token too

    def has_ended(self) -> bool:
        try:
            self._token.run_sync_soon(int)  # the one call of a token that shows whether it ended
        except trio.RunFinishedError:
            return True
        return False

    def spawn(
        self, body: Coroutine[Any, Any, None], name: str, context: Context | None = None
    ) -> TrioTask:
        assert self._nursery is not None
        task = TrioTask(self)
        start = self._nursery.start_soon
        own_start.append(task)
        try:
            if context is None:
                start(_run_in_scope, task, body, name=name)
            else:
                context.run(partial(start, _run_in_scope, task, body, name=name))
        finally:
            own_start.pop()
        return task

    def keep_running(self, body: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        self.spawn(self._keep(body, name), name)

    async def _keep(self, body: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        while True:
            try:
                await body()
            except INTERRUPTS as error:
                self.raise_in_program(error)
            except Exception:
                log.exception("the task %r failed, and begins anew", name)
            await trio.sleep(BEGINS_ANEW_S)

    def parking(
        self,
        joins: Callable[[], None],
        leaves: Callable[[], bool],
        is_wanted: Callable[[], bool],
    ) -> TrioParking:
        return TrioParking(_may_park, joins, leaves)

    def may_lend(self) -> bool:
        # Not while a task of the library is about to wait: what it waits for must not come before
        # Trio knows that it waits.
        try:
            return trio.lowlevel.current_task() not in _own_tasks
        except RuntimeError:  # between the steps of tasks
            return False

    def ended(self, task: Any) -> None:
        """Nothing to do: the nursery knows."""

    callbacks = 0

    def letting_go_on(self, wake: Callable[[Callable[[], None]], object]) -> None:
        wake(not_now)  # Trio alone lets its tasks go on

    def waker(self, *, shield: bool = False) -> TrioWaker:
        return TrioWaker(shield, self.thread)

    def call_soon(self, callback: Callable[[], None]) -> None:
        self._soon.append(callback)
        if self._rounds_asleep:
            assert self._rounds is not None
            self._rounds_asleep = False
            trio.lowlevel.reschedule(self._rounds, Value(None))

    def call_soon_threadsafe(self, callback: Callable[[], object]) -> None:
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._call, callback)

    def _call(self, callback: Callable[[], object]) -> None:
        """Call back; an exception would end the program on Trio, so it is logged."""
        try:
            callback()
        except INTERRUPTS as error:
            self.raise_in_program(error)
        except Exception:
            log.exception("a step of the runtime failed")

    def may_reuse(self, task: TrioTask) -> bool:
        return _may_park(trio.lowlevel.current_task())

    def is_cancellation(self, error: BaseException) -> bool:
        return isinstance(error, trio.Cancelled)

    def raise_in_program(self, error: BaseException) -> None:
        self._interrupts.append(error)
        # A caller that is awake already takes its step in the next round.
        self.call_soon(lambda: self.call_soon(lambda: self._raise(error)))

    def withdraw(self, error: BaseException) -> None:
        self._interrupts = [other for other in self._interrupts if other is not error]

    def keep_interrupts(self) -> BaseException | None:
        self._keeps_interrupts = True
        return self._interrupts[0] if self._interrupts else None

    def _raise(self, error: BaseException) -> None:
        if self._is_to_be_raised(error) and self._nursery is not None:
            self._nursery.start_soon(self._raise_in_opener, error)

    def _is_to_be_raised(self, error: BaseException) -> bool:
        return not self._keeps_interrupts and any(other is error for other in self._interrupts)

    async def _raise_in_opener(self, error: BaseException) -> None:
        """Raise *error* where the task waits that opened the runtime: as Trio does with Ctrl-C in
        its main task, since an error in a task of the library would be an internal one to Trio."""

        def reraise() -> NoReturn:
            self.withdraw(error)
            raise error

        opener: Any = self._opener
        while self._is_to_be_raised(error):
            if opener._abort_func is not None:  # else it does not wait, or has ended
                opener._attempt_abort(reraise)
            await trio.sleep(LOOKS_EVERY_S)

    async def finish(self, body: Coroutine[Any, Any, None]) -> None:
        with trio.CancelScope(shield=True):
            await body

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> TrioTask:
        async def wait() -> None:
            await trio.sleep(delay_s)
            callback()

        return self.spawn(wait(), "durable clean-up", Context())

    def watch_readable(self, sock: socket.socket, callback: Callable[[], None]) -> None:
        async def watch() -> None:
            with suppress(trio.ClosedResourceError):  # it is forgotten
                while self._readers.get(sock) is callback:
                    await trio.lowlevel.wait_readable(sock)
                    self._call(callback)

        self._readers[sock] = callback
        self.spawn(watch(), "durable reads a socket", Context())

    def when_writable(self, sock: socket.socket, callback: Callable[[], None]) -> None:
        async def wait() -> None:
            with suppress(trio.ClosedResourceError):  # as above
                await trio.lowlevel.wait_writable(sock)
                callback()

        self.spawn(wait(), "durable writes to a socket", Context())

    def forget(self, sock: socket.socket) -> None:
        self._readers.pop(sock, None)
        with suppress(RuntimeError):  # the loop has ended
            trio.lowlevel.notify_closing(sock)

    def interrupt(self, task: TrioTask, make_error: Callable[[], BaseException]) -> bool:
        # As Trio delivers a KeyboardInterrupt. A cancel scope, once cancelled, would cancel all
        # that the code awaits in its `finally`, too.
        waiting: Any = None if task.task is None else task.task()
        if waiting is None or waiting._abort_func is None:
            return False

        def raise_error() -> NoReturn:
            raise make_error()

        waiting._attempt_abort(raise_error)
        return True

    def was_woken(self, task: TrioTask) -> None:
        """Nothing to do: Trio does not count wake-ups."""

    def may_stop_at(self, coro: Any) -> bool:
        # Trio's own cancellation never comes in place of a result. So a lock that was granted in
        # this very round must be taken, and given back by the code that has asked for it.
        return any(code in _GRANTING_NOTHING for code, _ in chain(coro))

    def own_task(self) -> TrioTask | None:
        try:
            current = trio.lowlevel.current_task()
        except RuntimeError:
            return None
        return _handle_of(current)

    def task_at(self, waker: Any) -> TrioTask | None:
        task = waker._task
        return None if task is None else _handle_of(task)

    def is_awaited_by(self, task: TrioTask, other: TrioTask) -> bool:
        child = None if task.task is None else task.task()
        if child is None or child.parent_nursery is None:
            return False
        return _handle_of(child.parent_nursery.parent_task) is other

    def end_quietly(self) -> None:
        """Nothing more to do: a Trio task that returns is reported to no handler."""

    async def leave_scopes(self) -> None:
        await _leave_all()

    async def open(self) -> None:
        self._opener = trio.lowlevel.current_task()
        started = trio.Event()
        trio.lowlevel.spawn_system_task(self._own_tasks, started, name="durable")
        # Shielded: it takes two rounds, and a loop that is half open could not be closed.
        with trio.CancelScope(shield=True):
            await started.wait()

    async def close(self) -> None:
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await self._closed.wait()

    async def _own_tasks(self, started: trio.Event) -> None:
        try:
            async with trio.open_nursery() as self._nursery:
                self._nursery.start_soon(self._count_rounds)
                started.set()
                await trio.sleep_forever()
        finally:
            self._closed.set()

    async def _count_rounds(self) -> None:
        """Run the callbacks of `call_soon`, once a round of Trio's loop."""
        self._rounds = trio.lowlevel.current_task()

        def abort(_: object) -> trio.lowlevel.Abort:
            self._rounds_asleep = False
            return trio.lowlevel.Abort.SUCCEEDED

        while True:
            if self._soon:
                await trio.lowlevel.checkpoint()
            else:
                self._rounds_asleep = True
                await trio.lowlevel.wait_task_rescheduled(abort)
            soon, self._soon = self._soon, []
            for callback in soon:
                self._call(callback)


# The tasks that `spawn` started, by Trio's task.
_own_tasks: WeakKeyDictionary[trio.lowlevel.Task, TrioTask] = WeakKeyDictionary()
# Other tasks that run code of objects.
_foreign_tasks: WeakKeyDictionary[trio.lowlevel.Task, TrioTask] = WeakKeyDictionary()


def _handle_of(current: trio.lowlevel.Task) -> TrioTask:
    task = _own_tasks.get(current)
    if task is None:
        task = _foreign_tasks.get(current)
    if task is None:
        task = _foreign_tasks[current] = TrioTask(task=ref(current))
    return task


def _may_park(current: trio.lowlevel.Task) -> bool:
    scope: trio.CancelScope = _own_tasks[current].scope
    return not scope.cancel_called and not _is_inside(current, scope)


# A wait in one of these returns nothing that could be lost.
_GRANTING_NOTHING = {
    trio.sleep.__code__,
    trio.sleep_until.__code__,
    trio.sleep_forever.__code__,
    trio.lowlevel.checkpoint.__code__,
    trio.Event.wait.__code__,
    TrioWaker.__await__.__code__,
}


async def _run_in_scope(task: TrioTask, body: Coroutine[Any, Any, None]) -> None:
    current = trio.lowlevel.current_task()
    _own_tasks[current] = task
    task.task = ref(current)
    with task.scope:
        try:
            await body
        except INTERRUPTS as error:  # Ctrl-C in code of the library
            assert task.loop is not None
            task.loop.raise_in_program(error)
        except Exception:
            log.exception("the task %r failed", current.name)
        if _is_inside(current, task.scope):
            log.error(
                "the code that %s() ran has ended inside of a cancel scope or a nursery that it "
                "had entered, in an async generator perhaps that was left in the middle; close "
                "what you enter: `async with aclosing(generator)`",
                current.name,
            )
            await _leave_all()


def _is_inside(current: trio.lowlevel.Task, scope: Any) -> bool:
    """Whether code that *current* ran within *scope* is inside of others or of nurseries."""
    return current._cancel_status is not scope._cancel_status or bool(current._child_nurseries)


async def _leave_all() -> None:
    """Leave the scopes and nurseries that code of the current task is inside of, or will be."""
    task = trio.lowlevel.current_task()
    nurseries = task.child_nurseries
    with trio.CancelScope(shield=True):
        for nursery in nurseries:
            nursery.cancel_scope.cancel()
        # The tasks in them are of the same object and end by themselves, unless they are shielded;
        # there is no callback for when, so this checks now and then.
        while any(nursery.child_tasks for nursery in nurseries):
            await trio.sleep(0.01)
    # Trio takes a task that ends inside its own nursery for a programming error. The list that it
    # shows is a copy.
    task._child_nurseries.clear()
    # So it does with scopes; and the one around a scope that is never left has it for ever.
    own = _own_tasks.get(task)
    around: Any = task.parent_nursery if own is None else own.scope
    began = around._cancel_status
    while task._cancel_status is not began:
        task._cancel_status._scope.__exit__(None, None, None)
