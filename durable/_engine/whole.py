"""A store of shards as one engine: for code that looks at all of it, or copies it.

Rule: a keyspace of the whole store is the keyspace in a shard and the number of the shard, in one
number. So code that reads an object's records by its keyspace need not know of shards.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from operator import itemgetter
from typing import ClassVar, Concatenate, Final, ParamSpec, TypeVar

from attrs import define, evolve, field

from .batch import Batch, DueAlarm, ObjectHandle, ObjectRecord
from .catalog import Catalog, Weight
from .engine import ANY_NUMBER, GARBAGE_STEP, Engine, OwnReader, Reader
from .measures import Measures, sum_of
from .shards import shard_of

P = ParamSpec("P")
R = TypeVar("R")

# Keyspaces from here on are assigned, but do not belong to a shard yet.
FRESH: Final = 1 << 62


def _in_its_shard(
    call: Callable[Concatenate[Reader, int, P], R],
) -> Callable[Concatenate[WholeReader, int, P], R]:
    """The same call, made of the reader of the keyspace's shard with the keyspace in it."""
    name = call.__name__

    def forwarded(self: WholeReader, keyspace: int, /, *args: P.args, **options: P.kwargs) -> R:
        own, shard = divmod(keyspace, len(self._readers))
        found: R = getattr(self._readers[shard], name)(own, *args, **options)
        return found

    return forwarded


@define(eq=False)
class WholeReader:
    """Reads the records of all shards, for one thread at a time."""

    _readers: Sequence[Reader]

    get = _in_its_shard(Reader.get)
    get_many = _in_its_shard(Reader.get_many)
    count_present = _in_its_shard(Reader.count_present)
    scan_some = _in_its_shard(Reader.scan_some)
    keys_some = _in_its_shard(Reader.keys_some)
    count_some = _in_its_shard(Reader.count_some)
    get_side = _in_its_shard(Reader.get_side)
    get_sides = _in_its_shard(Reader.get_sides)
    scan_sides = _in_its_shard(Reader.scan_sides)


@define(eq=False)
class WholeOwnReader(WholeReader):
    """The same, for a thread that has it to itself."""

    _own: Sequence[OwnReader] = ()

    def release(self) -> None:
        for reader in self._own:
            reader.release()

    def close(self) -> None:
        for reader in self._own:
            reader.close()


@define(eq=False, repr=False)
class WholeStore:
    """An `Engine` made of the engines of all shards, in their order."""

    keeps_histories: ClassVar[bool] = True
    group_max: ClassVar[int] = ANY_NUMBER
    path: str
    shards: Sequence[Engine]
    # Used instead of what the shards know, which may be out of date.
    known: Catalog
    # The engines that it closes at its end.
    own: Sequence[Engine] = ()
    in_line: Reader = field(init=False)
    _fresh: Iterator[int] = field(factory=lambda: count(FRESH), init=False)
    # The keyspace of a shard for each fresh one that was used.
    _given: dict[int, int] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self.in_line = WholeReader([shard.in_line for shard in self.shards])

    @property
    def has_garbage(self) -> bool:
        return any(shard.has_garbage for shard in self.shards)

    @has_garbage.setter
    def has_garbage(self, has_garbage: bool) -> None:
        for shard in self.shards:
            shard.has_garbage = has_garbage

    # Reading

    def refresh(self) -> None:
        for shard in self.shards:
            shard.refresh()

    def new_reader(self) -> OwnReader:
        readers = [shard.new_reader() for shard in self.shards]
        return WholeOwnReader(readers, readers)

    def shard_of(self, base: bytes) -> int:
        return shard_of(base, len(self.shards))

    def _whole(self, shard: int, record: ObjectRecord) -> ObjectRecord:
        count = len(self.shards)
        history = record.history * count + shard if record.history else 0
        return record._replace(keyspace=record.keyspace * count + shard, history=history)

    def kept_keyspace(self, history: int, keyspace: int) -> int:
        """The whole store's keyspace for one that stands in the history of an object."""
        return keyspace * len(self.shards) + history % len(self.shards) if keyspace else 0

    def find(self, class_number: int, base: bytes) -> ObjectRecord | None:
        number = self.shard_of(base)
        record = self.shards[number].find(class_number, base)
        return None if record is None else self._whole(number, record)

    def objects(
        self, class_number: int, *, after: bytes | None = None, count_max: int
    ) -> list[tuple[bytes, ObjectRecord]]:
        found = [
            (base, self._whole(number, record))
            for number, shard in enumerate(self.shards)
            for base, record in shard.objects(class_number, after=after, count_max=count_max)
        ]
        return heapq.nsmallest(count_max, found, key=itemgetter(0))

    def alarms(self, *, after: DueAlarm | None = None, count_max: int) -> list[DueAlarm]:
        found = (shard.alarms(after=after, count_max=count_max) for shard in self.shards)
        return heapq.nsmallest(count_max, (due for some in found for due in some))

    def next_alarm_us(self) -> int | None:
        first = self.alarms(count_max=1)
        return first[0].due_us if first else None

    def catalog(self) -> Catalog:
        return self.known

    def weigh_class(self, class_number: int) -> Weight:
        weights = [shard.weigh_class(class_number) for shard in self.shards]
        return Weight(
            sum(weight.objects for weight in weights),
            sum(weight.alarms for weight in weights),
            sum(weight.size for weight in weights),
        )

    def measure(self) -> Measures:
        return sum_of([shard.measure() for shard in self.shards])

    # Writing

    def next_keyspace(self) -> int:
        """As `Engine.next_keyspace`. Its shard is chosen when it is used: until then no object of
        the store has it."""
        return next(self._fresh)

    def commit(self, group: Sequence[Batch], *, may_wait: bool = True) -> bool:
        """As `Engine.commit`, but in a transaction for each shard."""
        parts: dict[int, list[Batch]] = {}
        for batch in group:
            handle = batch.handle
            number = self.shard_of(handle.base)
            own = ObjectHandle(
                handle.class_number,
                handle.base,
                self._own_keyspace(number, handle.keyspace),
                handle.name,
                handle.created_us,
                handle.alarm,
                history=self._own_keyspace(number, handle.history) if handle.history else 0,
            )
            parts.setdefault(number, []).append(evolve(batch, handle=own))
        for number, part in parts.items():
            self.shards[number].commit(part)
        return True

    def _own_keyspace(self, shard: int, keyspace: int) -> int:
        if keyspace < FRESH:
            return keyspace // len(self.shards)
        own = self._given.get(keyspace)
        if own is None:
            own = self._given[keyspace] = self.shards[shard].next_keyspace()
        return own

    def change_classes(self, before: Catalog, after: Catalog) -> None:
        for shard in self.shards:
            known = shard.catalog()
            if known != after:
                shard.change_classes(known, after)
        self.known = after

    def collect_garbage(self, count_max: int = GARBAGE_STEP) -> int:
        return sum(shard.collect_garbage(count_max) for shard in self.shards if shard.has_garbage)

    # The end

    def close(self) -> None:
        for shard in self.own:
            shard.close()

    def __repr__(self) -> str:
        return f"<WholeStore {self.path!r} of {len(self.shards)} shards>"
