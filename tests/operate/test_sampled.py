"""A sample of what happens: all of it while that is little, and no more than so much of what is
much; for the rest of the time nobody observes."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from anyio import to_thread
from attrs import define, field

import durable
from durable import observing, operate
from durable._watch import sampled

from .conftest import Watched

pytestmark = pytest.mark.backends("asyncio", "trio")


@define(eq=False)
class Sample:
    """What was told of one."""

    told: list[Any] = field(factory=list)
    missed: list[int] = field(factory=list)

    def begin(self, runtime: durable.Runtime) -> Any:
        return runtime._sample(self.told.append, self.missed.append)

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.told if isinstance(event, kind)]


@pytest.fixture
def long_period(monkeypatch: pytest.MonkeyPatch) -> None:
    """No period ends while a test runs."""
    monkeypatch.setattr(sampled, "PERIOD_S", 3_600.0)


@pytest.mark.usefixtures("long_period")
async def test_little_is_told_whole(watched: Watched) -> None:
    """As an observer is told of it."""
    sample = Sample()
    async with watched.open() as runtime:
        end = sample.begin(runtime)
        stub = runtime.env.WORKERS.get_by_name("a")
        for number in range(3):
            await stub.put("x", number)
        end()

        assert sample.told == watched.told
        assert len(sample.of(observing.DeliveryEnded)) == 3


@pytest.mark.usefixtures("long_period")
async def test_of_much_a_part_is_told_and_then_nobody_observes(watched: Watched) -> None:
    """So that the calls that are left out cost nothing."""
    sample = Sample()
    async with watched.open(observer=None) as runtime:
        end = sample.begin(runtime)
        stub = runtime.env.WORKERS.get_by_name("a")
        for _ in range(100):
            await stub.get("x")

        came, ended = sample.of(observing.DeliveryCame), sample.of(observing.DeliveryEnded)
        assert 0 < len(came) < sampled.EVENTS_MAX
        assert [event.number for event in came] == [event.number for event in ended]
        assert runtime._services.hooks is None
        end()


@pytest.mark.usefixtures("long_period")
async def test_what_was_told_to_have_come_is_told_to_have_ended(watched: Watched) -> None:
    """However long it takes, or latencies would look better than they are."""
    sample = Sample()
    async with watched.open(observer=None) as runtime:
        end = sample.begin(runtime)
        slow = runtime.env.WORKERS.get_by_name("slow").sleep(100.0)
        stub = runtime.env.WORKERS.get_by_name("a")
        for _ in range(100):
            await stub.get("x")
        assert runtime._services.hooks is None
        await watched.clock.advance(100.0)
        await slow

        (ended,) = [e for e in sample.of(observing.DeliveryEnded) if e.method == "sleep"]
        assert (ended.duration_s, ended.outcome) == (100.0, "ok")
        end()


async def test_the_next_period_has_its_own_part(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And it is told how many were left out of the last one."""
    sample = Sample()
    async with watched.open(observer=None) as runtime:
        end = sample.begin(runtime)
        sampler = runtime._services.find(sampled.Sampler)
        stub = runtime.env.WORKERS.get_by_name("a")
        for _ in range(100):
            await stub.get("x")
        first = len(sample.of(observing.DeliveryCame))
        sampler._next()
        await stub.get("x")

        assert sum(sample.missed) == 100 - first
        assert len(sample.of(observing.DeliveryCame)) == first + 1
        end()


@pytest.mark.usefixtures("long_period")
async def test_others_are_told_all(watched: Watched) -> None:
    """An observer of the program, and one that comes while the sample rests."""
    sample = Sample()
    late: list[Any] = []
    async with watched.open() as runtime:
        end = sample.begin(runtime)
        stub = runtime.env.WORKERS.get_by_name("a")
        for _ in range(100):
            await stub.get("x")
        end_late = runtime.observe(late.append)
        await stub.get("x")
        end_late()
        end()

    assert len(watched.of(observing.DeliveryEnded)) == 101
    assert len(sample.of(observing.DeliveryEnded)) < 100
    assert [type(event) for event in late] == [observing.DeliveryCame, observing.DeliveryEnded]


@pytest.mark.usefixtures("long_period")
async def test_whoever_ends_is_told_no_more(watched: Watched) -> None:
    """And one of two who sample goes on."""
    one, other = Sample(), Sample()
    async with watched.open(observer=None) as runtime:
        end_one, end_other = one.begin(runtime), other.begin(runtime)
        stub = runtime.env.WORKERS.get_by_name("a")
        end_one()
        await stub.get("x")
        end_other()
        assert runtime._services.hooks is None
        await stub.get("x")
        end_other()

    assert (len(one.told), len(other.of(observing.DeliveryEnded))) == (0, 1)


async def test_a_sample_comes_through_the_socket(watched: Watched) -> None:
    """Several events in one message; and reports count what the sample has left out."""
    async with watched.open(observer=None, operate=True) as runtime:
        watching = lambda: operate.events(watched.folder, sampled=True)  # noqa: E731
        events = await to_thread.run_sync(watching)
        assert (await to_thread.run_sync(next, events))["event"] == "Watching"
        reports = await to_thread.run_sync(lambda: operate.tops(watched.folder, sampled=True))
        await to_thread.run_sync(next, reports)
        stub = runtime.env.WORKERS.get_by_name("a")
        for _ in range(200):
            await stub.get("x")
        ended = missed = 0
        with anyio.fail_after(30):
            while ended + missed < 200:
                said = await to_thread.run_sync(next, events)
                assert said["event"] == "Sample"
                ended += sum(event["event"] == "DeliveryEnded" for event in said["events"])
                missed += said["missed"]
            assert missed > 0
            report = await to_thread.run_sync(next, reports)
            calls = report["calls"]
            while calls < 200:
                report = await to_thread.run_sync(next, reports)
                calls += report["calls"]
        assert calls == 200
        events.close()
        reports.close()
