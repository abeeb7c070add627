"""Commits that another process makes: the loop's thread begins one, and hears that it has ended.

To wake the committer's thread for that, and to be woken by it, takes longer than all else that the
library does for a lone commit. An engine that makes its commits itself has no use for it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol, runtime_checkable

from attrs import define, field

from .batch import Batch

LATE_S: Final = 0.1
"""After so long, or up to twice as long, the loop leaves a commit to the committer's thread."""


class Begun(Protocol):
    """A commit under way. Nothing else is committed before it has ended."""

    @property
    def connection(self) -> object:
        """Where it is heard that it has ended; another one has another descriptor."""

    def fileno(self) -> int:
        """The descriptor at which there is something to read when it may have ended."""

    def has_ended(self, *, may_wait: bool) -> bool:
        """Whether it has ended; raises as `Engine.commit` does. Waits for it only if it may."""


@runtime_checkable
class Begins(Protocol):
    """An engine that can begin a commit."""

    def begin(self, batch: Batch) -> Begun | None:
        """Begin to commit *batch*, which is small, and wait for nothing; raises as `Engine.commit`
        does. None if that cannot be done now; then nothing was done."""


class Waiting(Protocol):
    """A call to come."""

    def cancel(self) -> object:
        """Cancel the call."""


class Loop(Protocol):
    """The event loop, as far as commits need it."""

    def letting_go_on(self, wake: Callable[[Callable[[], None]], object]) -> None:
        """Call *wake* with a function that lets the code go on that it has woken by then."""

    def watch_readable(self, sock: socket.socket, callback: Callable[[], None]) -> None:
        """Call back whenever there is something to read at *sock*."""

    def forget(self, sock: socket.socket) -> None:
        """Stop calling back for *sock*: it is about to be closed."""

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Waiting:
        """Call back after so many seconds."""


@define(eq=False)
class Ear:
    """Begins commits, and calls *on_answer* on the loop's thread whenever the one under way may
    have ended, and *on_late* when that takes long. All calls but `has_ended` are the loop's."""

    _engine: Begins
    _loop: Loop
    _on_answer: Callable[[], None]
    _on_late: Callable[[], None]
    _begun: Begun | None = field(default=None, init=False)
    _count: int = field(default=0, init=False)  # of those that were begun
    # With a descriptor of its own: the engine closes its connection when it likes.
    _sock: socket.socket | None = field(default=None, init=False)
    _connection: object = field(default=None, init=False)
    _timer: Waiting | None = field(default=None, init=False)

    def begin(self, batch: Batch) -> bool:
        """Begin to commit *batch*; as `Begins.begin`."""
        self._begun = self._engine.begin(batch)
        if self._begun is None:
            return False
        self._count += 1
        if self._begun.connection is not self._connection:
            with suppress(OSError):  # no descriptor is left: then it is late
                self._listen(self._begun)
        if self._timer is None:
            self._set_timer()
        return True

    @property
    def is_waiting(self) -> bool:
        """Whether a commit is under way."""
        return self._begun is not None

    def has_ended(self, *, may_wait: bool) -> bool:
        """Whether the commit under way has ended; as `Begun.has_ended`. Any thread's."""
        assert self._begun is not None
        has_ended = True
        try:
            has_ended = self._begun.has_ended(may_wait=may_wait)
        finally:
            if has_ended:
                self._begun = None
        return has_ended

    def close(self) -> None:
        """Call back no more before the next `begin`: all answers are for another thread."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._close_sock()

    def _listen(self, begun: Begun) -> None:
        self._close_sock()
        sock = _copy_of(begun.fileno())
        try:
            self._loop.watch_readable(sock, self._on_answer)
        except BaseException:
            sock.close()
            raise
        self._sock, self._connection = sock, begun.connection

    def _close_sock(self) -> None:
        sock, self._sock = self._sock, None
        self._connection = None
        if sock is not None:
            self._loop.forget(sock)
            sock.close()

    def _set_timer(self) -> None:
        # One for many commits, as they are quick as a rule.
        count = self._count

        def look() -> None:
            self._timer = None
            if self._begun is not None:
                if self._count == count:
                    self._on_late()
                else:
                    self._set_timer()

        self._timer = self._loop.call_later(LATE_S, look)


def _copy_of(fileno: int) -> socket.socket:
    """A socket of its own for the connection of a descriptor."""
    copied = os.dup(fileno)
    try:
        return socket.socket(fileno=copied)
    except BaseException:
        os.close(copied)
        raise
