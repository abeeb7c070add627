"""The write buffer: what one object has written and the disk does not have yet.

The writes of a turn gather here until the turn ends; `seal` makes one batch of them, which goes to
the committer at once, or as soon as it may. While it waits for others to go with it, the writes of
the turns that follow join it. While a transaction runs its writes lie behind a savepoint. These are
a stack: a write goes to the top one, and each remembers how to undo what it changed in the cache.

Rule: batches leave in the order in which they were sealed, and none before the reads have finished
that began before it: they must not see it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeVar

from attrs import define, field

from durable._engine.batch import Alarm, Batch, ObjectHandle
from durable._gates.futures import Answer, ReadyAnswer
from durable._gates.input_gate import InputGate
from durable._gates.output_gate import OutputGate
from durable._gates.storage_wait import StorageWait
from durable._model.errors import DurableError

from .cache import Cache, Known
from .savepoint import NONE_RUN, UNCHANGED, AlarmChange, Phase, Savepoint, TimersRun
from .side_writes import SideValue, SideWrites
from .sql_turn import SqlTurn

CANNOT_DELETE_ALL: Final = (
    "Cannot call delete_all() within a transaction. Delete the keys one by one, or call it outside"
)
DONE: Final[ReadyAnswer[None]] = ReadyAnswer(None)

T = TypeVar("T")


@define(eq=False, slots=True, weakref_slot=False)
class WriteBuffer:
    """The writes of one object between the call and the disk. Nothing here suspends."""

    handle: ObjectHandle
    cache: Cache
    gate: InputGate[Any]
    output: OutputGate
    _submit: Callable[[Batch], None] = field(repr=False)
    _next_keyspace: Callable[[], int] = field(repr=False)
    _on_failed: Callable[[DurableError], None] = field(repr=False)
    dirty_bytes_max: int

    # The alarm as the object sees it; it rings while its handler runs, and is then not to be seen.
    alarm: Alarm | None = field(init=False)
    alarm_runs: bool = field(default=False, init=False)
    # The same of timers, by name; with when each rings next, if it does.
    timers_run: TimersRun = field(default=NONE_RUN, init=False)
    # Rises when writes are undone: what was derived from them must be made anew.
    undone: int = field(default=0, init=False)

    # The turn under way
    _puts: dict[str, Known] | None = field(default=None, init=False)
    _sides: dict[bytes, SideValue] | None = field(default=None, init=False)
    _is_cleared: bool = field(default=False, init=False)
    _alarm_change: AlarmChange = field(default=UNCHANGED, init=False)
    # It has a confirmed write, after which there is nothing more to tell the output gate.
    _is_confirmed: bool = field(default=False, init=False)

    # The side records that the disk does not have yet; made with the first use.
    _side_writes: SideWrites | None = field(default=None, init=False)

    savepoints: list[Savepoint] | None = field(default=None, init=False)
    # From the first use of `ctx.storage.sql` on.
    database: SqlTurn | None = field(default=None, init=False, repr=False)

    # How many batches were sealed and are durable is counted by the output gate.
    sealed_bytes: int = field(default=0, init=False)  # of batches that are not durable yet
    # The last batch that was sent; the next turn's writes may join it while it is open.
    _last: Batch | None = field(default=None, init=False, repr=False)
    is_closed: bool = field(default=False, init=False)
    # The last batch that a closed buffer sends yet.
    _kept: int = field(default=0, init=False)

    _last_read: int = field(default=0, init=False)
    _reading: dict[int, None] | None = field(default=None, init=False)  # oldest first
    # With the last read that began before each.
    _deferred: list[tuple[Batch, int]] | None = field(default=None, init=False)
    _waiting_room: list[tuple[StorageWait[Any], Any]] | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.alarm = self.handle.alarm

    # Writing

    def write(self, key: str, value: Known, *, confirmed: bool, no_cache: bool) -> None:
        if self.savepoints:
            savepoint = self.savepoints[-1]
            if key not in savepoint.undo:
                savepoint.undo[key] = self.cache.before(key)
            savepoint.puts[key] = value
            savepoint.note(confirmed)
        else:
            if not self._is_confirmed:
                self._note(confirmed)
            if self._puts is None:
                self._puts = {key: value}
            else:
                self._puts[key] = value
        self.cache.write(key, value, no_cache=no_cache)

    @property
    def sides(self) -> SideWrites:
        """The side records that were written and are not durable yet."""
        if self._side_writes is None:
            self._side_writes = SideWrites()
        return self._side_writes

    def write_side(self, key: bytes, value: SideValue) -> None:
        """Store *value* in the side record *key*; None deletes it. Always confirmed."""
        sides = self.sides
        if self.savepoints:
            savepoint = self.savepoints[-1]
            if key not in savepoint.side_undo:
                savepoint.side_undo[key] = sides.before(key)
            savepoint.sides[key] = value
            savepoint.note(confirmed=True)
        else:
            if not self._is_confirmed:
                self._note(confirmed=True)
            if self._sides is None:
                self._sides = {}
            self._sides[key] = value
        sides.write(key, value)

    def note_sql(self) -> None:
        """The database was written to; its pages come when the turn is sealed."""
        if self.savepoints:
            self.savepoints[-1].note(confirmed=True)
        elif not self._is_confirmed:
            self._note(confirmed=True)

    def write_alarm(self, alarm: Alarm | None, *, confirmed: bool) -> None:
        """The object's alarm is *alarm* from now on; whatever rings is not its alarm any more."""
        self.alarm = alarm
        self.alarm_runs = False
        if self.savepoints:
            self.savepoints[-1].alarm = alarm
            self.savepoints[-1].note(confirmed)
        else:
            self._alarm_change = alarm
            self._note(confirmed)

    def clear(self, *, confirmed: bool) -> None:
        """Delete everything, the alarm too; writes of this turn that came before never happen."""
        assert not self.savepoints
        self._puts = self._sides = None
        self._is_cleared = True
        self.timers_run = NONE_RUN
        self.undone += 1
        self.cache.clear()
        # Made now if there are none: the disk may have some, which are not to be seen any more.
        self.sides.clear(self.handle.keyspace)
        if self.database is not None:
            self.database.clear()
        self.write_alarm(None, confirmed=confirmed)

    def _note(self, confirmed: bool) -> None:
        if not self.output.has_unsealed or (confirmed and not self._is_confirmed):
            self.output.note_write(confirmed=confirmed)  # which refuses a foreign thread
            self._is_confirmed |= confirmed

    def note_nothing_left(self, *, confirmed: bool) -> None:
        """The key to delete is absent already, but maybe through an unconfirmed write, which may
        still be lost: a confirmed delete must wait for that one too."""
        if confirmed:
            self.output.confirm_all()
            if self.savepoints:
                self.savepoints[-1].is_confirmed = True

    # Transactions

    def begin(self) -> Savepoint:
        """A transaction begins: what is written from now on is part of it."""
        if not self.savepoints:
            self.seal()
        return self._begin()

    def begin_within_turn(self) -> Savepoint:
        """A transaction begins that ends before the turn does: what the turn wrote before it, and
        what it writes after it, goes into the same batch."""
        savepoint = self._begin()
        savepoint.is_within_turn = True
        return savepoint

    def _begin(self) -> Savepoint:
        if self.savepoints is None:
            self.savepoints = []
        savepoint = Savepoint(self.alarm, self.alarm_runs, self.timers_run)
        self.savepoints.append(savepoint)
        return savepoint

    def commit(self, savepoint: Savepoint) -> None:
        """Keep what was written since *savepoint*, for the transaction around it or the turn."""
        assert savepoint.phase is Phase.OPEN
        assert self.savepoints is not None
        place = self.savepoints.index(savepoint)
        del self.savepoints[place]
        savepoint.phase = Phase.COMMITTED
        if self.database is not None:
            self.database.release(savepoint)
        if place:
            savepoint.merge_into(self.savepoints[place - 1])
        elif savepoint.has_written:
            if self._puts is None:
                self._puts = {}
            self._puts.update(savepoint.puts)
            if savepoint.sides:
                self._sides = {**(self._sides or {}), **savepoint.sides}
            if savepoint.alarm is not UNCHANGED:
                self._alarm_change = savepoint.alarm
            self._note(savepoint.is_confirmed)
        if not self.savepoints:
            self.savepoints = None
            if not savepoint.is_within_turn:
                # At once: a reset later in the turn takes back nothing that has answered.
                self.seal()

    def roll_back(self, savepoint: Savepoint) -> None:
        """Undo what was written since *savepoint*, also in transactions inside that still run."""
        assert savepoint.phase is Phase.OPEN
        assert self.savepoints is not None
        durable = self.output.durable
        while savepoint.phase is Phase.OPEN:
            top = self.savepoints.pop()
            top.phase = Phase.ROLLED_BACK
            if not self.is_closed:
                if self.database is not None:
                    self.database.roll_back(top)
                for key, before in top.undo.items():
                    self.cache.restore(key, before, durable)
                for side, side_before in top.side_undo.items():
                    self.sides.restore(side, side_before, durable)
            self.alarm, self.alarm_runs = top.alarm_before, top.alarm_runs_before
            self.timers_run = top.timers_run_before
        self.undone += 1
        if not self.savepoints:
            self.savepoints = None

    # Sealing

    def seal(self) -> None:
        """The turn has ended: what it wrote is one batch now. Not while a transaction runs."""
        output = self.output
        if not output.has_unsealed or self.savepoints or self.is_closed:
            return
        if self.database is not None and (refused := self.database.end_turn()) is not None:
            self._on_failed(refused)
            return
        puts = self._puts if self._puts is not None else {}
        size = 0
        for key, value in puts.items():
            size += len(key) if value is None else len(key) + len(value)
        clears, alarm, sides = self._is_cleared, self._alarm_change, self._sides
        if sides is not None:
            size += sum([len(key) + len(value or b"") for key, value in sides.items()])
            self._sides = None
        self._puts = None
        self._alarm_change = UNCHANGED
        self._is_cleared = self._is_confirmed = False
        self.sealed_bytes += size
        last = self._last
        if last is not None and last.is_open and self._may_join(clears):
            last.puts.update(puts)
            last.size += size
            if sides is not None:
                last.sides = {**(last.sides or {}), **sides}
                self.sides.sealed(sides, last.seqno)
            if alarm is not UNCHANGED:
                last.alarm = alarm
            last.more_follows = self.gate.queued > 0
            self.cache.sealed(puts, last.seqno)
            return
        seqno = output.seal()
        batch = Batch(self.handle, clears, puts, alarm, self, size, seqno)
        if sides is not None:
            batch.sides = sides
            self.sides.sealed(sides, seqno)
        self.cache.sealed(puts, seqno)
        if self._deferred is None and self._may_leave(batch, self._last_read):
            self._send(batch)
        else:
            if self._deferred is None:
                self._deferred = []
            self._deferred.append((batch, self._last_read))

    def _may_join(self, clears: bool) -> bool:
        """Whether the turn's writes can be part of the last batch, as far as that is open."""
        # Reads that are under way must not see them either, and what is deferred comes first.
        if clears or self._reading is not None or self._deferred is not None:
            return False
        return self.output.join_nowait()

    def _may_leave(self, batch: Batch, last_read: int) -> bool:
        if self._reading and next(iter(self._reading)) <= last_read and not self.is_closed:
            return False
        # A clear gives the object a new keyspace, and the committer looks at the handle: so none of
        # the old one's batches may be on its way.
        return not batch.clears or self.output.durable == batch.seqno - 1

    def _send(self, batch: Batch) -> None:
        if batch.clears or not self.handle.keyspace:
            self.handle.keyspace = self._next_keyspace()
        is_cleared = self._is_cleared or self._is_clear_deferred()
        self.cache.is_complete = is_cleared
        if is_cleared and self._side_writes is not None:
            # What this batch stores is deleted by one that is still to come.
            self._side_writes.leave(self.handle.keyspace)
        self._last = batch
        batch.more_follows = self.gate.queued > 0
        self._submit(batch)

    def _is_clear_deferred(self) -> bool:
        return self._deferred is not None and any(batch.clears for batch, _ in self._deferred)

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
        """Whether a `delete_all()` of a closed buffer is to follow the batches before it."""
        return self.output.durable < self._kept

    def batch_failed(self, batch: Batch, error: DurableError) -> None:
        """A batch did not reach the disk: the object is to be reset, before anyone is woken."""
        self._deferred, self._kept = None, 0
        if not self.is_closed:
            self.is_closed = True
            self._on_failed(error)
            self.close(error)

    def close(self, error: DurableError | None) -> None:
        """Make no more batches, and forget those that have not left, up to a last `delete_all()`.
        Waits for room get *error*."""
        if not self.is_closed:
            if self.database is not None:
                self.database.close()
                self.database = None
            if self._is_cleared:
                # Done when it returned, whatever becomes of the turn; puts of the turn are not.
                self._puts, self._sides, self._alarm_change = None, None, None
                # A transaction that runs within the turn came after it, and is undone by its owner.
                savepoints, self.savepoints = self.savepoints, None
                self.seal()
                self.savepoints = savepoints
            self.is_closed = True
            self._keep_clear()
        room, self._waiting_room = self._waiting_room or [], None
        if error is not None:
            for wait, _ in room:
                wait.fail(error.again())

    def _keep_clear(self) -> None:
        """Of the batches that have not left keep those up to the last that deletes everything."""
        while self._deferred and not self._deferred[-1][0].clears:
            del self._deferred[-1]
        if self._deferred:
            self._kept = self._deferred[-1][0].seqno
            self._send_deferred()  # reads of a closed buffer hold nothing up
        else:
            self._deferred = None

    def __repr__(self) -> str:
        unsealed, savepoints = len(self._puts or ()), len(self.savepoints or ())
        return f"<WriteBuffer {unsealed} unsealed, {savepoints} savepoints, {self.output}>"
