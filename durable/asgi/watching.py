"""Noticing that a client has gone away while its request is being answered.

To watch for it takes a task, which costs as much as a short request altogether. So that begins only
when the response has taken a while.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

import anyio

from durable import Request, Runtime
from durable._loop.loop import Task
from durable._loop.timers import Timer

from .incoming import Incoming

WATCHED_AFTER_S = 0.05


class Watch:
    """Around the handling of one request: cancels it when the client has gone away."""

    def __init__(self, incoming: Incoming, runtime: Runtime | None) -> None:
        self._incoming = incoming
        self._runtime = runtime
        self._scope = anyio.CancelScope()
        self._timer: Timer | None = None
        self._task: Task | None = None
        incoming.on_gone = self._scope.cancel

    def __enter__(self) -> Self:
        self._scope.__enter__()
        if self._runtime is not None:
            self.begin(self._runtime)
        return self

    def begin(self, runtime: Runtime) -> None:
        """The store, whose loop and timers are used, is open."""
        self._runtime = runtime
        services = runtime._services
        if services.loop.is_here():
            self._timer = services.timers.call_later(WATCHED_AFTER_S, self._start)

    def notify(self, request: Request) -> None:
        """When the client has gone, abort the signal of *request* as well."""
        # Not the request itself: its body refers to what is still to come.
        signal, scope = request.signal, self._scope

        def gone() -> None:
            signal._abort()
            scope.cancel()

        self._incoming.on_gone = gone

    def _start(self) -> None:
        assert self._runtime is not None
        self._task = self._runtime._services.loop.spawn(self._run(), "durable.asgi watch")

    async def _run(self) -> None:
        assert self._runtime is not None
        loop = self._runtime._services.loop
        task = loop.own_task()
        try:
            await self._incoming.wait_gone()
        except Exception:  # a server that fails in that cannot send a response either
            pass
        finally:
            loop.ended(task)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        self._incoming.on_gone = None
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
        return self._scope.__exit__(kind, error, traceback)
