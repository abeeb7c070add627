"""One wait of one task on asyncio, and the round in which those that were woken go on.

asyncio lets a task wait for anything that has the methods of a future (`asyncio.isfuture`). What a
future of its own costs more is its end: a handle and a callback of the loop for each. A commit
wakes a thousand tasks, so those that are woken in one round share one callback, which lets them go
on in the order in which they were woken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterator
from contextvars import Context
from typing import Any, NoReturn
from weakref import ref

# asyncio calls `result` of what it waited for, and looks at nothing but whether it raises.
_nothing: Any = bool


class Woken:
    """The tasks that go on in the next round of the loop."""

    __slots__ = ("_due", "_is_round_coming", "_loop", "callbacks", "get_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._due: list[AsyncioWaker] = []
        # Or `letting_go_on` lets them go on before that.
        self._is_round_coming = False
        # Callbacks of the loop in which tasks go on.
        self.callbacks = 0
        # asyncio asks for it at each wait, so it is a function that costs nothing.
        self.get_loop: Callable[[], asyncio.AbstractEventLoop | None] = ref(loop)

    def add(self, waker: AsyncioWaker) -> None:
        """The task of *waker* goes on in the next round."""
        if not self._is_round_coming:
            self._is_round_coming = True
            self._loop.call_soon(self._round)
        self._due.append(waker)

    def _round(self) -> None:
        self._is_round_coming = False
        self.callbacks += 1
        self._go_on()

    def letting_go_on(self, wake: Callable[[Callable[[], None]], object]) -> None:
        """Call *wake* with a function that lets those go on that were woken by then, so that they
        need no callback of their own. Only in a callback of the loop's, outside of any task."""
        self.callbacks += 1
        if self._is_round_coming:
            wake(self._go_on)
            return
        self._is_round_coming = True
        try:
            wake(self._go_on)
        finally:
            self._is_round_coming = False
            due, self._due = self._due, []
            for waker in due:
                self.add(waker)

    def _go_on(self) -> None:
        if not self._due:
            return
        due, self._due = self._due, []
        waiting = iter(due)
        try:
            self._wake(waiting)
        finally:
            # Only if one has raised what ends the program, out of its task: the others go on in the
            # next round.
            for waker in waiting:
                self.add(waker)

    def _wake(self, waiting: Iterator[AsyncioWaker]) -> None:
        for waker in waiting:
            assert waker.callback is not None
            waker.context.run(waker.callback, waker)


class AsyncioWaker:
    """One wait of one task. To asyncio it is a future that the task waits for."""

    __slots__ = (
        "_asyncio_future_blocking",
        "_is_done",
        "_woken",
        "callback",
        "context",
        "get_loop",
    )

    # What wakes the task, once it waits, and where.
    callback: Callable[[Any], object] | None
    context: Context

    def __init__(self, woken: Woken) -> None:
        self._asyncio_future_blocking = False
        self._is_done = False
        self._woken = woken
        self.callback = None
        self.get_loop = woken.get_loop

    def done(self) -> bool:
        return self._is_done

    def wake(self) -> None:
        if not self._is_done:
            self._is_done = True
            if self.callback is not None:
                self._woken.add(self)

    def trap(self) -> AsyncioWaker | None:
        if self._is_done:
            return None
        self._asyncio_future_blocking = True
        return self

    def __await__(self) -> Generator[Any, Any, None]:
        if self.trap() is not None:
            yield self

    # The methods that a task of asyncio calls on a future

    result = _nothing

    def add_done_callback(
        self, callback: Callable[[Any], object], *, context: Context | None = None
    ) -> None:
        assert context is not None
        assert self.callback is None
        self.context = context
        self.callback = callback
        if self._is_done:
            self._woken.add(self)

    def cancel(self, msg: Any = None) -> bool:
        if self._is_done:
            return False
        self._is_done = True
        loop = self._woken.get_loop()
        if self.callback is not None and loop is not None:
            loop.call_soon(self.callback, _Cancelled(msg), context=self.context)
        return True

    # What debuggers and the search for deadlocks look at

    @property
    def _callbacks(self) -> list[tuple[Callable[[Any], object], Context]]:
        return [] if self.callback is None else [(self.callback, self.context)]


class _Cancelled:
    """What a task that was cancelled has waited for."""

    __slots__ = ("_error",)

    def __init__(self, msg: Any) -> None:
        self._error = asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg)

    def result(self) -> NoReturn:
        try:
            raise self._error
        finally:
            del self
