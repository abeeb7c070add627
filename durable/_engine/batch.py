"""What is passed down to the disk: batches, and the handles of the objects that they are about.

Which thread writes which field of a `ObjectHandle`:

- The loop's thread writes `keyspace` (before it submits the batch that needs the new one, and after
  all batches under the old one are durable), `history` (the same way) and `name`. The committer's
  thread only reads them.
- The thread that commits writes `record` and `created_us`. The loop may read `created_us` once a
  batch was reported durable, and never looks at `record`; it has set that before the first batch
  where it has just read it. `woken` is the loop's.
- `failed` is set once, by either thread; the other leaves it as it is.
- `class_number` and `base` never change; `alarm` is the one that the handle was found with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from itertools import chain
from operator import attrgetter
from typing import Final, NamedTuple, Protocol

from attrs import define, field, frozen

from durable._model.errors import DurableError


class Unchanged(Enum):
    """In place of an alarm: leave it as it is."""

    UNCHANGED = "unchanged"

    def __repr__(self) -> str:
        return self.name


UNCHANGED: Final = Unchanged.UNCHANGED


# These three are tuples, since one is made for each object that wakes and each alarm that rings: a
# frozen class of attrs takes five times as long to make.


class Alarm(NamedTuple):
    """When an object wants to be woken, in microseconds since 1970."""

    due_us: int  # when it rings next
    scheduled_us: int  # the time given to `set_alarm`
    retry_count: int = 0
    backoff: int = 0


class ObjectRecord(NamedTuple):
    """What the store knows of an object without waking it."""

    keyspace: int  # its records sort under it
    created_us: int
    name: str | None
    alarm: Alarm | None
    history: int = 0  # its history sorts under it; 0: it has none


@frozen
class Woken:
    """What is known of an object when it is woken."""

    record: ObjectRecord
    # The first keys, all of those below *upper*; None: all of them.
    keys: Sequence[tuple[str, bytes]] = ()
    upper: str | None = None
    # The first side records, and whether these are all.
    sides: Mapping[bytes, bytes] = field(factory=dict)
    are_all_sides: bool = False


class DueAlarm(NamedTuple):
    """An entry of the alarm index, in its order."""

    due_us: int
    class_number: int
    base: bytes


class Unread(Enum):
    """In place of a record: the disk was not asked yet."""

    UNREAD = "unread"


UNREAD: Final = Unread.UNREAD


@define(eq=False, slots=True, weakref_slot=False)
class ObjectHandle:
    """One object's place on the disk, as its live activation knows it."""

    class_number: int
    base: bytes  # 16 bytes
    keyspace: int  # the object's records sort under it; 0: it has none yet
    name: str | None
    created_us: int | None
    alarm: Alarm | None
    failed: DurableError | None = None
    # The keyspace of the object's history. 0: it has none, or it ends with the next batch.
    history: int = 0
    # What came with the object when it was woken, until its storage has taken it.
    woken: Woken | None = field(default=None, init=False, repr=False)
    # What the objects database has, with the changes of the transaction under way.
    record: ObjectRecord | Unread | None = field(default=UNREAD, init=False, repr=False)

    @classmethod
    def of(cls, class_number: int, base: bytes, record: ObjectRecord) -> ObjectHandle:
        """The handle of an object that is stored."""
        return cls(
            class_number,
            base,
            record.keyspace,
            record.name,
            record.created_us,
            record.alarm,
            history=record.history,
        )


class Origin(Protocol):
    """The owner of a batch. One of these is called once, on the loop's thread."""

    def batch_durable(self, batch: Batch) -> None:
        """*batch* is on the disk."""

    def batch_failed(self, batch: Batch, error: DurableError) -> None:
        """Nothing of *batch* is stored."""


@frozen
class Callbacks:
    """An origin made of two functions."""

    on_durable: Callable[[], object]
    on_failed: Callable[[DurableError], object]

    def batch_durable(self, batch: Batch) -> None:
        self.on_durable()

    def batch_failed(self, batch: Batch, error: DurableError) -> None:
        self.on_failed(error)


@define(eq=False, slots=True, weakref_slot=False)
class Batch:
    """What one turn wrote, or a few in a row: all of it reaches the disk or none. A value that can
    be sent.

    It clears first, if it does, then it puts and deletes keys and side records; an alarm of None
    deletes it.

    If the object keeps a history, the batch contains its own changes to that. A batch without such
    changes, of an object that has a history, ends the history.
    """

    handle: ObjectHandle
    clears: bool  # everything that was stored before goes; `handle.keyspace` is a new one already
    puts: dict[str, bytes | None]  # None deletes
    alarm: Alarm | Unchanged | None
    origin: Origin = field(repr=False)
    size: int  # bytes of keys and values, about
    seqno: int = 0  # its number among the object's batches; for its origin
    # Until it goes to the committer, further turns of its object may be added to it.
    is_open: bool = False
    # Deliveries wait in line at its object, so more is written there before the loop gets a round.
    more_follows: bool = False
    # For an object that is copied from elsewhere: when it was created there.
    created_us: int | None = None
    # Records of the object beside its keys, see `side_records`; None in place of one deletes it.
    sides: dict[bytes, bytes | None] | None = None
    # Records of the object's history, see `history_records`; None in place of one deletes it.
    history: dict[bytes, bytes | None] | None = None
    # The record of the history that will say where the cleared contents are kept.
    clearing: bytes | None = None
    # It clears by going back to what was kept: `handle.keyspace` is not a new one.
    goes_back: bool = False
    # Keyspaces that the history has kept, and that nothing refers to any more.
    forgets: tuple[int, ...] = ()

    @property
    def frees(self) -> bool:
        """Whether it leaves no more stored than before, however full the disk is, except for what a
        history keeps of it."""
        return self.alarm in {None, UNCHANGED} and not any(
            value is not None for value in self._written()
        )

    @property
    def is_empty(self) -> bool:
        return (
            not self.puts
            and not self.sides
            and not self.clears
            and self.alarm is UNCHANGED
            and not self.history
        )

    @property
    def stores(self) -> bool:
        """Whether anything is stored after it: a key, a side record, an alarm, a history."""
        return (
            isinstance(self.alarm, Alarm)
            or self.handle.history != 0
            or any(v is not None for v in self._written())
        )

    def _written(self) -> Iterable[bytes | None]:
        return chain(self.puts.values(), (self.sides or {}).values())


size_of: Callable[[Batch], int] = attrgetter("size")
"""For `map`, which goes over the batches of a group without a step of Python for each."""


def record_after(before: ObjectRecord | None, batch: Batch, now_us: int) -> ObjectRecord | None:
    """The record of an object once *batch* is applied, where it was *before*; None: the object was
    unknown, and *batch* writes nothing.

    Whether anything is left of a known object is another question, for the engine.
    """
    handle, alarm, record = batch.handle, batch.alarm, before
    created_us = now_us if batch.created_us is None else batch.created_us
    if batch.clears and record is not None:
        assert handle.keyspace != record.keyspace  # a clear needs a new keyspace
        record = record._replace(keyspace=handle.keyspace, created_us=created_us)
    if record is None:
        if not batch.stores:
            return None
        record = ObjectRecord(handle.keyspace, created_us, handle.name, None)
    assert record.keyspace == handle.keyspace > 0  # assigned before the batch has left
    if not isinstance(alarm, Unchanged) and alarm != record.alarm:
        record = record._replace(alarm=alarm)
    if record.history != handle.history:
        record = record._replace(history=handle.history)
    if record.name is None and handle.name is not None:
        record = record._replace(name=handle.name)
    return record
