"""The storage: the storage of one object as its activation handles it.

The object's code sees `ObjectStorage.storage`, and nothing of the rest: when its turns are
sealed, when its alarm runs, and what becomes of its memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from durable._engine.batch import Alarm, Batch, ObjectHandle
from durable._engine.codec import Codec
from durable._gates.critical_section import Sections
from durable._gates.input_gate import InputGate
from durable._gates.output_gate import OutputGate
from durable._model.clock import Clock
from durable._model.limits import Limits

from .bookmarks import Bookmarks
from .cache import Cache
from .cache_budget import CacheBudget
from .history import History
from .key_ranges import EVERYTHING, NOTHING
from .records import Records
from .side_records import SideRecords
from .side_writes import WokenSides
from .storage import SqlOwner, Storage
from .timer_table import TimerTable
from .timers import Timers
from .write_buffer import WriteBuffer

if TYPE_CHECKING:
    from durable._engine.read_thread import Reads


class ObjectStorage:
    """What one object remembers: its cache, its write buffer, and the storage made of them."""

    __slots__ = (
        "buffer",
        "cache",
        "clock",
        "constructing",
        "decode",
        "gate",
        "_timers",
        "has_alarm_handler",
        "has_timer_handler",
        "records",
        "_sides",
        "storage",
    )

    def __init__(
        self,
        *,
        handle: ObjectHandle,
        reads: Reads,
        submit: Callable[[Batch], None],
        next_keyspace: Callable[[], int],
        gate: InputGate[Any],
        output: OutputGate,
        codec: Codec,
        limits: Limits,
        clock: Clock,
        budget: CacheBudget,
        sections: Sections,
        owner: SqlOwner,
        has_alarm_handler: bool,
        has_timer_handler: bool = False,
        history_us: int | None = None,
    ) -> None:
        is_new = not handle.keyspace
        self.gate: InputGate[Any] = gate
        self.clock: Clock = clock
        self.decode: Callable[[bytes], Any] = codec.decode
        cache = Cache(budget, EVERYTHING if is_new else NOTHING, is_new)
        self.cache: Cache = cache
        history: History | None = None
        if history_us is not None:
            history = History(handle, cache, reads, clock, history_us)
        else:
            handle.history = 0  # what it may have from before ends with its next batch
        self.buffer: WriteBuffer = WriteBuffer(
            handle, cache, gate, output, submit, next_keyspace, limits.dirty_bytes_max, history
        )
        woken, handle.woken = handle.woken, None
        if woken is not None:
            if woken.upper != "":
                cache.learn_range(cache.epoch, ("", woken.upper), list(woken.keys), {})
            self.buffer.sides.woken = WokenSides(
                handle.keyspace, dict(woken.sides), woken.are_all_sides
            )
        self.records: Records = Records(
            cache, self.buffer, gate, reads, limits, codec.encode, codec.decode
        )
        self._sides: SideRecords | None = None
        self.has_alarm_handler: bool = has_alarm_handler
        self.has_timer_handler: bool = has_timer_handler
        self._timers: Timers | None = None
        # The activation sets it while the object's constructor runs.
        self.constructing: bool = False
        self.storage: Storage = Storage(self.records, clock, self, sections, owner)

    def may_set_alarm(self) -> bool:
        """The class has a handler; the constructor may set an alarm whatever handlers there are.
        Raises TypeError for a class whose alarm is that of its timers."""
        if self.has_timer_handler:
            raise TypeError(
                "a class that has timer() uses timers, and no alarm of its own: call "
                "ctx.timers.set() and delete(), or define alarm() in place of timer()"
            )
        return self.has_alarm_handler or self.constructing

    @property
    def sides(self) -> SideRecords:
        """What the library stores for the object beside its keys."""
        if self._sides is None:
            self._sides = SideRecords(self.records)
        return self._sides

    @property
    def timers(self) -> Timers:
        """The object's timers, as its code sees them."""
        if self._timers is None:
            table = TimerTable(self.sides, self.buffer)
            self._timers = Timers(
                table, self.records, self.clock, has_handler=self.has_timer_handler
            )
        return self._timers

    @property
    def timer_table(self) -> TimerTable:
        """The object's timers, as the scheduler that rings them sees them."""
        return self.timers.table

    def go_back(self) -> None:
        """Go back as `on_next_session_restore_bookmark` has requested, if it has. Must come first;
        raises StoreDamaged or UnknownBookmark if it fails, and is not tried again then."""
        self.bookmarks.go_back()

    def prune_history(self) -> bool:
        """Delete some of what is too old in the object's history, in a batch of its own, outside of
        any turn; returns whether there was any."""
        history = self.buffer.history
        if history is None or not history.prune():
            return False
        self.buffer.note_history()
        self.buffer.seal()
        return True

    @property
    def bookmarks(self) -> Bookmarks:
        """Those of the object."""
        return Bookmarks(self.buffer, self.records.reads, self.clock)

    def seal(self) -> None:
        """The turn has ended: make a batch of what it wrote."""
        self.buffer.seal()

    def discard(self) -> None:
        """The object leaves memory: what was not sealed is gone, its cache is given back."""
        self.buffer.close(self.gate.broken)
        self.cache.discard()

    @property
    def alarm(self) -> Alarm | None:
        """The alarm as stored, or about to be; the one whose handler runs is still there."""
        return self.buffer.alarm

    def begin_alarm(self) -> None:
        """The handler starts: from now on the alarm is not to be seen, unless one is set anew."""
        assert self.buffer.alarm is not None
        self.buffer.alarm_runs = True

    def end_alarm(self, success: bool, retry: Alarm | None = None) -> bool:
        """The handler has ended. Returns whether the alarm that rang was still the object's.

        On success it is deleted, in the turn under way. Else it is to be seen again; with *retry*
        that is stored in its place. An alarm that the handler set or deleted stays as it is.
        """
        buffer = self.buffer
        if not buffer.alarm_runs:
            return False
        buffer.alarm_runs = False
        if success or retry is not None:
            buffer.write_alarm(None if success else retry, confirmed=True)
        return True

    def amend_alarm(self, expected: Alarm, alarm: Alarm | None) -> None:
        """Store *alarm* in place of *expected*, outside of any turn; not if it is another one."""
        if self.buffer.alarm == expected and not self.buffer.alarm_runs:
            self.buffer.write_alarm(alarm, confirmed=True)

    def __repr__(self) -> str:
        return f"<ObjectStorage {self.cache!r} {self.buffer!r}>"
