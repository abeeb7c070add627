"""The disks of a store of shards: those of the shards that this process owns.

Rule: a shard is open here, or it is being given up, or it is another process's. Objects of a shard
that is being given up are found by what runs in it still, and by nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from attrs import define, field

from durable._engine.batch import ObjectRecord
from durable._engine.catalog import Catalog
from durable._engine.engine import Engine
from durable._engine.measures import Measures, sum_of
from durable._engine.shards import NotOwner, SharedStore, shard_of
from durable._engine.whole import WholeStore
from durable._model.clock import Clock
from durable._object.disk import Disk

from .disks import Disks, OpenDisk
from .engines import look_beside


@define(eq=False)
class ShardDisks(Disks):
    """All that this process has of a store of shards."""

    shared: SharedStore
    clock: Clock
    # By shard.
    open: dict[int, OpenDisk] = field(factory=dict, init=False)
    leaving: dict[int, OpenDisk] = field(factory=dict, init=False)
    # Told when the classes of the store were changed by this process.
    on_classes: Callable[[], None] | None = field(default=None, init=False)
    count: int = field(init=False)

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

    def __iter__(self) -> Iterator[OpenDisk]:
        yield from list(self.open.values())
        yield from list(self.leaving.values())

    @property
    def engine(self) -> Engine:
        return self.look()

    def look(self) -> WholeStore:
        """All of the store, to be read: what others have as it is on the disk. To be closed."""
        owned = {**self.open, **self.leaving}
        engines = {shard: opened.engine for shard, opened in owned.items()}
        return look_beside(self.shared, engines, self.clock)

    def catalog(self) -> Catalog:
        return self.shared.catalog()

    def change_classes(self, before: Catalog, after: Catalog) -> bool:
        changed = self.shared.change_classes(before, after)
        if changed and self.on_classes is not None:
            self.on_classes()
        return changed

    def measure(self) -> Measures:
        return sum_of([opened.engine.measure() for opened in self])

    def objects(
        self, class_number: int, *, after: bytes | None, count_max: int
    ) -> list[tuple[bytes, ObjectRecord]]:
        if len(self.open) == self.count:
            engines = [self.open[shard].engine for shard in range(self.count)]
            whole = WholeStore(self.shared.path, engines, Catalog())
            return whole.objects(class_number, after=after, count_max=count_max)
        whole = self.look()
        try:
            return whole.objects(class_number, after=after, count_max=count_max)
        finally:
            whole.close()
