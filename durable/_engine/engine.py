"""The interface of an engine: the calls that everything above makes.

An engine keeps records under keyspaces, objects under their class and base, alarms in the order of
their times, and a catalog of classes. Everything above it works with values only: batches go down,
records and encoded values come up.

An engine whose commits are made by another process is one that `Begins` them, too: see `begun.py`.

Rule: `commit` and `collect_garbage` block, and run one at a time: on the committer's thread, before
it is started, or, a `commit` that may not wait, on the thread of the event loop. `change_classes`
blocks, too. `find` may be called from any thread. All other calls belong to the thread of the
event loop. Reads see what was committed before the last `refresh`; those of an engine without
snapshots may see what was committed since, too.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import ClassVar, Final, Protocol

from .batch import Batch, DueAlarm, ObjectRecord
from .catalog import Catalog, Weight
from .measures import Measures

ANY_NUMBER: Final = 1 << 30
"""As `Engine.group_max`: all batches that wait are one group."""

# Records and objects that one step of garbage collection frees; commits wait for a step.
GARBAGE_STEP: Final = 5_000


class Reader(Protocol):
    """Reads the records of objects, for one thread at a time. Never returns a damaged value: it
    raises StoreDamaged instead."""

    def get(self, keyspace: int, key: str, /) -> bytes | None:
        """The encoded value of *key* under *keyspace*; None if there is none."""

    def get_many(self, keyspace: int, keys: Iterable[str], /) -> dict[str, bytes]:
        """The encoded values of those of *keys* that exist."""

    def count_present(self, keyspace: int, keys: Iterable[str], /) -> int:
        """How many of the keys exist, whether or not their values can be read."""

    def scan_some(
        self,
        keyspace: int,
        lower: str = "",
        upper: str | None = None,
        *,
        reverse: bool = False,
        count_max: int | None,
        size_max: int | None = None,
    ) -> tuple[list[tuple[str, bytes]], bool]:
        """The first keys from *lower*, *upper* excluded, in the order of their UTF-8 bytes, and
        their encoded values, up to *count_max* keys, or to the one with which the values reach
        *size_max* bytes; and whether there are no more."""

    def keys_some(
        self,
        keyspace: int,
        lower: str = "",
        upper: str | None = None,
        *,
        reverse: bool = False,
        count_max: int,
    ) -> tuple[list[str], bool]:
        """The same keys, up to *count_max*, whether or not their values can be read; and whether
        there are no more. No value is read."""

    def count_some(
        self,
        keyspace: int,
        lower: str,
        upper: str | None,
        without: Container[bytes],
        count_max: int,
    ) -> tuple[int, str | None]:
        """How many of the first *count_max* keys from *lower* on are not in *without*, and the key
        to go on from; None: there are no more."""

    def get_side(self, keyspace: int, key: bytes, /) -> bytes | None:
        """The side record *key* under *keyspace*; None if there is none."""

    def get_sides(self, keyspace: int, keys: Sequence[bytes], /) -> list[bytes | None]:
        """The same of each of *keys*, in their order."""

    def scan_sides(
        self,
        keyspace: int,
        lower: bytes,
        upper: bytes,
        *,
        reverse: bool = False,
        count_max: int,
    ) -> list[tuple[bytes, bytes]]:
        """Up to *count_max* side records from *lower* on, *upper* excluded, in the order of their
        keys; in *reverse* the last ones first."""


class OwnReader(Reader, Protocol):
    """A reader that a thread has to itself."""

    def release(self) -> None:
        """See what was committed since, from the next read on; until then no page is pinned."""

    def close(self) -> None:
        """The thread reads no more."""


class Engine(Protocol):
    """An open store."""

    @property
    def path(self) -> str:
        """Where it is, for messages."""

    keeps_histories: ClassVar[bool]
    """Whether the engine stores `Batch.history`, and keeps what a clear has to keep."""

    group_max: ClassVar[int]
    """How many batches one commit should have at most. Where a commit waits for another process,
    the loop makes the next batches meanwhile, if some were announced already."""

    has_garbage: bool
    """Whether `collect_garbage` has something to free."""

    # Reading

    @property
    def in_line(self) -> Reader:
        """The reader of the loop's own thread."""

    def refresh(self) -> None:
        """From now on reads see every commit that was made before."""

    def new_reader(self) -> OwnReader:
        """A reader for one more thread."""

    def find(self, class_number: int, base: bytes) -> ObjectRecord | None:
        """The record of an object; None if it has neither a stored record nor an alarm."""

    def objects(
        self, class_number: int, *, after: bytes | None = None, count_max: int
    ) -> list[tuple[bytes, ObjectRecord]]:
        """Up to *count_max* objects of a class behind the base *after*, in the order of bases."""

    def alarms(self, *, after: DueAlarm | None = None, count_max: int) -> list[DueAlarm]:
        """Up to *count_max* alarms of all objects behind *after*, the earliest first."""

    def next_alarm_us(self) -> int | None:
        """When the earliest alarm is due."""

    def catalog(self) -> Catalog:
        """All classes, deleted ones included, and all migrations."""

    def weigh_class(self, class_number: int) -> Weight:
        """What a class contains; reads all of it."""

    def measure(self) -> Measures:
        """The measures of the store's file; costs the same for a small store and a large one."""

    # Writing

    def next_keyspace(self) -> int:
        """A keyspace that no object has had. A commit that uses it records it as assigned."""

    def commit(self, group: Sequence[Batch], *, may_wait: bool = True) -> bool:
        """Make every batch of *group* durable in one transaction; returns True.

        Raises StoreFull, CommitFailed or StoreDamaged, and then none of it is stored. Without
        *may_wait* it waits for nothing but the disk: where it would have to wait for a lock, or
        must make room, it does nothing and returns False.
        """

    def change_classes(self, before: Catalog, after: Catalog) -> None:
        """Replace the catalog *before* by *after*."""

    def collect_garbage(self, count_max: int = GARBAGE_STEP) -> int:
        """Free up to *count_max* records and objects of what was deleted as a whole; returns how
        many."""

    # The end

    def close(self) -> None:
        """Release the store. Reads and writes must have ended."""
