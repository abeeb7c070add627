"""The write buffer: what one object has written, from the call until it is sealed.

The writes of a turn gather here until the turn ends; `seal` makes one batch of them, or adds them
to the last one if that has not left yet (`sealed_batches`). While a transaction runs its writes lie
behind a savepoint. These are a stack: a write goes to the top one, and each remembers how to undo
what it changed in the cache.
"""

from __future__ import annotations

from typing import Final

from attrs import define, field

from durable._engine.batch import Alarm, Batch
from durable._model.errors import DurableError

from .cache import Known
from .savepoint import NONE_RUN, UNCHANGED, AlarmChange, Phase, Savepoint, TimersRun
from .sealed_batches import SealedBatches, size_of
from .side_writes import SideValue
from .sql_turn import SqlTurn

CANNOT_DELETE_ALL: Final = (
    "Cannot call delete_all() within a transaction. Delete the keys one by one, or call it outside"
)


@define(eq=False, slots=True, weakref_slot=False)
class WriteBuffer(SealedBatches):
    """The writes of one object between the call and the disk. Nothing here suspends."""

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
    _alarm_change: AlarmChange = field(default=UNCHANGED, init=False)
    # It puts something that was kept in place of what there is, and since when that was there.
    _goes_back: bool = field(default=False, init=False)
    _created_us: int = field(default=0, init=False)
    # It has a confirmed write, after which the output gate needs no further notice.
    _is_confirmed: bool = field(default=False, init=False)

    savepoints: list[Savepoint] | None = field(default=None, init=False)
    # From the first use of `ctx.storage.sql` on.
    database: SqlTurn | None = field(default=None, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self.alarm = self.handle.alarm

    # Writing

    def write(self, key: str, value: Known, *, confirmed: bool, no_cache: bool) -> None:
        if self.history is not None:
            self.history.note_key(key, self._top)
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

    def write_side(self, key: bytes, value: SideValue) -> None:
        """Store *value* in the side record *key*; None deletes it. Always confirmed."""
        sides = self.sides
        if self.history is not None:
            self.history.note_side(key, sides, self._top)
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
        else:
            self._note(confirmed=True)

    def write_pages(self, pages: dict[bytes, SideValue]) -> None:
        """Store the pages that the turn has changed, as it is sealed: they are side records."""
        if self.history is not None:
            for key in pages:
                self.history.note_side(key, self.sides, None)
        if self._sides is None:
            self._sides = pages
        else:
            self._sides.update(pages)

    def write_alarm(self, alarm: Alarm | None, *, confirmed: bool) -> None:
        """The object's alarm is *alarm* from now on; whatever rings is not its alarm any more."""
        if self.history is not None:
            self.history.note_alarm(self.alarm, self._top)
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
        if self.history is not None:
            self.history.note_clearing()
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

    def go_back_to(self, keyspace: int, created_us: int) -> None:
        """What was kept under *keyspace* is the object's again, in place of what it has.

        Only before anything was written.
        """
        assert self.history is not None
        self.history.note_clearing()
        # What came with the object when it was woken is not what it has now.
        self.cache.forget_all()
        self.sides.woken = None
        self.handle.keyspace = keyspace
        self._goes_back = self._is_cleared = True
        self._created_us = created_us
        self._note(confirmed=True)

    def note_history(self) -> None:
        """The history is written to, and nothing else perhaps."""
        assert not self.savepoints
        self._note(confirmed=True)

    @property
    def _top(self) -> Savepoint | None:
        return self.savepoints[-1] if self.savepoints else None

    def _note(self, confirmed: bool) -> None:
        output = self.output
        if not output.has_unsealed:
            if self.gate.holder is None:
                self.gate.owner.wrote_outside()  # which refuses a foreign thread
        elif self._is_confirmed or not confirmed:
            return
        output.note_write(confirmed)
        self._is_confirmed = confirmed

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
            if self.history is not None:
                self.history.keep(savepoint)
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
            if self.history is not None:
                self.history.roll_back(top)
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
            self.gate.owner.break_(refused)
            return
        puts, sides = self._puts, self._sides
        if (
            self.history is not None
            or self._alarm_change is not UNCHANGED
            or self._is_cleared
            or self._reading is not None
            or self._deferred is not None
            or (sides is not None and puts is not None)
        ):
            self._seal_all(puts)
            return
        # The common turn has put and deleted keys, or changed pages, and its writes may leave now.
        if puts is None:
            if sides is None:
                self._seal_all(None)
            else:
                self._seal_sides(sides)
            return
        self._puts = None
        self._is_confirmed = False
        last = self._last
        if last is not None and last.is_open and output.join_nowait():
            self._join(last, puts, 0)
            return
        seqno = output.seal()
        size = self.cache.sealed(puts, seqno)
        self.sealed_bytes = self.sealed_bytes + size
        self._send(Batch(self.handle, False, puts, UNCHANGED, self, size, seqno))

    def _seal_sides(self, sides: dict[bytes, SideValue]) -> None:
        """`seal` of a turn that has written nothing else: pages of the database, as a rule."""
        self._sides = None
        self._is_confirmed = False
        size = size_of(sides)
        self.sealed_bytes: int = self.sealed_bytes + size
        last, output = self._last, self.output
        if last is not None and last.is_open and output.join_nowait():
            last.size += size
            last.more_follows = self.gate.line is not None
            self._put_sides(last, sides)
            return
        batch = Batch(self.handle, False, {}, UNCHANGED, self, size, output.seal())
        self._put_sides(batch, sides)
        self._send(batch)

    def _seal_all(self, puts: dict[str, Known] | None) -> None:
        """`seal`, whatever the turn has written beside keys, and whatever its writes wait for."""
        output = self.output
        taken = None if self.history is None else self.history.take()
        if puts is None:
            is_empty = (
                taken is None
                and self._sides is None
                and self._alarm_change is UNCHANGED
                and not self._is_cleared
            )
            if is_empty and output.join_nowait():
                self._is_confirmed = False
                return
            puts = {}
        clears, alarm, sides = self._is_cleared, self._alarm_change, self._sides
        size = 0 if sides is None else size_of(sides)
        if taken is not None:
            size += taken.size
        self._puts = self._sides = None
        self._alarm_change = UNCHANGED
        self._is_cleared = self._is_confirmed = False
        last = self._last
        if last is not None and last.is_open and self._may_join(clears):
            self._join(last, puts, size)
            if sides is not None:
                self._put_sides(last, sides)
            if alarm is not UNCHANGED:
                last.alarm = alarm
            if taken is not None:
                last.history = {**(last.history or {}), **taken.records}
                last.forgets += taken.forgets
            return
        seqno = output.seal()
        size += self.cache.sealed(puts, seqno)
        self.sealed_bytes += size
        batch = Batch(self.handle, clears, puts, alarm, self, size, seqno)
        if sides is not None:
            self._put_sides(batch, sides)
        if taken is not None:
            batch.history, batch.forgets = taken.records, taken.forgets
            batch.clearing = taken.clearing
        if self._goes_back:
            batch.goes_back, batch.created_us = True, self._created_us
            self._goes_back = False
        if self._deferred is None and self._may_leave(batch, self._last_read):
            self._send(batch)
        else:
            self._defer(batch)

    # The end

    def batch_failed(self, batch: Batch, error: DurableError) -> None:
        """A batch did not reach the disk: the object is to be reset, before anyone is woken."""
        self._deferred, self._kept = None, 0
        if not self.is_closed:
            self.is_closed = True
            self.gate.owner.break_(error)
            self.close(error)

    def close(self, error: DurableError | None) -> None:
        """Make no more batches, and forget what the turn under way has written, but for a
        `delete_all()`. Waits for room get *error*."""
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
            self.is_closed: bool = True
            self._send_last()
        room, self._waiting_room = self._waiting_room or [], None
        if error is not None:
            for wait, _ in room:
                wait.fail(error.again())

    def __repr__(self) -> str:
        unsealed, savepoints = len(self._puts or ()), len(self.savepoints or ())
        return f"<WriteBuffer {unsealed} unsealed, {savepoints} savepoints, {self.output}>"
