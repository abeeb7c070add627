"""The engine: what one process owns of a store in PostgreSQL, all of its shards as one.

All shards of a process share one committer, one connection that writes and one group commit: a
group of batches is one transaction, of whatever shards their objects are.

Rule: each commit compares the epochs of the shards that it writes with those that this process was
given, in the same transaction. What another process owns by now is never written.

Rule: the outcome of a commit whose connection was lost is unknown. Before anything else is read or
written in its shards, their epochs are raised, which waits for the end of that transaction: what is
read then stays true.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from functools import partial
from struct import Struct
from typing import ClassVar, Final, TypeVar

from attrs import define, field

from durable._engine.batch import Batch, DueAlarm, ObjectRecord, Woken
from durable._engine.catalog import Catalog, Weight
from durable._engine.engine import GARBAGE_STEP
from durable._engine.measures import Measures
from durable._engine.shards import shard_of
from durable._model.clock import Clock
from durable._model.cluster_errors import ObjectSuperseded
from durable._model.errors import DurableError, StoreFull

from .arrays import Bigints, Integers
from .classes import change_catalog, read_catalog, read_confirmed_catalog
from .connection import SILENCE_S_MAX, Connection
from .freeing import NoRoom, free
from .garbage import collect
from .group import Changes, Freed, ObjectKey, is_of_values, unread_of
from .keyspaces import Keyspaces
from .newest_primary import NewestPrimary
from .postgres_errors import Conflict, Lost
from .questions import Questions
from .reader import PostgresReader
from .schema import read_meta
from .under_way import UnderWay

T = TypeVar("T")

# How often a transaction is tried that conflicts with another.
TRIES_MAX: Final = 5

# Batches of a commit. Of a thousand callers that wait for one commit all would begin the next one
# together, and the loop and the database would wait for each other.
GROUP_MAX: Final = 256

READ_S_MAX: Final = 10.0
"""How long the database may say nothing to a read, in seconds: the event loop waits meanwhile."""

LOOKING: Final = 0
"""In place of a process: all of the store is owned by none, and only read."""

_COMMIT: Final = (
    "select makes_garbage, forgotten from durable.commit_group("
    "%s::bigint, %s::integer[], %s::bigint[], "
    "%s::integer[], %s::bytea[], %s::integer[], %s::bigint[], %s::bigint[], %s::bytea[], "
    "%s::bigint[], %s::bigint[], %s::integer[], %s::integer[], %s::bigint[], "
    "%s::bigint[], %s::bigint[], "
    "%s::bigint[], %s::bytea[], %s::bytea[], %s::bigint[], %s::bytea[], "
    "%s::bigint[], %s::bytea[], %s::bytea[], %s::bigint[], %s::bytea[], "
    "%s::integer[], %s::bytea[])"
)
_COMMIT_VALUES: Final = b"select durable.commit_values($1, $2, $3, $4, $5, $6)"
# bigint, integer, bigint, bigint[], bytea[], bytea[]
_VALUES_TYPES: Final = (20, 23, 20, 1016, 1001, 1001)
_INT: Final = Struct(">i").pack
_LONG: Final = Struct(">q").pack
# Not where the epoch is lower than this process believes: then the database has lost its claim, and
# what it has in memory is of that history. It would rise to the same one.
_RAISE_EPOCHS: Final = (
    "with mine as (select s.shard from durable.shards as s "
    "join unnest(%s::integer[], %s::bigint[]) as given (shard, epoch) "
    "on s.shard = given.shard and s.epoch >= given.epoch "
    "where s.owner = %s order by s.shard for update of s) "
    "update durable.shards as s set epoch = s.epoch + 1 from mine where s.shard = mine.shard "
    "returning s.shard, s.epoch"
)


@define(eq=False, repr=False)
class PostgresEngine:
    """An `Engine`. *process* is the number of this process in the table of processes; `owned` are
    its shards with their epochs, maintained by the code that claims and releases them."""

    url: str
    clock: Clock
    process: int
    shards: int
    owned: dict[int, int] = field(factory=dict)
    # How long the database may say nothing to a commit, in seconds.
    commit_s_max: float = SILENCE_S_MAX
    newest: NewestPrimary = field(factory=NewestPrimary)
    keeps_histories: ClassVar[bool] = True
    group_max: ClassVar[int] = GROUP_MAX
    has_garbage: bool = field(default=False, init=False)
    in_line: PostgresReader = field(init=False)
    path: str = field(init=False)
    _questions: Questions = field(init=False)
    _reading: Connection = field(init=False)
    _writing: Connection = field(init=False)
    _keyspaces: Keyspaces = field(init=False)
    # Shards with a commit whose outcome is unknown.
    _in_doubt: set[int] = field(factory=set, init=False)
    _settling: threading.Lock = field(factory=threading.Lock, init=False)
    # Held while `owned` changes: shards are claimed, given up and settled in different threads.
    _owning: threading.Lock = field(factory=threading.Lock, init=False)
    # Called, in any thread, when shards are found to belong to another process.
    on_superseded: Callable[[], object] = field(default=lambda: None, init=False)
    # Called before the connections are closed.
    on_close: Callable[[], object] = field(default=lambda: None, init=False)
    # Still owned, but being given up: their alarms do not run here any more.
    _silent: set[int] = field(factory=set, init=False)

    @classmethod
    def open(cls, url: str, clock: Clock, process: int, owned: dict[int, int]) -> PostgresEngine:
        """Raises StoreUnavailable; FileNotFoundError where the database has no store."""
        with closing(Connection(url)) as connection:
            meta = read_meta(connection, may_be_moved=process == LOOKING)
        return cls(url, clock, process, meta.shards, owned)

    def __attrs_post_init__(self) -> None:
        self._reading = Connection(self.url, READ_S_MAX, rests=True, newest=self.newest)
        self._writing = Connection(self.url, self.commit_s_max, newest=self.newest)
        self.path = self._reading.path
        self._questions = Questions(self._reading)
        self._keyspaces = Keyspaces(self._reading)
        self.in_line = PostgresReader(self._reading, is_own=False)
        [(self.has_garbage,)] = self._reading.read(
            "select exists (select from durable.garbage) "
            "or exists (select from durable.garbage_histories) "
            "or exists (select from durable.garbage_classes)"
        )

    # Reading

    def refresh(self) -> None:
        """Nothing to do: each read sees what is committed by then."""

    def new_reader(self) -> PostgresReader:
        return PostgresReader(Connection(self.url, READ_S_MAX, newest=self.newest))

    def find(self, class_number: int, base: bytes) -> ObjectRecord | None:
        self._settle()
        return self._questions.find(class_number, base)

    def wake(self, class_number: int, base: bytes) -> Woken | None:
        self._settle()
        return self._questions.wake(class_number, base, self.in_line)

    def objects(
        self, class_number: int, *, after: bytes | None = None, count_max: int
    ) -> list[tuple[bytes, ObjectRecord]]:
        """The objects of all processes."""
        return self._questions.objects(class_number, after, count_max)

    def alarms(self, *, after: DueAlarm | None = None, count_max: int) -> list[DueAlarm]:
        """The alarms of the shards that are owned; of all shards while the store is only read."""
        self._settle()
        is_all = self.process == LOOKING or len(self.owned) == self.shards
        shards = None if is_all and not self._silent else sorted(self.owned.keys() - self._silent)
        return self._questions.alarms(shards, after, count_max)

    def next_alarm_us(self) -> int | None:
        first = self.alarms(count_max=1)
        return first[0].due_us if first else None

    def catalog(self) -> Catalog:
        read = self._reading.read
        return read_catalog(read) if self.process == LOOKING else read_confirmed_catalog(read)

    def weigh_class(self, class_number: int) -> Weight:
        return self._questions.weigh_class(class_number)

    def measure(self) -> Measures:
        return self._questions.measure()

    # Writing

    def next_keyspace(self) -> int:
        """As `Engine.next_keyspace`; rarely asks the database. If it does not answer, the commit
        that stores something under the keyspace fails."""
        return self._keyspaces.next()

    def commit(self, group: Sequence[Batch], *, may_wait: bool = True) -> bool:
        """As `Engine.commit`. If the connection is lost meanwhile, StoreUnavailable is raised, and
        the group may be stored or not."""
        if not may_wait:
            return False  # a commit waits for the network, and perhaps for other processes' locks
        self._settle()
        self._keyspaces.check(group)
        unread = unread_of(group)
        found = self._find_before(unread)
        changes = self._changes(group, found)
        used = changes.shards_used()
        if not used:
            self._writing.read("select 1")  # raises if the store is closed
            return True
        try:
            epochs = [self.owned[shard] for shard in used]
        except KeyError as error:
            raise ObjectSuperseded(
                f"shard {error} of {self.path!r} belongs to another process by now, and nothing of "
                f"the commit was stored"
            ) from None
        self._commit(changes, used, epochs)
        with suppress(DurableError):  # it is tried again when a keyspace is needed
            self._keyspaces.refill(self._writing)
        return True

    def begin(self, batch: Batch) -> UnderWay | None:
        """As `Begins.begin`, for values of an object whose row is known, and stays as it is."""
        shard = shard_of(batch.handle.base, self.shards)
        epoch = self.owned.get(shard)
        if self._in_doubt or epoch is None or not is_of_values(batch):
            return None
        changes = self._changes([batch], {})
        values = changes.values_alone()
        assert values is not None
        send = partial(self._writing.begin, *self._values_call(shard, epoch, values))
        attempt = partial(self._try, used=[shard])
        try:
            is_sent = attempt(send)
        except Lost:
            return None  # in doubt by now: `commit` settles that, and writes the same again
        except BaseException:
            self._in_doubt.add(shard)  # it may have been sent
            raise
        return UnderWay(self._writing, send, attempt, changes) if is_sent else None

    def _values_call(
        self, shard: int, epoch: int, values: Sequence[bytes]
    ) -> tuple[bytes, Sequence[bytes], Sequence[int]]:
        """The call of `durable.commit_values`, as `Connection.call` and `begin` take it."""
        params = [_LONG(self.process), _INT(shard), _LONG(epoch), *values]
        return _COMMIT_VALUES, params, _VALUES_TYPES

    def _changes(self, group: Sequence[Batch], found: Mapping[ObjectKey, ObjectRecord]) -> Changes:
        changes = Changes(found, self.shards, int(self.clock.now() * 1_000_000))
        changes.apply(group)
        return changes

    def _find_before(self, unread: set[ObjectKey]) -> dict[ObjectKey, ObjectRecord]:
        return Questions(self._writing).find_some(unread) if unread else {}

    def _commit(self, changes: Changes, used: list[int], epochs: list[int]) -> None:
        values = changes.values_alone() if len(used) == 1 else None
        if values is not None:
            call = partial(self._writing.call, *self._values_call(used[0], epochs[0], values))
            self._try(call, used)
            changes.settle(())
            return
        arguments = [self.process, Integers(used), Bigints(epochs), *changes.arguments()]
        try:
            [row] = self._try(partial(self._writing.write, _COMMIT, arguments), used)
        except StoreFull:
            freed = changes.freed()
            if freed is None:
                raise
            changes.settle(self._free(freed, used, epochs))
            return
        makes_garbage, forgotten = row
        changes.settle(forgotten or ())
        self.has_garbage |= makes_garbage

    def _free(self, freed: Freed, used: list[int], epochs: list[int]) -> list[int]:
        """Commit what only deletes, though the disk is full; returns which objects are empty."""
        try:
            step = partial(free, self._writing, self.process, used, epochs, freed)
            return self._try(step, used)
        except NoRoom as error:
            raise StoreFull(
                f"the disk of the database {self.path!r} has no room to change the row of an "
                f"object, and nothing of the commit was stored"
            ) from error

    def _try(self, commit: Callable[[], T], used: list[int]) -> T:
        for left in reversed(range(TRIES_MAX)):
            try:
                return commit()
            except Conflict:
                if not left:
                    raise
            except (Lost, ObjectSuperseded):
                # The second, if an earlier attempt to settle, given up here, was carried out late.
                self._in_doubt.update(used)
                raise
        raise AssertionError

    def _settle(self) -> None:
        """Settle every commit whose outcome is unknown. Raises StoreUnavailable."""
        if not self._in_doubt:
            return
        with self._settling:
            doubted = set(self._in_doubt)
            with self._owning:
                # Not of one that is claimed just now: its claim waits for a commit under way, too.
                before = {shard: self.owned[shard] for shard in doubted if shard in self.owned}
            # Repeated, as a read is, if the connection is lost: the last epoch counts.
            raised: dict[int, int] = dict(
                self._reading.read(
                    _RAISE_EPOCHS, [list(before), list(before.values()), self.process]
                )
            )
            with self._owning:
                superseded = [
                    shard for shard in before if self._is_superseded(shard, before, raised)
                ]
            self._in_doubt.difference_update(doubted)
        if superseded:
            self.on_superseded()

    def _is_superseded(
        self, shard: int, before: Mapping[int, int], raised: Mapping[int, int]
    ) -> bool:
        """Take in the epoch of a settled shard; returns whether another process owns it by now."""
        owned = self.owned.get(shard)
        if owned is None:
            return False  # given up meanwhile
        if shard in raised:
            self.owned[shard] = max(owned, raised[shard])
            return False
        if owned != before[shard]:
            return False  # claimed meanwhile
        del self.owned[shard]
        return True

    def change_classes(self, before: Catalog, after: Catalog) -> None:
        if not change_catalog(self._reading, before, after):
            raise DurableError(
                f"the classes of {self.path!r} were changed by another process meanwhile",
                retryable=True,
            )
        self.has_garbage |= any(record.is_deleted for record in after.records)

    def collect_garbage(self, count_max: int = GARBAGE_STEP) -> int:
        """As `Engine.collect_garbage`; leaves out what another process is just freeing."""
        freed = collect(self._writing, count_max)
        self.has_garbage = freed == count_max
        return freed

    # The shards

    def own(self, claimed: Mapping[int, int]) -> None:
        """These shards are owned by this process, with these epochs; their claim has committed."""
        with self._owning:
            self._silent.difference_update(claimed)
            for shard, epoch in claimed.items():
                # It may have been raised since, by the settlement of a commit.
                self.owned[shard] = max(epoch, self.owned.get(shard, 0))

    def silence(self, shard: int) -> None:
        """A shard is being given up: its alarms are left to the next owner."""
        self._silent.add(shard)

    def disown(self, shard: int) -> int:
        """A shard is given up: nothing is stored in it any more. Returns its epoch."""
        with self._owning:
            self._silent.discard(shard)
            return self.owned.pop(shard, 0)

    def disown_all(self) -> None:
        """As `disown`, for all shards."""
        with self._owning:
            self.owned.clear()

    # The end

    def close(self) -> None:
        """Close the connections. What is owned stays owned until its process leaves."""
        self.on_close()
        self._reading.close()
        self._writing.close()

    def __repr__(self) -> str:
        return f"<PostgresEngine {self.path!r}, {len(self.owned)} of {self.shards} shards owned>"
