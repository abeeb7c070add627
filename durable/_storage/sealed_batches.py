"""Sealed batches: those of one object that the disk does not have yet, on their way to it.

A batch goes to the committer at once, or as soon as it may. While it waits there for others to go
with it, the writes of the turns that follow join it.

Rule: batches leave in the order in which they were sealed, and none before the reads have finished
that began before it: they must not see it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, TypeVar

from attrs import define, field

from durable._engine.batch import Batch, ObjectHandle
from durable._gates.futures import Answer, ReadyAnswer
from durable._gates.input_gate import InputGate
from durable._gates.output_gate import OutputGate
from durable._gates.storage_wait import StorageWait

from .cache import Cache, Known
from .history import History
from .side_writes import SideValue, SideWrites

DONE: Final[ReadyAnswer[None]] = ReadyAnswer(None)

T = TypeVar("T")


@define(eq=False, slots=True, weakref_slot=False)
class SealedBatches:
    """The batches of one object between the seal and the disk. Nothing here suspends."""

    handle: ObjectHandle
    cache: Cache
    gate: InputGate[Any]
    output: OutputGate
    _submit: Callable[[Batch], None] = field(repr=False)
    _next_keyspace: Callable[[], int] = field(repr=False)
    dirty_bytes_max: int
    # None: the object keeps none.
    history: History | None = field(default=None, repr=False)

    # The turn under way deletes everything.
    _is_cleared: bool = field(default=False, init=False)
    # The side records that the disk does not have yet; made with the first use.
    _side_writes: SideWrites | None = field(default=None, init=False)

    # How many batches were sealed and are durable is counted by the output gate.
    sealed_bytes: int = field(default=0, init=False)  # of batches that are not durable yet
    # The last batch that was sent; the next turn's writes may join it while it is open.
    _last: Batch | None = field(default=None, init=False, repr=False)
    is_closed: bool = field(default=False, init=False)
    # The last batch that was still to be sent when the buffer was closed.
    _kept: int = field(default=0, init=False)

    _last_read: int = field(default=0, init=False)
    _reading: dict[int, None] | None = field(default=None, init=False)  # oldest first
    # With the last read that began before each.
    _deferred: list[tuple[Batch, int]] | None = field(default=None, init=False)
    _waiting_room: list[tuple[StorageWait[Any], Any]] | None = field(default=None, init=False)

    @property
    def sides(self) -> SideWrites:
        """The side records that were written and are not durable yet."""
        if self._side_writes is None:
            self._side_writes = SideWrites()
        return self._side_writes

    # On the way to the disk

    def _may_join(self, clears: bool) -> bool:
        """Whether the turn's writes can be part of the last batch, as far as that is open."""
        # Reads that are under way must not see them either, and what is deferred comes first.
        if clears or not self._may_leave_now:
            return False
        return self.output.join_nowait()

    def _join(self, last: Batch, puts: dict[str, Known], size: int) -> None:
        """Add to the last batch what the turn has put, and *size* bytes beside that."""
        size += self.cache.sealed(puts, last.seqno)
        self.sealed_bytes += size
        last.size += size
        last.puts.update(puts)
        last.more_follows = self.gate.line is not None

    def _put_sides(self, batch: Batch, sides: dict[bytes, SideValue]) -> None:
        """Make *sides*, which the turn has written, part of its batch."""
        if batch.sides is None:
            batch.sides = sides
        else:
            batch.sides.update(sides)
        self.sides.sealed(sides, batch.seqno)

    def _defer(self, batch: Batch) -> None:
        if self._deferred is None:
            self._deferred = []
        self._deferred.append((batch, self._last_read))

    @property
    def _may_leave_now(self) -> bool:
        """Whether a batch that clears nothing may leave: no read began before it that has not
        finished, and no batch that has to wait."""
        return self._reading is None and self._deferred is None

    def _may_leave(self, batch: Batch, last_read: int) -> bool:
        if self._reading and next(iter(self._reading)) <= last_read and not self.is_closed:
            return False
        # A clear gives the object a new keyspace, and the committer looks at the handle: so none of
        # the old one's batches may be on its way.
        return not batch.clears or self.output.durable == batch.seqno - 1

    def _send(self, batch: Batch) -> None:
        handle = self.handle
        if not handle.keyspace or (batch.clears and not batch.goes_back):
            handle.keyspace = self._next_keyspace()
        if self.history is not None and not handle.history:
            handle.history = self._next_keyspace()
        is_cleared = self._is_cleared or (
            self._deferred is not None and any(batch.clears for batch, _ in self._deferred)
        )
        self.cache.is_complete = is_cleared
        if is_cleared and self._side_writes is not None:
            # What this batch stores is deleted by one that is still to come.
            self._side_writes.leave(self.handle.keyspace)
        self._last = batch
        batch.more_follows = self.gate.line is not None
        self._submit(batch)

    def _send_deferred(self) -> None:
        while self._deferred and self._may_leave(*self._deferred[0]):
            batch, _ = self._deferred.pop(0)
            if not self._deferred:
                self._deferred = None
            self._send(batch)

    def batch_durable(self, batch: Batch) -> None:
        """A batch of this object is on the disk."""
        output = self.output
        output.durable = seqno = batch.seqno
        self.sealed_bytes -= batch.size
        if batch is self._last:
            self._last = None
        self.cache.durable(batch.puts, seqno)
        if batch.sides is not None:
            self.sides.durable(batch.sides, seqno)
        if self._deferred is not None:
            self._send_deferred()
        output.release()
        if self._waiting_room is not None and self.has_room:
            waiting, self._waiting_room = self._waiting_room, None
            for wait, value in waiting:
                wait.finish(value)

    # Reads that take a while

    def begin_read(self) -> int:
        """A read in the reader thread begins: writes from here on are kept from it."""
        self._last_read += 1
        if self._reading is None:
            self._reading = {}
        self._reading[self._last_read] = None
        return self._last_read

    def end_read(self, read: int) -> None:
        assert self._reading is not None
        del self._reading[read]
        if not self._reading:
            self._reading = None
        if self._deferred is not None:
            self._send_deferred()

    # Waiting

    @property
    def has_room(self) -> bool:
        return self.sealed_bytes <= self.dirty_bytes_max

    def wait_room(self, value: T, *, holds: bool) -> Answer[T]:
        """An answer of *value* that is done as soon as there is room for more writes."""
        if self.has_room or self.is_closed:
            return ReadyAnswer(value)
        wait: StorageWait[T] = StorageWait(self.gate, holds=holds)
        if self._waiting_room is None:
            self._waiting_room = []
        self._waiting_room.append((wait, value))
        return wait

    def wait_durable(self) -> Answer[None]:
        """Comes when all that was written so far, outside of a running transaction, is durable."""
        seqno = self.output.seqno_of_all()
        if seqno <= self.output.durable:
            return DONE
        wait: StorageWait[None] = StorageWait(self.gate, holds=False)
        self.output.when_durable(seqno, partial(wait.finish, None), wait)
        return wait

    # The end

    @property
    def is_leaving(self) -> bool:
        """Whether batches of a closed buffer are to follow a `delete_all()` that has not left."""
        return self.output.durable < self._kept

    def _send_last(self) -> None:
        """The buffer is closed: what turns have written that have ended is stored all the same."""
        if self._deferred is not None:
            self._kept = self._deferred[-1][0].seqno
            self._send_deferred()  # reads of a closed buffer hold nothing up


def size_of(records: Mapping[Any, bytes | None]) -> int:
    """Bytes of keys and values, about."""
    size = 0
    for key, value in records.items():
        size += len(key) if value is None else len(key) + len(value)
    return size
