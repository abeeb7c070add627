"""The thread that an event loop runs in, and how other threads call it and wait.

A call is one hop there and one back: a callback of the loop makes it, and its answer releases the
lock that the caller waits at. No task is made for it, as anyio's portal does, which costs twice the
time.

Rule: every waiting thread is woken, whatever becomes of the loop.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import anyio

from durable._gates.futures import Answer, PendingAnswer, when_done
from durable._loop.loop import INTERRUPTS, Loop
from durable._model.errors import DurableError, RuntimeClosed, WrongLoop
from durable._runtime.runtime import Runtime


class WrongThread(WrongLoop):
    """A blocking runtime was used where it would wait for ever: in the thread of its own event
    loop, or in a process that was forked off the one that opened it."""

    def __init__(self, message: str) -> None:
        DurableError.__init__(self, message)


class Opening(Protocol):
    """What opens a store and closes it: `durable.open(...)`."""

    async def start(self) -> Runtime: ...
    async def close(self) -> None: ...


class Hop:
    """One call on the loop, and the thread that waits for its result."""

    __slots__ = ("_error", "_is_done", "_lock", "_value")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self._is_done = False
        self._error: BaseException | None = None
        self._value: Any = None

    # On the loop's thread

    def resolve(self, value: Any) -> None:
        if not self._is_done:
            self._is_done = True
            self._value = value
            self._lock.release()

    def fail(self, error: BaseException) -> None:
        if not self._is_done:
            self._is_done = True
            self._error = error
            self._lock.release()

    # On the waiting thread

    def wait(self) -> Any:
        """The result; Ctrl-C ends the waiting, and the call goes on all the same."""
        self._lock.acquire()
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # its traceback holds this frame
        return self._value


class LoopThread:
    """An event loop in a thread of its own, with one open store."""

    def __init__(self, opening: Opening, backend: str, backend_options: dict[str, Any]) -> None:
        self._opening = opening
        self._backend = backend
        self._backend_options = backend_options
        self._pid = os.getpid()
        # The calls that are waited for; None once no more can be made.
        self._waiting: set[Hop] | None = set()
        self._guard = threading.Lock()
        self._is_closing = False
        self._loop: Loop | None = None
        self._stop: anyio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="durable runtime", daemon=True)
        # The wrappers for values that belong to the loop, by type.
        self.wrappers: dict[type, Callable[[LoopThread, Any], Any]] = {}

    # The thread

    def open(self) -> Runtime:
        """Start the thread, and open the store. Raises what opening raises."""
        opened = Hop()
        self._opened = opened
        self._thread.start()
        try:
            runtime: Runtime = opened.wait()
        except BaseException:  # perhaps an interrupt: then close as soon as it is open
            self._is_closing = True
            self._post(self._set_stop)
            raise
        return runtime

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            anyio.run(self._main, backend=self._backend, backend_options=self._backend_options)
        except BaseException as raised:
            error = raised
        finally:
            self._give_up(error)

    async def _main(self) -> None:
        self._stop = anyio.Event()
        try:
            runtime = await self._opening.start()
        except BaseException as error:
            self._opened.fail(error)
            return
        self._loop = runtime._services.loop
        self._opened.resolve(runtime)
        try:
            if not self._is_closing:
                await self._stop.wait()
        finally:
            with anyio.CancelScope(shield=True):
                await self._opening.close()

    def _set_stop(self) -> None:
        if self._stop is not None:
            self._stop.set()

    def _give_up(self, error: BaseException | None) -> None:
        """The loop has ended: wake every waiting thread with an error."""
        with self._guard:
            left, self._waiting = self._waiting or set(), None
        for hop in left:
            closed = RuntimeClosed("the runtime was closed while the call was under way")
            closed.__cause__ = error
            hop.fail(closed)

    def close(self) -> None:
        """Close the store, and wait until the thread has ended. Closing again does nothing."""
        if os.getpid() != self._pid:
            return  # a forked child has neither the thread nor the store
        if threading.get_ident() == self._thread.ident:
            raise WrongThread(
                "the runtime cannot be closed from its own event loop, in which code of its "
                "objects runs; close it in the thread that opened it"
            )
        self._is_closing = True
        self._post(self._set_stop)
        self._thread.join()

    # Calling

    def ask(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The result of `fn(*args, **kwargs)`, called on the loop; awaited there if it is
        awaitable."""
        hop = Hop()
        self._begin(hop)
        try:
            self._post(lambda: self._make(hop, fn, args, kwargs))
            return hop.wait()
        finally:
            with self._guard:
                if self._waiting is not None:
                    self._waiting.discard(hop)

    def _begin(self, hop: Hop) -> None:
        if os.getpid() != self._pid:
            raise WrongThread(
                "the runtime was opened before this process was forked off, and its event loop "
                "stayed behind; open a store in each process, after the fork"
            )
        if threading.get_ident() == self._thread.ident:
            raise WrongThread(
                "a blocking call in the runtime's own event loop, in which code of its objects "
                "runs, would wait for itself; there, take the stubs and namespaces of self.env, "
                "and await them"
            )
        with self._guard:
            if self._is_closing or self._waiting is None:
                raise RuntimeClosed("the runtime is closed; open the store again")
            self._waiting.add(hop)

    def _post(self, callback: Callable[[], None]) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(callback)

    # On the loop

    def _make(
        self, hop: Hop, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        try:
            made = fn(*args, **kwargs)
        except BaseException as error:
            self._fail(hop, error)
            return
        if isinstance(made, PendingAnswer):
            when_done(made, lambda: self._take(hop, made))
        elif isinstance(made, Answer) and made.is_done:
            self._take(hop, made)
        elif hasattr(made, "__await__"):
            assert self._loop is not None
            self._loop.spawn(self._await(hop, made), "durable blocking call")
        else:
            hop.resolve(made)

    def _take(self, hop: Hop, answer: Answer[Any]) -> None:
        """Pass on the answer, which has come."""
        try:
            answer.send(None)
        except StopIteration as stop:
            hop.resolve(stop.value)
        except BaseException as error:
            self._fail(hop, error)

    async def _await(self, hop: Hop, awaitable: Awaitable[Any]) -> None:
        loop = self._loop
        assert loop is not None
        try:
            hop.resolve(await awaitable)
        except BaseException as error:
            if loop.is_cancellation(error):
                hop.fail(RuntimeClosed("the runtime was closed while the call was under way"))
                raise
            self._fail(hop, error)
        finally:
            loop.ended(loop.own_task())

    def _fail(self, hop: Hop, error: BaseException) -> None:
        if isinstance(error, INTERRUPTS) and self._loop is not None:
            self._loop.withdraw(error)  # the waiting thread gets it
        hop.fail(error)
