"""The write buffer: what one object has written and the disk does not have yet.

The writes of a turn gather here until the turn ends; `seal` makes one batch of them, which goes to
the committer at once, or as soon as it may. While it waits for others to go with it, the writes of
the turns that follow join it. While a transaction runs its writes lie in a layer of their own; the
layers are a stack, every write goes to the top one, and each remembers how to undo what it changed
in the cache.

Rule: batches leave in the order in which they were sealed, and none before the reads have finished
that began before it: they must not see it.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, Final, Protocol, TypeVar

from attrs import define, field

from durable._engine.batch import Alarm, Batch, ObjectHandle, Unchanged
from durable._gates.futures import Answer, ReadyAnswer
from durable._gates.input_gate import InputGate
from durable._gates.output_gate import OutputGate
from durable._gates.storage_wait import StorageWait
from durable._model.errors import DurableError

from .cache import Before, Cache, Known
from .side_writes import SideBefore, SideValue, SideWrites

UNCHANGED: Final = Unchanged.UNCHANGED
CANNOT_DELETE_ALL: Final = (
    "Cannot call delete_all() within a transaction. Delete the keys one by one, or call it outside"
)
DONE: Final[ReadyAnswer[None]] = ReadyAnswer(None)

T = TypeVar("T")

AlarmChange = Alarm | Unchanged | None


class Phase(Enum):
    """Where a transaction is."""

    OPEN = "open"
    COMMITTED = "committed"
    ROLLED_BACK = "rolled back"


@define(eq=False, slots=True)
class Layer:
    """The writes of one transaction that runs, and what was there before them."""

    alarm_before: Alarm | None
    alarm_runs_before: bool
    puts: dict[str, Known] = field(factory=dict, init=False)
    befores: dict[str, Before] = field(factory=dict, init=False)
    sides: dict[bytes, SideValue] = field(factory=dict, init=False)
    side_befores: dict[bytes, SideBefore] = field(factory=dict, init=False)
    alarm: AlarmChange = field(default=UNCHANGED, init=False)
    has_written: bool = field(default=False, init=False)
    is_confirmed: bool = field(default=False, init=False)
    phase: Phase = field(default=Phase.OPEN, init=False)
    # It began in the turn in which it ends, and that goes on after it.
    is_within_turn: bool = field(default=False, init=False)

    def note(self, confirmed: bool) -> None:
        self.has_written = True
        self.is_confirmed |= confirmed


class SqlTurn(Protocol):
    """The object's SQL database, which is part of its turns and transactions."""

    def release(self, layer: Layer, /) -> None:
        """What was written in *layer* is kept."""

    def roll_back(self, layer: Layer, /) -> None:
        """What was written in *layer* is undone."""

    def end_turn(self) -> DurableError | None:
        """Write the pages that the turn has changed as side records. What to reset the object with,
        if that cannot be."""

    def wipe(self) -> None:
        """Everything is deleted."""

    def close(self) -> None:
        """What was not sealed is gone."""


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

    # The turn under way
    _puts: dict[str, Known] | None = field(default=None, init=False)
    _sides: dict[bytes, SideValue] | None = field(default=None, init=False)
    _is_wiped: bool = field(default=False, init=False)
    _alarm_change: AlarmChange = field(default=UNCHANGED, init=False)
    _has_written: bool = field(default=False, init=False)
    _is_confirmed: bool = field(default=False, init=False)

    # The side records that the disk does not have yet; made with the first use.
    _side_writes: SideWrites | None = field(default=None, init=False)

    layers: list[Layer] | None = field(default=None, init=False)
    # From the first use of `ctx.storage.sql` on.
    database: SqlTurn | None = field(default=None, init=False, repr=False)

    # Batches become durable in the order they were sealed, so two counters say it all.
    sealed: int = field(default=0, init=False)
    durable: int = field(default=0, init=False)
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
    _waiting_durable: list[tuple[int, StorageWait[None]]] | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.alarm = self.handle.alarm

    # Writing

    def write(self, key: str, value: Known, *, confirmed: bool, no_cache: bool) -> None:
        if self.layers:
            layer = self.layers[-1]
            if key not in layer.befores:
                layer.befores[key] = self.cache.before(key)
            layer.puts[key] = value
            layer.note(confirmed)
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
        if self.layers:
            layer = self.layers[-1]
            if key not in layer.side_befores:
                layer.side_befores[key] = sides.before(key)
            layer.sides[key] = value
            layer.note(confirmed=True)
        else:
            if not self._is_confirmed:
                self._note(confirmed=True)
            if self._sides is None:
                self._sides = {}
            self._sides[key] = value
        sides.write(key, value)

    def note_sql(self) -> None:
        """The database was written to; its pages come when the turn is sealed."""
        if self.layers:
            self.layers[-1].note(confirmed=True)
        elif not self._is_confirmed:
            self._note(confirmed=True)

    def write_alarm(self, alarm: Alarm | None, *, confirmed: bool) -> None:
        """The object's alarm is *alarm* from now on; whatever rings is not its alarm any more."""
        self.alarm = alarm
        self.alarm_runs = False
        if self.layers:
            self.layers[-1].alarm = alarm
            self.layers[-1].note(confirmed)
        else:
            self._alarm_change = alarm
            self._note(confirmed)

    def wipe(self, *, confirmed: bool) -> None:
        """Delete everything, the alarm too; writes of this turn that came before never happen."""
        assert not self.layers
        self._puts = self._sides = None
        self._is_wiped = True
        self.cache.wipe()
        # Made now if there are none: the disk may have some, which are not to be seen any more.
        self.sides.wipe(self.handle.keyspace)
        if self.database is not None:
            self.database.wipe()
        self.write_alarm(None, confirmed=confirmed)

    def _note(self, confirmed: bool) -> None:
        if not self._has_written or (confirmed and not self._is_confirmed):
            self.output.note_write(confirmed=confirmed)  # which refuses a foreign thread
            self._has_written = True
            self._is_confirmed |= confirmed

    def note_nothing_left(self, *, confirmed: bool) -> None:
        """What is to be deleted is not there: perhaps since an unconfirmed write that may be lost
        yet, and whoever deletes with confirmation may rely on its being gone."""
        if confirmed:
            self.output.confirm_all()
            if self.layers:
                self.layers[-1].is_confirmed = True

    # Transactions

    def push(self) -> Layer:
        """A transaction begins: what is written from now on is its."""
        if not self.layers:
            self.seal()
        return self._push()

    def push_within_turn(self) -> Layer:
        """A transaction begins that ends before the turn does: what the turn wrote before it, and
        what it writes after it, goes into the same batch."""
        layer = self._push()
        layer.is_within_turn = True
        return layer

    def _push(self) -> Layer:
        if self.layers is None:
            self.layers = []
        layer = Layer(self.alarm, self.alarm_runs)
        self.layers.append(layer)
        return layer

    def commit(self, layer: Layer) -> None:
        """Keep what *layer* wrote: as the work of the transaction around it, or of this turn."""
        assert layer.phase is Phase.OPEN
        assert self.layers is not None
        place = self.layers.index(layer)
        del self.layers[place]
        layer.phase = Phase.COMMITTED
        if self.database is not None:
            self.database.release(layer)
        if place:
            self._merge(layer, self.layers[place - 1])
        elif layer.has_written:
            if self._puts is None:
                self._puts = {}
            self._puts.update(layer.puts)
            if layer.sides:
                self._sides = {**(self._sides or {}), **layer.sides}
            if layer.alarm is not UNCHANGED:
                self._alarm_change = layer.alarm
            self._note(layer.is_confirmed)
        if not self.layers:
            self.layers = None
            if not layer.is_within_turn:
                # At once: a reset later in the turn takes back nothing that has answered.
                self.seal()

    def roll_back(self, layer: Layer) -> None:
        """Undo what *layer* wrote, and the transactions inside it that have not ended."""
        assert layer.phase is Phase.OPEN
        assert self.layers is not None
        while layer.phase is Phase.OPEN:
            top = self.layers.pop()
            top.phase = Phase.ROLLED_BACK
            if not self.is_closed:
                if self.database is not None:
                    self.database.roll_back(top)
                for key, before in top.befores.items():
                    self.cache.restore(key, before, self.durable)
                for side, side_before in top.side_befores.items():
                    self.sides.restore(side, side_before, self.durable)
            self.alarm, self.alarm_runs = top.alarm_before, top.alarm_runs_before
        if not self.layers:
            self.layers = None

    @staticmethod
    def _merge(inner: Layer, outer: Layer) -> None:
        outer.puts.update(inner.puts)
        outer.befores = inner.befores | outer.befores
        outer.sides.update(inner.sides)
        outer.side_befores = inner.side_befores | outer.side_befores
        if inner.alarm is not UNCHANGED:
            outer.alarm = inner.alarm
        if inner.has_written:
            outer.note(inner.is_confirmed)

    # Sealing

    def seal(self) -> None:
        """The turn has ended: what it wrote is one batch now. Not while a transaction runs."""
        if not self._has_written or self.layers or self.is_closed:
            return
        if self.database is not None and (refused := self.database.end_turn()) is not None:
            self._on_failed(refused)
            return
        puts = self._puts if self._puts is not None else {}
        size = 0
        for key, value in puts.items():
            size += len(key) if value is None else len(key) + len(value)
        wipe, alarm, sides = self._is_wiped, self._alarm_change, self._sides
        if sides is not None:
            size += sum([len(key) + len(value or b"") for key, value in sides.items()])
            self._sides = None
        self._puts = None
        self._alarm_change = UNCHANGED
        self._is_wiped = self._has_written = self._is_confirmed = False
        self.sealed_bytes += size
        last = self._last
        if last is not None and last.is_open and self._may_join(wipe):
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
        self.sealed = seqno = self.output.seal()
        batch = Batch(self.handle, wipe, puts, alarm, self, size, seqno)
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

    def _may_join(self, wipe: bool) -> bool:
        """Whether the turn's writes can be part of the last batch, as far as that is open."""
        # Reads that are under way must not see them either, and what is deferred comes first.
        if wipe or self._reading is not None or self._deferred is not None:
            return False
        return self.output.join_nowait()

    def _may_leave(self, batch: Batch, last_read: int) -> bool:
        if self._reading and next(iter(self._reading)) <= last_read and not self.is_closed:
            return False
        # A wipe gives the object a new keyspace, and the committer looks at the handle: so none of
        # the old one's batches may be on its way.
        return not batch.wipe or self.durable == batch.seqno - 1

    def _send(self, batch: Batch) -> None:
        if batch.wipe or not self.handle.keyspace:
            self.handle.keyspace = self._next_keyspace()
        self.cache.is_complete = self._is_wiped or self._is_wipe_deferred()
        self._last = batch
        batch.more_follows = self.gate.queued > 0
        self._submit(batch)

    def _is_wipe_deferred(self) -> bool:
        return self._deferred is not None and any(batch.wipe for batch, _ in self._deferred)

    def _send_deferred(self) -> None:
        while self._deferred and self._may_leave(*self._deferred[0]):
            batch, _ = self._deferred.pop(0)
            if not self._deferred:
                self._deferred = None
            self._send(batch)

    def batch_durable(self, batch: Batch) -> None:
        """A batch of this object is on the disk."""
        self.durable = seqno = batch.seqno
        self.sealed_bytes -= batch.size
        if batch is self._last:
            self._last = None
        self.cache.durable(batch.puts, seqno)
        if batch.sides is not None:
            self.sides.durable(batch.sides, seqno)
        if self._deferred is not None:
            self._send_deferred()
        self.output.durable(seqno)
        if self._waiting_room is not None and self.has_room:
            waiting, self._waiting_room = self._waiting_room, None
            for wait, value in waiting:
                wait.finish(value)
        while self._waiting_durable and self._waiting_durable[0][0] <= seqno:
            self._waiting_durable.pop(0)[1].finish(None)

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
        """Answers *value*: at once if there is room for more writes, else as soon as there is."""
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
        if seqno <= self.durable:
            return DONE
        wait: StorageWait[None] = StorageWait(self.gate, holds=False)
        if self._waiting_durable is None:
            self._waiting_durable = []
        self._waiting_durable.append((seqno, wait))
        return wait

    # The end

    @property
    def is_leaving(self) -> bool:
        """Whether a `delete_all()` of a closed buffer is to follow the batches before it."""
        return self.durable < self._kept

    def batch_failed(self, batch: Batch, error: DurableError) -> None:
        """A batch did not reach the disk: the object is to be reset, before anyone is woken."""
        self._deferred, self._kept = None, 0
        if not self.is_closed:
            self.is_closed = True
            self._on_failed(error)
            self.close(error)

    def close(self, error: DurableError | None) -> None:
        """Make no more batches, and forget those that have not left, up to a last `delete_all()`.
        Whoever waits gets *error*."""
        if not self.is_closed:
            if self.database is not None:
                self.database.close()
                self.database = None
            if self._is_wiped:
                # Done when it returned, whatever becomes of the turn; puts of the turn are not.
                self._puts, self._sides, self._alarm_change = None, None, None
                self.seal()
            self.is_closed = True
            self._keep_wipe()
        room, self._waiting_room = self._waiting_room or [], None
        durable, self._waiting_durable = self._waiting_durable or [], None
        if error is not None:
            for wait in [*[wait for wait, _ in room], *[wait for _, wait in durable]]:
                wait.fail(error.again())

    def _keep_wipe(self) -> None:
        """Of the batches that have not left keep those up to the last that deletes everything."""
        while self._deferred and not self._deferred[-1][0].wipe:
            del self._deferred[-1]
        if self._deferred:
            self._kept = self._deferred[-1][0].seqno
            self._send_deferred()  # reads of a closed buffer hold nothing up
        else:
            self._deferred = None

    def __repr__(self) -> str:
        layers = len(self.layers) if self.layers else 0
        return (
            f"<WriteBuffer {len(self._puts or ())} unsealed, {self.durable} of {self.sealed} "
            f"durable, {layers} transactions>"
        )
