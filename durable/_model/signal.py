"""Whether the caller still waits: the signal of a request."""

from __future__ import annotations

from weakref import WeakSet

import anyio


class Signal:
    """Says that the caller of a request has gone and no code waits for the response any more.

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(work, tasks.cancel_scope)
            await request.signal.wait()
            tasks.cancel_scope.cancel()

    A handler is not cancelled with its caller (promise P17); work that is in vain without one can
    end by this. It is set when the client of a server has gone away, and when the code that awaits
    `stub.fetch()` is cancelled. It is never unset.
    """

    __slots__ = ("__weakref__", "_above", "_event", "_followers", "_is_aborted")

    def __init__(self, above: Signal | None = None) -> None:
        self._is_aborted = False
        self._event: anyio.Event | None = None  # made for the first that waits
        # The signals of requests that this one's request was handed on as.
        self._followers: WeakSet[Signal] | None = None
        # Kept alive as long as this one: it notifies this one.
        self._above = above
        if above is not None:
            above._lead(self)

    def _lead(self, follower: Signal) -> None:
        if self._is_aborted:
            follower._abort()
            return
        if self._followers is None:
            self._followers = WeakSet()
        self._followers.add(follower)

    @property
    def aborted(self) -> bool:
        """Whether the caller has gone."""
        return self._is_aborted

    async def wait(self) -> None:
        """Return when the caller has gone; never, if it stays to the end."""
        if not self._is_aborted:
            if self._event is None:
                self._event = anyio.Event()
            await self._event.wait()

    def _abort(self) -> None:
        # One by one: a request may be handed on more often than Python's calls nest.
        to_abort = [self]
        while to_abort:
            signal = to_abort.pop()
            if not signal._is_aborted:
                signal._is_aborted = True
                if signal._event is not None:
                    signal._event.set()
                signal._was_aborted()
                to_abort += signal._followers or ()

    def _was_aborted(self) -> None:
        """For a subclass that notifies others."""

    def __repr__(self) -> str:
        return f"<Signal {'aborted' if self._is_aborted else 'not aborted'}>"
