"""The statistics for a page that asks each second: they take little of the program's time, however
many objects are in memory and whatever the store is."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from anyio import to_thread

import durable
from durable._model.cluster_errors import StoreUnavailable
from durable._runtime import polled
from durable._runtime.live_counts import LiveCounts

from .conftest import Watched, running

pytestmark = pytest.mark.backends("asyncio", "trio")


@pytest.fixture
async def runtime(watched: Watched) -> AsyncIterator[durable.Runtime]:
    """Five objects are in memory."""
    async with watched.open(observer=None) as runtime:
        for number in range(5):
            await runtime.env.WORKERS.get_by_name(str(number)).get("x")
        yield runtime


def renew(runtime: durable.Runtime) -> int:
    """Renew what is due; returns how many steps the loop was given for it."""
    counts = runtime._polled._counts
    runtime._polled.measure()
    steps = 1
    while runtime._polled.count():
        steps += 1
    return steps if runtime._polled.counts is not counts else 0


async def test_they_are_the_statistics(runtime: durable.Runtime, watched: Watched) -> None:
    """The queues too, by object."""
    worker = runtime.env.WORKERS.get_by_name("0")
    async with running(worker.hold_gate(1), worker.get("x")):
        await watched.clock.settle()
        renew(runtime)
        found, expected = runtime._polled_statistics(), runtime.statistics()
        queues = runtime._polled.counts.queues
        await watched.clock.advance(1)

    assert found == expected
    assert queues == {str(worker.id): (1, "Worker", "0")}


async def test_live_objects_are_counted_step_by_step(
    runtime: durable.Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the loop serves others between two of them."""
    monkeypatch.setattr(polled, "STEP", 2)

    assert renew(runtime) == 3
    assert runtime._polled_statistics().live_objects == 5


async def test_a_pass_that_takes_long_is_made_seldom(
    runtime: durable.Runtime, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundredth of the time, at most; the counters are of the moment all the same."""
    add = LiveCounts.add

    def slow(counts: LiveCounts, activations: Any) -> None:
        watched.clock.spend(0.05)
        add(counts, activations)

    monkeypatch.setattr(LiveCounts, "add", slow)
    renew(runtime)
    await runtime.env.WORKERS.get_by_name("new").get("x")
    await watched.clock.advance(4)
    assert renew(runtime) == 0
    found = runtime._polled_statistics()
    assert (found.live_objects, found.classes[0].deliveries) == (5, 6)

    await watched.clock.advance(1)
    assert renew(runtime) > 0
    assert runtime._polled_statistics().live_objects == 6


async def test_the_rest_between_two_passes_has_a_bound(
    runtime: durable.Runtime, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However slow one was: it may have met something else that held it up."""
    monkeypatch.setattr(LiveCounts, "add", lambda counts, activations: watched.clock.spend(1_000))
    renew(runtime)
    await watched.clock.advance(polled.REST_S_MAX)
    assert renew(runtime) > 0


async def test_the_store_is_measured_on_the_thread_that_asks(
    runtime: durable.Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database may take its time: the loop does not wait for it."""
    threads = []
    disks = runtime._disks
    measure = disks.measure
    monkeypatch.setattr(
        type(disks), "measure", lambda self: (threads.append(threading.get_ident()), measure())[1]
    )

    await to_thread.run_sync(renew, runtime)
    runtime._polled_statistics()
    assert len(threads) == 1
    assert threads != [threading.get_ident()]


async def test_a_store_that_does_not_answer_is_shown_as_it_was(
    runtime: durable.Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless nothing is known of it yet: then there is nothing to show."""
    disks = runtime._disks
    measures = disks.measure()

    def fail(self: Any) -> Any:
        raise StoreUnavailable("the database does not answer")

    with monkeypatch.context() as patched:
        patched.setattr(type(disks), "measure", fail)
        with pytest.raises(StoreUnavailable):
            renew(runtime)
    renew(runtime)
    monkeypatch.setattr(type(disks), "measure", fail)
    renew(runtime)
    assert runtime._polled_statistics().store == measures
