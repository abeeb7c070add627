"""A commit that the server is making, while the event loop does something else."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from attrs import define, field

from .connection import Connection
from .group import Changes
from .postgres_errors import unavailable


@define(eq=False)
class UnderWay:
    """A `Begun`, which was sent already."""

    _connection: Connection
    # Sends it again.
    _send: Callable[[], bool]
    # Calls what it is given, again after a conflict.
    _attempt: Callable[[Callable[[], bool]], bool]
    _changes: Changes
    _is_sent: bool = field(default=True, init=False)

    @property
    def connection(self) -> object:
        return self._connection.present

    def fileno(self) -> int:
        return self._connection.fileno()

    def has_ended(self, *, may_wait: bool) -> bool:
        if not self._attempt(partial(self._has_ended, may_wait)):
            return False
        self._changes.settle(())
        return True

    def _has_ended(self, may_wait: bool) -> bool:
        if not self._is_sent and not self._send():
            raise unavailable(self._connection.path, None)  # it was refused before
        self._is_sent = False  # if this raises
        has_ended = self._connection.has_ended(may_wait=may_wait)
        self._is_sent = not has_ended
        return has_ended
