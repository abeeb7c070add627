"""The disks of a store of shards: those of the shards that this process owns. Each shard has one of
its own, or all share one.

Rule: a shard is open here, or it is being given up, or it belongs to another process. Objects of a
shard that is being given up are found by what still runs in it, and by nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import anyio
import anyio.to_thread
from attrs import define, field

from durable._engine.batch import ObjectRecord
from durable._engine.catalog import Catalog, ClassRecord
from durable._engine.engine import Engine
from durable._engine.measures import Measures, sum_of
from durable._engine.shards import NotOwner, SharedStore, shard_of
from durable._engine.whole import WholeStore
from durable._model.clock import Clock
from durable._model.database_url import shown
from durable._model.errors import StoreInUse
from durable._object.disk import Disk

from .disks import Disks, OpenDisk
from .engines import look_beside, silence


@define(eq=False)
class ShardDisks(Disks):
    """All that this process has of a store of shards."""

    shared: SharedStore
    clock: Clock
    # By shard.
    open: dict[int, OpenDisk] = field(factory=dict, init=False)
    leaving: dict[int, OpenDisk] = field(factory=dict, init=False)
    # Called when this process has changed the classes of the store.
    on_classes: Callable[[], None] | None = field(default=None, init=False)
    count: int = field(init=False)
    # Of those that are being given up, the ones in which nothing begins any more.
    _finished: set[int] = field(factory=set, init=False)
    # The disk of all shards, if they have one engine; it stays while no shard is here.
    _one: OpenDisk | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.count = self.shared.count

    def shard_of(self, base: bytes) -> int:
        return shard_of(base, self.count)

    def disk_of(self, base: bytes) -> Disk:
        shard = shard_of(base, self.count)
        opened = self.open.get(shard) or self.leaving.get(shard)
        if opened is None:
            raise NotOwner
        return opened.disk

    def keeps(self, base: bytes) -> bool:
        return shard_of(base, self.count) in self.open

    def __iter__(self) -> Iterator[OpenDisk]:
        if self._one is not None:
            yield self._one
            return
        yield from list(self.open.values())
        yield from list(self.leaving.values())

    # Shards that come and go

    def opened(self, shard: int, engine: Engine, make: Callable[[Engine], OpenDisk]) -> None:
        """A shard is owned by this process: *make* makes a working disk, if it needs one."""
        if not self.shared.has_one_engine:
            self.open[shard] = make(engine)
            return
        if self._one is None:
            self._one = make(engine)
        self.open[shard] = self._one
        self._one.ask()

    def begin_leaving(self, shard: int) -> None:
        """A shard is being given up: it rings no alarms any more."""
        disk = self.leaving[shard] = self.open.pop(shard)
        if self._one is None:
            disk.stop()
        else:
            silence(disk.engine, shard)

    def is_in_use(self, shard: int) -> bool:
        """Whether a shard is being given up, and what still runs in it may call its objects."""
        return shard in self.leaving and shard not in self._finished

    async def finish(self, shard: int) -> None:
        """What ran in a leaving shard has ended. Return when what was submitted for it is stored,
        or has failed."""
        self._finished.add(shard)
        disk = self.leaving[shard]
        if self._one is None:
            await disk.finish()
            return
        answered = anyio.Event()
        disk.disk.when_answered(answered.set)
        await answered.wait()

    async def left(self, shard: int) -> None:
        """A shard is not owned by this process any more, once its engine is released."""
        disk = self.leaving.pop(shard)
        self._finished.discard(shard)
        if self._one is None:
            await anyio.to_thread.run_sync(disk.reads.close)

    @property
    def engine(self) -> Engine:
        return self.look()

    def look(self) -> Engine:
        """All of the store, to be read: shards of other processes as they are on the disk. The
        caller closes it."""
        owned = {**self.open, **self.leaving}
        engines = {shard: opened.engine for shard, opened in owned.items()}
        return look_beside(self.shared, engines, self.clock)

    def catalog(self) -> Catalog:
        return self.shared.catalog()

    def change_classes(self, before: Catalog, after: Catalog) -> bool:
        """Raises StoreInUse if classes are deleted while other processes are at work: those would
        go on with objects of theirs, and store what no deletion finds any more."""
        kept = after.kept
        deleted = [record for number, record in before.kept.items() if number not in kept]
        if deleted:
            self._check_alone(deleted)
        changed = self.shared.change_classes(before, after)
        if changed and self.on_classes is not None:
            self.on_classes()
        return changed

    def _check_alone(self, deleted: list[ClassRecord]) -> None:
        """Those that are just starting see what was changed."""
        self.shared.refresh()
        me = self.shared.me
        for other in self.shared.processes():
            if other.id != me.id and other.state != "starting":
                names = ", ".join(record.label for record in deleted)
                why = f"a migration that deletes a class ({names}) needs the store alone"
                raise StoreInUse(shown(self.shared.path), other.pid, why_alone=why)

    def measure(self) -> Measures:
        return sum_of([opened.engine.measure() for opened in self])

    def objects(
        self, class_number: int, *, after: bytes | None, count_max: int
    ) -> list[tuple[bytes, ObjectRecord]]:
        if self._one is not None:
            return self._one.engine.objects(class_number, after=after, count_max=count_max)
        if len(self.open) == self.count:
            engines = [self.open[shard].engine for shard in range(self.count)]
            whole = WholeStore(self.shared.path, engines, Catalog())
            return whole.objects(class_number, after=after, count_max=count_max)
        looked_at = self.look()
        try:
            return looked_at.objects(class_number, after=after, count_max=count_max)
        finally:
            looked_at.close()
