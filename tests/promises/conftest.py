"""What the tests of the promises share: a store whose clock and disk do what the test says.

After every test the store, closed, is put to the disk's own check.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar

import anyio
import pytest
from attrs import define, field

import durable
import durable.testing
from durable._lmdb.check import check
from durable._lmdb.shared_folder import layout_of

T = TypeVar("T")


@define(eq=False)
class Store:
    """A folder to open, the clock and the disk's faults."""

    folder: Path
    clock: durable.testing.VirtualClock = field(factory=durable.testing.VirtualClock)
    faults: durable.testing.Faults = field(factory=durable.testing.Faults)

    def open(self, **options: Any) -> durable.testing.open:
        """`durable.testing.open` of the folder, with the clock and the faults."""
        options.setdefault("clock", self.clock)
        options.setdefault("limits", durable.Limits(shutdown_s_max=1.0))
        return durable.testing.open(self.folder, faults=self.faults, **options)

    async def settle(self) -> None:
        """Return when all that can happen has happened."""
        await self.clock.settle()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store of one's own, not opened yet."""
    store = Store(tmp_path / "store")
    yield store
    if store.folder.is_dir():
        layout = layout_of(store.folder)
        for folder in [store.folder] if layout is None else layout.shards():
            assert list(check(folder)) == []


@pytest.fixture
async def runtime(store: Store) -> AsyncIterator[durable.Runtime]:
    """The store, open."""
    async with store.open() as runtime:
        yield runtime


@define(eq=False)
class Call(Generic[T]):
    """A call under way in a task of its own, and how it ended."""

    scope: anyio.CancelScope = field(factory=anyio.CancelScope)
    _ended: anyio.Event = field(factory=anyio.Event)
    _value: Any = None
    error: BaseException | None = None

    async def run(self, awaitable: Awaitable[T]) -> None:
        with self.scope:
            try:
                self._value = await awaitable
            except Exception as error:
                self.error = error
            finally:
                self._ended.set()

    @property
    def done(self) -> bool:
        return self._ended.is_set()

    async def result(self) -> T:
        await self._ended.wait()
        if self.error is not None:
            raise self.error
        value: T = self._value
        return value


Start = Callable[[Awaitable[T]], Call[T]]


@pytest.fixture
async def start() -> AsyncIterator[Start[Any]]:
    """Awaits something in a task of its own: `call = start(stub.method())`."""
    async with anyio.create_task_group() as tasks:

        def start(awaitable: Awaitable[T]) -> Call[T]:
            call = Call[T]()
            tasks.start_soon(call.run, awaitable)
            return call

        yield start
        tasks.cancel_scope.cancel()
