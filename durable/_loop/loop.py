"""The event loop as the library needs it: start a task, wake one, wait a round.

Rule: everything that asyncio and Trio do differently is behind `Loop`; no other file asks which of
them runs. A loop belongs to the thread that opened it.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any, Protocol

# A task that runs as long as its loop begins anew so long after it was ended.
BEGINS_ANEW_S = 0.05
# Exceptions that end a program, and not only the code that raised them.
INTERRUPTS = (KeyboardInterrupt, SystemExit)


class Waker(Protocol):
    """One wait of one task."""

    def __await__(self) -> Generator[Any, Any, None]: ...

    def trap(self) -> Any:
        """What the task may yield to the loop once, in place of awaiting this: so a call that waits
        has one thing less under way. None if it has to await this."""

    def wake(self) -> None:
        """Let the task go on in the next round, unless it does already or was cancelled."""

    def done(self) -> bool:
        """Whether the task goes on, or was cancelled."""


class Task(Protocol):
    """A task that the loop owns, as its owner sees it."""

    def cancel(self) -> object:
        """Cancel what the task waits for, once."""


class Parking(Protocol):
    """A parked task of the library's own, which continues what other code has begun as it.

    Between `enter` and `leave`, which come in one step of the loop, the task is the current one,
    and code runs as it. When that code waits, `go_on` has the task wait in its place.
    """

    # The task as other code sees it.
    task: Any

    @property
    def is_fit(self) -> bool:
        """Whether the task, as which code has run, may be parked on: no cancellation is pending in
        it, and no cancel scope was left open in it."""

    def __await__(self) -> Generator[Any, Any, Any]:
        """Park the current task. Returns or raises the outcome of the wait that `go_on` was given;
        returns None if it was dismissed; or raises that it was cancelled."""

    @property
    def enter(self) -> Callable[[], Any]:
        """Makes the task, which is parked, the current one; returns the one before, for `leave`."""

    @property
    def leave(self) -> Callable[[Any], object]:
        """Makes the task current again that was before."""

    def go_on(self, trap: Any, before: Any) -> None:
        """Leave, and let the task wait for *trap*, which the code that ran as it has yielded."""

    def dismiss(self) -> None:
        """Let the task, which is parked, come to its end."""


class Waiting(Protocol):
    """A call to come."""

    def cancel(self) -> object:
        """Cancel the call."""


class Loop(Protocol):
    """One running event loop, and the tasks of one runtime in it."""

    name: str
    # The loop's thread, as numbered by `here`.
    thread: int

    def is_here(self) -> bool:
        """Whether the caller runs on this loop."""

    def has_ended(self) -> bool:
        """Whether the loop was closed, and will never run again. From any thread."""

    def spawn(
        self, body: Coroutine[Any, Any, None], name: str, context: Context | None = None
    ) -> Task:
        """Start a task of the library's own, in *context* or in a copy of the caller's.

        The body must not raise, and calls `ended` at its end. `task_starts` ignores it.
        """

    def keep_running(self, body: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        """Run `body()` in a task until the loop is closed. It begins anew if it was cancelled,
        perhaps by a program that cancels all tasks, or if it has failed, which is logged."""

    def parking(
        self,
        joins: Callable[[], None],
        leaves: Callable[[], bool],
        is_wanted: Callable[[], bool],
    ) -> Parking:
        """Where one task that `spawn` started can be parked: *joins* is called when it is, and
        *leaves* when it is cancelled there, which returns whether it was parked yet. *is_wanted*
        says whether it will soon be entered."""

    # Whether code that has kept a task can await it, or cancel it.
    has_awaitable_tasks: bool
    # Whether a parked task may be entered within a step of another.
    nests: bool

    def may_lend(self) -> bool:
        """Whether a parked task may be entered now."""

    def ended(self, task: Any) -> None:
        """The body of *task*, which `spawn` started, has nothing more to do."""

    def waker(self, *, shield: bool = False) -> Waker:
        """A wait for one task. *shield* keeps Trio from cancelling it; asyncio always may."""

    def letting_go_on(self, wake: Callable[[Callable[[], None]], object]) -> None:
        """Call *wake* with a function that lets the tasks go on that it has woken by then, where
        the backend can and this is a callback of the loop's; else with one that does nothing."""

    @property
    def callbacks(self) -> int:
        """In how many callbacks of the loop tasks went on: where this has risen, others have had
        their turn. It need not rise in each round."""

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call back in the next round of the loop."""

    def call_soon_threadsafe(self, callback: Callable[[], object]) -> None:
        """Call back on the loop's thread. From any thread; dropped once the loop has ended."""

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Waiting:
        """Call back after so many seconds on the loop's own clock, whatever other one is used."""

    def watch_readable(self, sock: socket.socket, callback: Callable[[], None]) -> None:
        """Call back, in an empty context, whenever there is something to read at *sock*, which does
        not block, or its peer has gone. The callback must not raise."""

    def when_writable(self, sock: socket.socket, callback: Callable[[], None]) -> None:
        """Call back once, in an empty context, when *sock* takes bytes again. The callback must not
        raise."""

    def forget(self, sock: socket.socket) -> None:
        """Stop calling back for *sock*: it is about to be closed."""

    def interrupt(self, task: Any, make_error: Callable[[], BaseException]) -> bool:
        """Wake *task*, a program's too, if it waits and that can be: by an error of the backend's,
        or by the one that *make_error* makes. Once: what it awaits afterwards is left alone."""

    def was_woken(self, task: Any) -> None:
        """*task* is the current one, and goes on: perhaps because it was interrupted."""

    def may_stop_at(self, coro: Any) -> bool:
        """Whether *coro* may get an error in place of the result of its wait, so that nothing which
        it was granted there is lost."""

    def may_reuse(self, task: Task) -> bool:
        """Whether *task*, at the end of its work, may be parked: no cancellation is pending in it,
        and no cancel scope was left open in it."""

    def is_cancellation(self, error: BaseException) -> bool:
        """Whether *error* is the backend's cancellation of a task."""

    def raise_in_program(self, error: BaseException) -> None:
        """Let *error*, one of INTERRUPTS that was raised in code of an object, reach the program in
        a round or two; unless it is withdrawn, since a caller has got it meanwhile."""

    def withdraw(self, error: BaseException) -> None:
        """A caller has got *error*."""

    def keep_interrupts(self) -> BaseException | None:
        """Let no interrupt reach the program from now on; returns the first that has not."""

    async def finish(self, body: Coroutine[Any, Any, None]) -> None:
        """Run *body* to its end, however often the current task is cancelled meanwhile."""

    def own_task(self) -> Any:
        """The running task, or None; one that `spawn` started can be cancelled by it."""

    def task_at(self, waker: Waker) -> Any:
        """The task that waits at *waker*, as `own_task` returns it there; None if not known."""

    def is_awaited_by(self, task: Any, other: Any) -> bool:
        """Whether *other* cannot go on, or not end, before *task* has ended, as far as is known:
        it awaits it, by itself or among others, or has it in a task group or a nursery."""

    def end_quietly(self) -> None:
        """End a task of a broken object's code, without a report of how it has ended."""

    async def leave_scopes(self) -> None:
        """Leave the cancel scopes of the current task that abandoned code has left open."""

    async def open(self) -> None:
        """Begin to own tasks."""

    async def close(self) -> None:
        """Cancel the tasks that are left, and return when there are none."""


def not_now() -> None:
    """The tasks that were woken go on in the next round."""


def which_backend() -> str:
    """`asyncio` or `trio`; RuntimeError if no event loop runs."""
    # Another thread may be importing it at this moment, and then this thread does not run Trio.
    lowlevel = getattr(sys.modules.get("trio"), "lowlevel", None)
    in_trio_run = getattr(lowlevel, "in_trio_run", None)
    if in_trio_run is not None and in_trio_run():
        return "trio"
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "durable works inside a running event loop: call it from async code that asyncio, "
            "Trio or anyio.run() runs"
        ) from None
    return "asyncio"
