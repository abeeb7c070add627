"""What web sockets have not read yet: the bytes of each end, and of all of them together.

Rule: a message counts from the call of `send` until it is taken, wherever it is in between.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Self
from weakref import ref

# Awaiting `send` waits while the other end has more than this unread. One round trip then never
# leaves a fast reader without work, and ten thousand slow readers fit in memory.
UNREAD_BYTES_WAIT = 1_048_576
# `send` need not be awaited, so a broadcast to a reader that has stopped would grow without end.
# Above this, the next message cuts the socket instead.
UNREAD_BYTES_MAX = 16_777_216


class Unread(ref[Any]):
    """The unread bytes of one end.

    A weak reference to the end, so that it outlives it: the bytes that a freed end had not read
    are taken off the total.
    """

    __slots__ = ("bytes", "total")

    bytes: int
    total: UnreadTotal | None

    def __new__(cls, end: object) -> Self:
        return super().__new__(cls, end, _end_is_freed)

    def __init__(self, end: object) -> None:
        self.bytes = 0
        self.total = None

    def count(self, size: int) -> None:
        """*size* more bytes are unread, or fewer if *size* is below zero."""
        self.bytes += size
        if self.total is not None:
            self.total.bytes += size

    def is_full(self) -> bool:
        """Whether a task that awaits its `send` to this end has to wait."""
        if self.bytes > UNREAD_BYTES_WAIT:
            return True
        total = self.total
        return total is not None and self.bytes > 0 and total.is_crowded()


class UnreadTotal:
    """The unread bytes of all sockets that the objects of one runtime use.

    Above half of the bound, awaiting `send` waits until the peer has read everything. Above the
    bound, the sockets with the most unread are cut, until an eighth of it is free: one search for
    them then serves many messages.
    """

    __slots__ = ("_cut", "_ends", "_freed", "bytes", "bytes_max", "bytes_wait")

    def __init__(self, bytes_max: int, cut: Callable[[Any], None]) -> None:
        self.bytes = 0
        self.bytes_max = bytes_max
        self.bytes_wait = bytes_max // 2
        # Cuts the socket of an end.
        self._cut = cut
        self._ends: set[Unread] = set()
        # The bytes of freed ends, which may have been freed in any thread.
        self._freed: deque[int] = deque()

    def add(self, unread: Unread) -> None:
        """Count from now on what an end has not read, and what it has not read yet."""
        if unread.total is None:
            unread.total = self
            self._ends.add(unread)
            self.bytes += unread.bytes

    def is_crowded(self) -> bool:
        """Whether more than half of the bound is used."""
        return self.bytes > self.bytes_wait and self._recount() > self.bytes_wait

    def make_room(self) -> None:
        """Cut the sockets that are furthest behind, if more than the bound is unread."""
        if self._recount() <= self.bytes_max:
            return
        for unread in sorted(self._ends, key=_by_bytes, reverse=True):
            end = unread()
            if end is not None:
                self._cut(end)
            if self._recount() <= self.bytes_max - self.bytes_max // 8:
                break

    def forget(self, unread: Unread) -> None:
        """An end was freed. Called in any thread, in the middle of any statement."""
        self._ends.discard(unread)
        self._freed.append(unread.bytes)

    def _recount(self) -> int:
        while self._freed:
            self.bytes -= self._freed.popleft()
        return self.bytes


def _by_bytes(unread: Unread) -> int:
    return unread.bytes


def _end_is_freed(unread: ref[Any]) -> None:
    assert isinstance(unread, Unread)
    if unread.total is not None:
        unread.total.forget(unread)
