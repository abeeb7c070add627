"""What a store is, whoever keeps it: the calls that everything above asks of an engine.

An engine keeps records under numbers, objects under their class and base, alarms in the order of
their times, and a catalog of classes. Everything above it works with values only: batches go down,
records and encoded values come up.

Rule: `commit`, `change_classes` and `collect_garbage` block and run on the committer's thread, or
before it is started; the other calls belong to the thread of the event loop. Reads see what was
committed before the last `refresh`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from .batch import Batch, DueAlarm, ObjectRecord
from .catalog import Catalog, Weight


class Reader(Protocol):
    """Reads the records of objects, for one thread at a time."""

    def get(self, number: int, key: str, /) -> bytes | None:
        """The encoded value of *key* under *number*; None if there is none."""

    def get_many(self, number: int, keys: Iterable[str], /) -> dict[str, bytes]:
        """The encoded values of those of *keys* that are there."""

    @property
    def scan(self) -> Scan:
        """The keys within bounds, in the order of their UTF-8 bytes, read at the call."""


class Scan(Protocol):
    """The shape of `Reader.scan`: from *lower* on, *upper* excluded."""

    def __call__(
        self,
        number: int,
        lower: str = "",
        upper: str | None = None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[tuple[str, bytes]]: ...


class OwnReader(Reader, Protocol):
    """A reader that a thread has to itself."""

    def release(self) -> None:
        """See what was committed since, from the next read on; until then no page is pinned."""

    def close(self) -> None:
        """The thread has no more use for it."""


class Engine(Reader, Protocol):
    """An open store."""

    @property
    def path(self) -> str:
        """Where it is, as messages call it."""

    has_garbage: bool
    """Whether `collect_garbage` has something to free."""

    # Reading

    def refresh(self) -> None:
        """From now on reads see every commit that was made before."""

    def new_reader(self) -> OwnReader:
        """A reader for one more thread."""

    def find(self, class_number: int, base: bytes) -> ObjectRecord | None:
        """What is known of an object; None if it has neither a key nor an alarm."""

    def objects(
        self, class_number: int, *, after: bytes | None = None, count_max: int
    ) -> list[tuple[bytes, ObjectRecord]]:
        """Up to *count_max* objects of a class behind the base *after*, in the order of bases."""

    def alarms(self, *, after: DueAlarm | None = None, count_max: int) -> list[DueAlarm]:
        """Up to *count_max* alarms of all objects behind *after*, the earliest first."""

    def next_alarm_us(self) -> int | None:
        """When the earliest alarm is due."""

    def catalog(self) -> Catalog:
        """All that is known of classes, those that were deleted included, and of migrations."""

    def weigh_class(self, class_number: int) -> Weight:
        """What a class holds; reads all of it."""

    # Writing

    def next_number(self) -> int:
        """A number that no object has had. Commits that use it remember that it was given out."""

    def commit(self, group: Sequence[Batch]) -> None:
        """Make every batch of *group* durable in one transaction.

        Raises StoreFull, CommitFailed or StoreDamaged, and then none of it is stored.
        """

    def change_classes(self, before: Catalog, after: Catalog) -> None:
        """Know *after* of classes and migrations, where *before* was known."""

    def collect_garbage(self) -> int:
        """Free a bounded number of records of what was deleted as a whole; returns how many."""

    # The end

    def close(self) -> None:
        """Release the store. Reads and writes must have ended."""
