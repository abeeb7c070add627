"""A store of shards that is open: what `OpenStore` does, on several disks, which come and go."""

from __future__ import annotations

from functools import partial

import anyio
import anyio.to_thread

from durable._engine.engine import Engine
from durable._model.errors import ObjectReset
from durable._object.activation import Activation

from .disks import Disks, OpenDisk
from .engines import open_shared
from .open_store import OpenStore
from .shard_disks import ShardDisks

MOVED = "Durable Object moved to another process of its store."


class OpenSharedStore(OpenStore):
    """One process's part of a store of shards."""

    _disks: ShardDisks

    def _open_disks(self) -> Disks:
        options = self._options
        shared = open_shared(
            self._path, self._clock, shards=options.shards, is_alone=not options.shared
        )
        shared.join()
        return ShardDisks(shared, self._clock)

    async def _begin(self) -> None:
        async with anyio.create_task_group() as group:
            for shard in range(self._disks.count):
                group.start_soon(self._take, shard)

    # Taking a shard

    async def _take(self, shard: int) -> bool:
        """Own a shard if nobody else does; returns whether it is owned."""
        shared = self._disks.shared
        engine: Engine | None = await anyio.to_thread.run_sync(shared.acquire, shard)
        if engine is None:
            return False
        disk = self._disk_with(engine)
        self._let_ring(disk)
        self._disks.open[shard] = disk
        disk.committer.start()
        disk.alarms.ask()
        return True

    # Giving a shard up

    async def _give_up(self, shard: int) -> None:
        """Let nothing new begin there, let what runs end, commit all of it, and let others have
        the shard."""
        disk = self._disks.open.pop(shard)
        self._disks.leaving[shard] = disk
        disk.alarms.close()
        is_meant = partial(self._is_in, shard)
        for activation in self._live(is_meant):
            activation.is_gone = True
        await self._let_finish(is_meant)
        await disk.finish()
        for activation in self._live(is_meant):
            self._forget(activation)
        while any(ending for ending in self._directory.endings):  # each for a bounded time
            await anyio.sleep(0.001)
        await anyio.to_thread.run_sync(disk.reads.close)
        del self._disks.leaving[shard]
        self._disks.shared.release(shard)

    def _is_in(self, shard: int, raw: bytes) -> bool:
        return self._disks.shard_of(raw) == shard

    def _forget(self, activation: Activation) -> None:
        """The object leaves memory with its shard: unseen, if nothing is lost by that."""
        if activation.is_idle:
            activation.evict()
        else:
            activation.break_(ObjectReset(MOVED, retryable=True))

    # The end

    async def stop(self) -> None:
        try:
            await super().stop()
        finally:
            self._disks.shared.leave()

    def let_go(self) -> None:
        super().let_go()
        self._disks.shared.leave()

    def _close_disk(self, disk: OpenDisk) -> None:
        """The shards are released with the store, not one by one."""
        disk.reads.close()
