"""The disks of an open store: one, or one for each shard that this process has.

A disk is an engine with all that serves it: the committer and its thread, the group commit, the
reads, the alarms. Loop, clock and limits are shared by all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import anyio.to_thread
from attrs import define, field

from durable._engine.batch import Batch, ObjectRecord
from durable._engine.catalog import Catalog
from durable._engine.committer import Committer
from durable._engine.engine import Engine
from durable._engine.group_commit import GroupCommit
from durable._engine.measures import Measures
from durable._engine.read_thread import Reads
from durable._engine.waking import Wakes
from durable._object.disk import Disk


class Sweeps(Protocol):
    """Frees what is too old in the histories of one disk: the sweeper."""

    def ask(self) -> None:
        """Look soon at the histories that there are."""

    def close(self) -> None:
        """Free nothing more."""


class Rings(Protocol):
    """Rings the alarms of one disk: the scheduler."""

    def submitting(self, batch: Batch) -> None:
        """A batch that changes an alarm is submitted."""

    def ask(self) -> None:
        """Look soon at what is due."""

    def close(self) -> None:
        """Ring no more alarms."""

    async def ring_now(self, activation: Any, timer: str | None = None) -> Any:
        """Ring the alarm of *activation*, or its timer of this name, whatever its time; returns
        the event once it has ended, None if there is nothing to ring."""


@define(eq=False)
class OpenDisk:
    """One engine, with all that serves it."""

    engine: Engine
    committer: Committer
    group_commit: GroupCommit
    reads: Reads
    disk: Disk = field(init=False)
    # Set before anything is committed.
    alarms: Rings = field(init=False)
    sweeper: Sweeps = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.disk = Disk(
            self.engine,
            self.reads,
            self.group_commit.submit,
            self.engine.next_keyspace,
            self.group_commit.when_answered,
            self.engine.wake if isinstance(self.engine, Wakes) else None,
        )

    def ring_by(self, alarms: Rings) -> None:
        """Notify *alarms* of the alarms that are set."""
        self.alarms = alarms
        self.group_commit.on_alarm = alarms.submitting

    def ask(self) -> None:
        """Look soon at what is due, and at what is too old."""
        self.alarms.ask()
        self.sweeper.ask()

    def stop(self) -> None:
        """Begin nothing of one's own any more."""
        self.alarms.close()
        self.sweeper.close()

    async def finish(self) -> None:
        """Commit what was submitted, and report all of it; nothing more is accepted then."""
        self.group_commit.flush()
        self.committer.begin_no_more()
        try:
            await anyio.to_thread.run_sync(self.committer.stop)
        except RuntimeError as error:
            if "new thread" not in str(error):
                raise
            # At the end of a program Python 3.12 starts no more threads; nothing else runs then
            # that this wait could block.
            self.committer.stop()
        while self.committer.waiting:
            await anyio.sleep(0)

    def finish_without_loop(self) -> None:
        """The same once the event loop has ended. Blocks."""
        self.group_commit.flush()
        self.committer.stop()

    def close(self) -> None:
        """Release the engine. What was submitted is committed."""
        self.reads.close()
        self.engine.close()


class Disks(Protocol):
    """All disks of a store in this process, and the store as a whole."""

    def disk_of(self, base: bytes) -> Disk:
        """The disk of an object. Raises NotOwner if the object belongs to another process."""

    def keeps(self, base: bytes) -> bool:
        """Whether an object is kept here, and is not being handed over to another process."""

    def __iter__(self) -> Iterator[OpenDisk]:
        """The disks that are open now."""

    @property
    def engine(self) -> Engine:
        """All that can be read of the store, as one engine."""

    def catalog(self) -> Catalog:
        """The classes and migrations of the store."""

    def change_classes(self, before: Catalog, after: Catalog) -> bool:
        """Replace the catalog *before* by *after*; returns False, and changes nothing, if another
        process has changed it meanwhile."""

    def measure(self) -> Measures:
        """The measures of the disks that are open."""

    def objects(
        self, class_number: int, *, after: bytes | None, count_max: int
    ) -> list[tuple[bytes, ObjectRecord]]:
        """Up to *count_max* objects of a class behind the base *after*, in the order of bases."""


@define(eq=False)
class OneDisk(Disks):
    """The disk of a store that one process has."""

    only: OpenDisk

    def disk_of(self, base: bytes) -> Disk:
        return self.only.disk

    def keeps(self, base: bytes) -> bool:
        return True

    def __iter__(self) -> Iterator[OpenDisk]:
        yield self.only

    @property
    def engine(self) -> Engine:
        return self.only.engine

    def catalog(self) -> Catalog:
        return self.only.engine.catalog()

    def change_classes(self, before: Catalog, after: Catalog) -> bool:
        self.only.engine.change_classes(before, after)
        return True

    def measure(self) -> Measures:
        return self.only.engine.measure()

    def objects(
        self, class_number: int, *, after: bytes | None, count_max: int
    ) -> list[tuple[bytes, ObjectRecord]]:
        return self.only.engine.objects(class_number, after=after, count_max=count_max)


def when_all_answered(disks: Disks, callback: Callable[[], None]) -> None:
    """Call *callback* when all batches submitted so far, on any disk, are on it or have failed."""
    waiting = [each.disk for each in disks]
    left = len(waiting)

    def answered() -> None:
        nonlocal left
        left -= 1
        if not left:
            callback()

    for disk in waiting:
        disk.when_answered(answered)
    if not waiting:
        callback()
