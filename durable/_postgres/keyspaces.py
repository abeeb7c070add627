"""Keyspaces for new objects: numbers that no other process assigns, taken in blocks.

The event loop assigns them, and should not wait for the database; so the next block is taken by the
thread that commits, when this one is half used.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, LiteralString

from attrs import define, field

from durable._engine.batch import Batch
from durable._model.cluster_errors import StoreUnavailable

from .confirming import CONFIRMED
from .connection import Connection
from .schema import KEYSPACES_PER_BLOCK

NONE_LEFT: Final = -1
"""In place of a keyspace, when none was left and the database did not answer: nothing written
under it is committed."""


@define(eq=False)
class Keyspaces:
    """The numbers that this process has left."""

    _connection: Connection  # of the loop's thread
    _left: range = field(default=range(0), init=False)
    _next_block: range | None = field(default=None, init=False)
    _failure: StoreUnavailable | None = field(default=None, init=False)

    def next(self) -> int:
        """The next number; `NONE_LEFT` if there is none to be had. Raises RuntimeClosed."""
        if not self._left:
            # The other thread sets it only while it is None, and only this thread takes it.
            block, self._next_block = self._next_block, None
            try:
                self._left = take_block(self._connection) if block is None else block
            except StoreUnavailable as error:
                self._failure = error
                return NONE_LEFT
        given, self._left = self._left[0], self._left[1:]
        return given

    def refill(self, connection: Connection) -> None:
        """Take one more block if that will be needed soon; for the thread of *connection*."""
        if self._next_block is None and len(self._left) < KEYSPACES_PER_BLOCK // 2:
            self._next_block = take_block(connection)

    def check(self, group: Iterable[Batch]) -> None:
        """Raise StoreUnavailable if a batch has no keyspace."""
        if self._failure is not None and any(
            NONE_LEFT in {batch.handle.keyspace, batch.handle.history} for batch in group
        ):
            raise self._failure


# A standby in its primary's place that lacks the sequence's record would return the number again.
_TAKE: Final[LiteralString] = "select nextval('durable.keyspaces'), " + CONFIRMED


def take_block(connection: Connection) -> range:
    """Numbers that no other process is given, whatever becomes of this one, and of the database's
    primary."""
    # Asked again if the answer is lost: then a block is left unused.
    [(first, _)] = connection.read(_TAKE)
    return range(first, first + KEYSPACES_PER_BLOCK)
