"""`runtime.statistics()`: what is going on, and what has been done since the opening."""

from __future__ import annotations

import anyio
import pytest

import durable
import durable.testing

from .conftest import Watched, running


async def test_deliveries_are_counted_by_class(watched: Watched) -> None:
    """Invocations, those from object to object among them, and errors."""
    async with watched.open(observer=None) as runtime:
        worker = runtime.env.WORKERS.get_by_name("a")
        await worker.get("x")
        await worker.relay("b", "get", "x")
        with pytest.raises(LookupError):
            await worker.fail()
        (found,) = runtime.statistics().classes

    assert found.class_name == "Worker"
    assert (found.deliveries, found.subrequests, found.errors) == (4, 1, 1)
    assert (found.woken, found.live_objects) == (2, 2)


async def test_wakes_evictions_resets_and_alarms_are_counted(watched: Watched) -> None:
    """What happens to objects, as counters that only rise."""
    async with watched.open(observer=None) as runtime:
        worker = runtime.env.WORKERS.get_by_name("a")
        await worker.set_alarm(1)
        await watched.clock.advance(1)
        await durable.testing.evict(worker)
        with pytest.raises(durable.ObjectAborted):
            await worker.give_up()
        (found,) = runtime.statistics().classes

    assert (found.alarms, found.evicted, found.broken) == (1, 1, 1)
    assert (found.woken, found.live_objects) == (2, 0)


async def test_code_that_does_not_end_after_a_reset_is_counted(watched: Watched) -> None:
    """Code that cleans up and ends is not."""
    async with watched.open(observer=None) as runtime:
        worker = runtime.env.WORKERS.get_by_name("a")
        waiting = [worker.sleep(1), worker.never_end(1)]
        await watched.clock.settle()
        with pytest.raises(durable.ObjectAborted):
            await worker.give_up()
        for call in waiting:
            with pytest.raises(durable.ObjectAborted):
                await call
        with anyio.fail_after(30):
            # The time to clean up is the event loop's; the code is looked at when it next wakes.
            while not runtime.statistics().abandoned:
                await watched.clock.advance(1)
                await anyio.sleep(0.01)

        assert runtime.statistics().abandoned == 1


async def test_a_queue_is_seen(watched: Watched) -> None:
    """Gauges are of this moment."""
    async with watched.open(observer=None) as runtime:
        worker = runtime.env.WORKERS.get_by_name("a")
        async with running(worker.hold_gate(1), worker.get("x"), worker.get("y")):
            await watched.clock.settle()
            busy = runtime.statistics()
            await watched.clock.advance(1)
        idle = runtime.statistics()

    assert (busy.open_deliveries, busy.queued_deliveries) == (3, 2)
    assert (idle.open_deliveries, idle.queued_deliveries) == (0, 0)


async def test_commits_and_the_file_are_seen(watched: Watched) -> None:
    """How much was committed, and how much is stored."""
    async with watched.open(observer=None) as runtime:
        await runtime.env.WORKERS.get_by_name("a").put("x", "y" * 100)
        found = runtime.statistics()

    assert (found.commits.count, found.commits.batches, found.commits.failed) == (1, 1, 0)
    assert found.commits.size > 100
    assert (found.store.objects, found.store.records, found.store.alarms) == (1, 1, 0)
    assert found.store.file_size > 0


async def test_a_closed_runtime_has_no_statistics(watched: Watched) -> None:
    """It says so, as every use after the end does."""
    async with watched.open(observer=None) as runtime:
        pass

    with pytest.raises(durable.RuntimeClosed):
        runtime.statistics()
