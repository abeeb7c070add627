"""The stores that the inspector looks into: a folder, a database, or a runtime of this program.

Rule: looking is done in threads, with a `Store` for each question, so that a slow disk does not
block the loop. Events come from the control socket of a running program, or from the runtime
itself, as a sample that costs a busy program next to nothing.
"""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, Protocol, TypeVar

import anyio
import anyio.to_thread
import attrs

from durable import operate
from durable._control.busiest import Busiest
from durable._control.sampled_events import SampledEvents
from durable._control.server import SAMPLE_S
from durable._model.database_url import is_url, shown
from durable._runtime.interventions import ELSEWHERE
from durable._runtime.orders import Order, carry_out
from durable._runtime.runtime import Runtime
from durable.operate import Store
from durable.operate.changing import result_of, send_order
from durable.operate.in_memory import look_order, seen
from durable.operate.unowned import HOW_TO_REACH
from durable.operate.watching import is_watched

from . import processes
from .changes import Change

T = TypeVar("T")

REPORT_S = 1.0


class Source(Protocol):
    """A store to look into."""

    @property
    def path(self) -> str:
        """Where it is, for display."""

    def look(self) -> AbstractContextManager[Store]:
        """Look into it; for a thread."""

    def reports(self) -> AsyncIterator[dict[str, Any]]:
        """Each second, a report of the program that has the store. Raises DurableError if there is
        none to be had."""

    def events(self) -> AsyncIterator[dict[str, Any]]:
        """Samples of the events from now on."""

    async def processes(self) -> dict[str, Any]:
        """The processes that have the store, and the shards of each."""

    async def in_memory(self, cls: str, name_or_id: str) -> dict[str, Any]:
        """The present state of an object in memory; it is not woken. Raises DurableError if no
        program can be asked."""

    async def change(self, change: Change) -> Any:
        """Make a change, through the program that has the store. Raises DurableError."""


class FolderSource:
    """The folder of a store, or the URL of its database, which any program may have open."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        text = os.fspath(path)
        self._store = text if is_url(text) else os.path.abspath(text)
        self.path: str = shown(self._store)  # without a password
        # A process may have the files of a store open only once; each question takes bounded time.
        self._one_at_a_time = threading.Lock()

    @contextmanager
    def look(self) -> Iterator[Store]:
        with self._one_at_a_time, operate.look(self._store) as store:
            yield store

    def reports(self) -> AsyncIterator[dict[str, Any]]:
        return _from_thread(lambda: operate.tops(self._store, sampled=True))

    def events(self) -> AsyncIterator[dict[str, Any]]:
        return _from_thread(lambda: operate.events(self._store, sampled=True))

    async def processes(self) -> dict[str, Any]:
        return await anyio.to_thread.run_sync(processes.of_store, self._store)

    async def in_memory(self, cls: str, name_or_id: str) -> dict[str, Any]:
        found = partial(operate.in_memory, self._store, cls, name_or_id)
        return attrs.asdict(await anyio.to_thread.run_sync(found))

    async def change(self, change: Change) -> Any:
        return await anyio.to_thread.run_sync(self._change, change)

    def _change(self, change: Change) -> Any:
        change.note()
        reply = send_order(self._store, change.order)
        if reply is not None:
            return result_of(reply)
        with self._one_at_a_time:
            return change.carry_out(self._store)


class RuntimeSource:
    """A runtime that is open on this loop."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    @property
    def path(self) -> str:
        return self._runtime._path

    @property
    def _store(self) -> str:
        return self._runtime._source

    def look(self) -> AbstractContextManager[Store]:
        return operate.look(self._runtime)

    async def reports(self) -> AsyncIterator[dict[str, Any]]:
        if await self._is_of_several():
            async for report in _from_thread(lambda: operate.tops(self._store, sampled=True)):
                yield report
            return
        runtime = self._runtime
        busiest = Busiest(runtime._services.clock)
        end = runtime._sample(busiest, busiest.miss)
        try:
            while True:
                await anyio.to_thread.run_sync(runtime._polled.measure)
                while runtime._polled.count():
                    await anyio.sleep(0)
                statistics = attrs.asdict(runtime._polled_statistics())
                yield busiest.report(statistics, runtime._polled.counts.queues)
                await anyio.sleep(REPORT_S)
        finally:
            end()

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        if await self._is_of_several():
            async for said in _from_thread(lambda: operate.events(self._store, sampled=True)):
                yield said
            return
        sample = SampledEvents(self._runtime._services.clock)
        end = self._runtime._sample(sample.observe, sample.miss)
        try:
            # At once, as the control socket does: that a page has left before the first event is
            # noticed only once its stream has begun.
            yield {"event": "Watching"}
            while True:
                await anyio.sleep(SAMPLE_S)
                taken = sample.take()
                if taken is not None:
                    yield taken
        finally:
            end()

    async def _is_of_several(self) -> bool:
        """Whether the store is shared, and this process can be watched like the others."""
        me = self._runtime._process
        return me is not None and await anyio.to_thread.run_sync(is_watched, self._store, me)

    async def processes(self) -> dict[str, Any]:
        found = await self._runtime.peers()
        is_shared = self._runtime._process is not None
        return await anyio.to_thread.run_sync(processes.described, self._store, found, is_shared)

    async def in_memory(self, cls: str, name_or_id: str) -> dict[str, Any]:
        return attrs.asdict(seen(await self._order(look_order(cls, name_or_id))))

    async def change(self, change: Change) -> Any:
        return await self._order(change.order)

    async def _order(self, order: Order) -> Any:
        """Carried out here, or by the process that has the object."""
        answer = await carry_out(self._runtime, order)
        if ELSEWHERE in str(answer.get("error", "")):
            reply = await anyio.to_thread.run_sync(send_order, self._store, order)
            answer = reply or {"error": f"{answer['error']}, and takes no orders; {HOW_TO_REACH}"}
        return result_of(answer)


async def _from_thread(watch: Callable[[], operate.Watching]) -> AsyncIterator[dict[str, Any]]:
    """The items of *watch*, fetched in a thread."""
    # A limiter of its own: a stream keeps its thread as long as it lives, and the application needs
    # the threads that it shares.
    limiter = anyio.CapacityLimiter(1)
    watching = await anyio.to_thread.run_sync(watch, limiter=limiter)
    try:
        while True:
            found = await anyio.to_thread.run_sync(
                next, watching, None, abandon_on_cancel=True, limiter=limiter
            )
            if found is None:
                return
            yield found
    finally:
        # Ends the wait of the thread for the next item.
        watching.close()


async def ask(source: Source, question: Callable[[Store], T]) -> T:
    """The result of *question*, run in a thread."""

    def look() -> T:
        with source.look() as store:
            return question(store)

    return await anyio.to_thread.run_sync(look)
