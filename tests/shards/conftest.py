"""Several runtimes that share a store. In one process, each connected with the others as processes
are: by sockets and locks, which do not care."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest
from attrs import define, field

import durable
from durable._runtime.open_shared import OpenSharedStore

LIMITS = durable.Limits(shutdown_s_max=1.0)


@define(eq=False)
class Processes:
    """The runtimes of one store."""

    folder: Path
    bindings: dict[str, type[durable.DurableObject]] = field(factory=dict)
    openings: dict[durable.Runtime, durable.open] = field(factory=dict)

    async def start(self, **options: Any) -> durable.Runtime:
        """One more process."""
        options.setdefault("limits", LIMITS)
        options.setdefault("bindings", self.bindings)
        opening = durable.open(self.folder, shared=True, **options)
        runtime = await opening.start()
        self.openings[runtime] = opening
        return runtime

    async def stop(self, runtime: durable.Runtime) -> None:
        await self.openings.pop(runtime).close()

    def store(self, runtime: durable.Runtime) -> OpenSharedStore:
        store = self.openings[runtime]._open
        assert isinstance(store, OpenSharedStore)
        return store

    def shards(self, runtime: durable.Runtime) -> set[int]:
        """Those that a process has."""
        return set(self.store(runtime)._disks.open)

    async def settle(self) -> None:
        """Return when all shards have an owner, and each process has its share."""
        with anyio.fail_after(10):
            while not self._is_settled():
                await anyio.sleep(0.005)

    def _is_settled(self) -> bool:
        loads = [len(self.shards(runtime)) for runtime in self.openings]
        stores = [self.store(runtime) for runtime in self.openings]
        return (
            sum(loads) == stores[0]._disks.count
            and max(loads) - min(loads) <= 1
            and not any(store._disks.leaving for store in stores)
            and all(self._knows_all(store) for store in stores)
        )

    def _knows_all(self, store: OpenSharedStore) -> bool:
        return all(
            store._neighbours.owners.owner_of(shard) is not None
            for shard in range(store._disks.count)
        )

    def name_in(self, runtime: durable.Runtime, namespace: Any, prefix: str = "") -> str:
        """A name of an object that is in this process."""
        return next(name for name in self.names_in(runtime, namespace, prefix))

    def names_in(self, runtime: durable.Runtime, namespace: Any, prefix: str = "") -> Any:
        disks = self.store(runtime)._disks
        for number in range(10_000):
            name = f"{prefix}{number}"
            if disks.shard_of(namespace.id_from_name(name).raw) in disks.open:
                yield name


Start = Callable[..., Any]


@pytest.fixture
async def processes(tmp_path: Path) -> AsyncIterator[Processes]:
    """A store, and none that has it open yet."""
    processes = Processes(tmp_path / "store")
    async with AsyncExitStack() as stack:

        async def stop_all() -> None:
            for runtime in list(processes.openings):
                await processes.stop(runtime)

        stack.push_async_callback(stop_all)
        yield processes
