"""P12 for timers: many of them in one object, each by itself what an alarm is."""

from __future__ import annotations

import datetime as dt
import itertools
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

import anyio
import pytest
from attrs import frozen

import durable
import durable.testing
from durable._memory.engine import MemoryEngine
from durable._runtime.open_store import OpenStore
from durable.testing import run_in_object, run_timer

from .conftest import Start, Store


@frozen
class Ring:
    at: float
    name: str
    payload: Any = None
    retry_count: int = 0
    of: str = "a"


RINGS: list[Ring] = []
TIMES: list[dt.datetime] = []
# Of timers by name: what holds their handlers, and what these raise.
DOORS: dict[str, anyio.Event] = {}
FAILING: dict[str, BaseException] = {}
CLOCK: list[durable.testing.VirtualClock] = []


@pytest.fixture(autouse=True)
def fresh(store: Store) -> None:
    for kept in (RINGS, TIMES, DOORS, FAILING):
        kept.clear()
    CLOCK[:] = [store.clock]


class Keeper(durable.DurableObject):
    """Notes what rang; fails as long as it is told to."""

    async def timer(self, name: str, payload: Any, info: durable.AlarmInfo) -> None:
        of = str(self.ctx.id.name)
        RINGS.append(Ring(CLOCK[0].steady(), name, payload, info.retry_count, of))
        TIMES.append(info.scheduled_time)
        self.ctx.storage.put("rings", await self.ctx.storage.get("rings", 0) + 1)
        if name in DOORS:
            await DOORS[name].wait()
        if name in FAILING:
            raise FAILING[name]

    async def set(self, name: str, when: Any, payload: Any = None) -> None:
        await self.ctx.timers.set(name, when, payload)

    async def every(self, name: str, schedule: Any, payload: Any = None, **options: Any) -> None:
        await self.ctx.timers.every(name, schedule, payload, **options)

    async def unset(self, name: str) -> bool:
        return await self.ctx.timers.delete(name)

    async def get(self, name: str) -> durable.Timer | None:
        return await self.ctx.timers.get(name)

    async def names(self) -> list[str]:
        return [timer.name for timer in await self.ctx.timers.list()]

    async def due(self, name: str) -> float | None:
        timer = await self.ctx.timers.get(name)
        return None if timer is None else timer.due.timestamp() - durable.testing.clock.START_S


class MemoryStore(OpenStore):
    @staticmethod
    def open_engine(path: str, clock: Any, *, scratch: bool = False) -> Any:
        return MemoryEngine(clock, path)


class open_in_memory(durable.testing.open):
    _store_class: ClassVar[type[OpenStore]] = MemoryStore


@pytest.fixture(params=["lmdb", "memory", "scratch"])
async def runtime(store: Store, request: pytest.FixtureRequest) -> AsyncIterator[durable.Runtime]:
    limits = durable.Limits(shutdown_s_max=1.0)
    if request.param == "scratch":
        async with store.open():
            pass
    opening = (
        open_in_memory("none", clock=store.clock, limits=limits)
        if request.param == "memory"
        else store.open(scratch=request.param == "scratch")
    )
    async with opening as runtime:
        yield runtime


@pytest.fixture
async def keeper(runtime: durable.Runtime) -> durable.Stub[Keeper]:
    return runtime.namespace(Keeper).get_by_name("a")


def after(**delay: float) -> dt.timedelta:
    return dt.timedelta(**delay)


def rung() -> list[tuple[float, str]]:
    return [(ring.at, ring.name) for ring in RINGS]


def at_times(name: str) -> list[float]:
    return [ring.at for ring in RINGS if ring.name == name]


# Ringing


async def test_a_timer_rings_on_time_with_its_payload(
    store: Store, keeper: durable.Stub[Keeper]
) -> None:
    """Once, never early, with no call needed; then it is gone."""
    await keeper.set("tea", after(minutes=1), {"sort": "green", "cups": (1, 2)})
    await store.clock.advance(59.999)
    assert RINGS == []

    await store.clock.advance(0.001)
    assert [Ring(60, "tea", {"sort": "green", "cups": (1, 2)})] == RINGS
    assert [time.timestamp() - store.clock.start_s for time in TIMES] == [60]
    await store.clock.advance(10_000)
    assert len(RINGS) == 1
    assert await keeper.names() == []


async def test_each_timer_of_an_object_rings_at_its_own_time(
    store: Store, keeper: durable.Stub[Keeper]
) -> None:
    """In whatever order they were set, and with one alarm beneath."""
    for name, seconds in [("eggs", 300), ("tea", 180), ("toast", 180), ("cake", 3600)]:
        await keeper.set(name, after(seconds=seconds))
    assert await keeper.names() == ["tea", "toast", "eggs", "cake"]
    await keeper.set("now", after())
    await store.clock.advance(7_200)

    assert rung() == [(0, "now"), (180, "tea"), (180, "toast"), (300, "eggs"), (3600, "cake")]


async def test_a_timer_set_again_is_moved(store: Store, keeper: durable.Stub[Keeper]) -> None:
    """Earlier or later, with another payload; the last call counts."""
    await keeper.set("a", after(seconds=10), 1)
    await keeper.set("b", after(seconds=10), 1)
    await keeper.set("a", after(seconds=30), 2)
    await keeper.set("b", after(seconds=5), 2)
    await store.clock.advance(100)

    assert [Ring(5, "b", 2), Ring(30, "a", 2)] == RINGS


async def test_a_deleted_timer_does_not_ring(store: Store, keeper: durable.Stub[Keeper]) -> None:
    """The others do. The answer says whether it was set."""
    await keeper.set("a", after(seconds=10))
    await keeper.set("b", after(seconds=10))
    assert await keeper.unset("a") is True
    assert await keeper.unset("a") is False
    assert await keeper.unset("never") is False
    await store.clock.advance(100)

    assert rung() == [(10, "b")]


async def test_get_and_list_say_what_is_set(store: Store, keeper: durable.Stub[Keeper]) -> None:
    """All that was given, and when it is due."""
    await keeper.set("once", after(seconds=10.000001), b"x")
    await keeper.every("each", after(hours=1))
    await keeper.every("cron", "0 3 * * *", [1], time_zone="Asia/Tokyo")

    start = dt.datetime.fromtimestamp(store.clock.start_s, dt.UTC)
    once = await keeper.get("once")
    due = start + after(seconds=10.000001)
    assert once == durable.Timer("once", due, b"x", None, None, due, 0)
    each, cron = await keeper.get("each"), await keeper.get("cron")
    assert each is not None
    assert (each.schedule, each.time_zone, each.payload) == (after(hours=1), None, None)
    assert each.due == start + after(hours=1)
    assert cron is not None
    assert (cron.schedule, cron.time_zone) == ("0 3 * * *", "Asia/Tokyo")
    assert cron.due == dt.datetime(2027, 1, 15, 18, tzinfo=dt.UTC)
    assert await keeper.get("none") is None
    assert await keeper.names() == ["once", "each", "cron"]


async def test_a_handler_need_not_take_the_third_argument(
    store: Store, runtime: durable.Runtime
) -> None:
    class Brief(durable.DurableObject):
        async def timer(self, name: str, payload: Any) -> None:
            RINGS.append(Ring(CLOCK[0].steady(), name, payload))

        def set(self) -> None:
            self.ctx.timers.set("a", after(seconds=1), "p")

    await runtime.namespace(Brief).get_by_name("a").set()
    await store.clock.advance(1)

    assert [Ring(1, "a", "p")] == RINGS


async def test_more_timers_are_due_at_once_than_ring_at_a_time(
    store: Store, keeper: durable.Stub[Keeper]
) -> None:
    """Each rings once."""

    def set_all(_: Any, ctx: durable.State) -> None:
        for number in range(600):
            ctx.timers.set(f"{number:03}", after(seconds=60 + number // 300))

    await run_in_object(keeper, set_all)
    await store.clock.advance(59)
    assert RINGS == []
    await store.clock.advance(10)

    assert len(RINGS) == 600
    assert len({ring.name for ring in RINGS}) == 600
    assert {ring.at for ring in RINGS} == {60, 61}


async def test_an_object_that_has_left_memory_is_woken(
    store: Store, keeper: durable.Stub[Keeper]
) -> None:
    await keeper.set("a", after(seconds=60))
    await keeper.set("b", after(seconds=120))
    await store.clock.advance(30)
    assert not durable.testing.is_live(keeper)

    await store.clock.advance(90)
    assert rung() == [(60, "a"), (120, "b")]


async def test_timers_ring_after_a_restart_with_no_call(store: Store) -> None:
    """Missed ones at once, the oldest first; the others at their time."""
    async with store.open() as runtime:
        keepers = runtime.namespace(Keeper)
        await keepers.get_by_name("a").set("missed", after(seconds=60))
        await keepers.get_by_name("a").set("missed first", after(seconds=50))
        await keepers.get_by_name("b").set("later", after(seconds=200))
    await store.clock.advance(100)
    assert RINGS == []

    async with store.open(bindings={"K": Keeper}):
        await store.settle()
        assert rung() == [(100, "missed first"), (100, "missed")]
        await store.clock.advance(100)
        assert RINGS[2:] == [Ring(200, "later", of="b")]


async def test_a_timer_whose_process_was_killed_while_it_ran_rings_again(store: Store) -> None:
    """At least once: it is gone only with the batch of its handler's end."""
    DOORS["a"] = anyio.Event()
    store.faults.lose_power(
        after=2
    )  # the timers are stored, and so is what the handler wrote first
    with suppress(durable.CommitFailed):
        async with store.open() as runtime:
            keeper = runtime.namespace(Keeper).get_by_name("a")
            await keeper.set("a", after(seconds=1))
            await store.clock.advance(1)
            DOORS["a"].set()
            await store.clock.settle()
    store.faults.repair()
    async with store.open(bindings={"K": Keeper}):
        await store.settle()

    assert [ring.name for ring in RINGS] == ["a", "a"]
    assert RINGS[1].retry_count == 0


async def test_a_timer_is_durable_with_the_writes_beside_it(store: Store) -> None:
    """All are there after a crash, or none is (P7)."""

    async def write(_: Any, ctx: durable.State) -> None:
        ctx.storage.put("beside", 1)
        ctx.timers.set("a", after(seconds=60))
        ctx.timers.set("b", after(seconds=60))

    for good in (0, 1):
        async with store.open(bindings={"K": Keeper}) as runtime:
            stub = runtime.env.K.get_by_name(str(good))
            store.faults.lose_power(after=good)
            with suppress(durable.CommitFailed):
                await run_in_object(stub, write)
        store.faults.repair()

    async with store.open(bindings={"K": Keeper}):
        await store.clock.advance(61)
    assert [(ring.of, ring.name) for ring in RINGS] == [("1", "a"), ("1", "b")]


async def test_timers_are_for_times_of_the_wall_clock(
    store: Store, keeper: durable.Stub[Keeper]
) -> None:
    await keeper.set("a", after(seconds=1_000))
    await store.clock.advance(10)
    store.clock.set_wall_clock(store.clock.start_s + 2_000)
    await store.settle()

    assert rung() == [(10, "a")]


# What it belongs to


async def test_timers_are_no_keys(store: Store, keeper: durable.Stub[Keeper]) -> None:
    """Neither listed nor counted; a name may be that of a key."""

    async def look(_: Any, ctx: durable.State) -> Any:
        ctx.storage.put("a", 1)
        ctx.timers.set("a", after(seconds=1))
        ctx.timers.set("", after(seconds=1))
        storage = ctx.storage
        return await storage.list(), await storage.count(), await storage.list(keys_only=True)

    assert await run_in_object(keeper, look) == ({"a": 1}, 1, ["a"])
    await store.settle()
    await durable.testing.evict(keeper)
    assert await run_in_object(keeper, look) == ({"a": 1}, 1, ["a"])


async def test_an_object_that_has_only_timers_is_stored(
    store: Store, keeper: durable.Stub[Keeper], runtime: durable.Runtime
) -> None:
    """And nothing is left of it when they are gone, but for what the handler wrote."""
    keepers = runtime.namespace(Keeper)
    await keeper.set("a", after(seconds=1))
    assert [(stored.name, stored.has_alarm) async for stored in keepers.objects()] == [("a", True)]

    await keeper.unset("a")
    assert [stored async for stored in keepers.objects()] == []


async def test_delete_all_takes_the_timers_too(store: Store, keeper: durable.Stub[Keeper]) -> None:
    """Those set after it in the same turn stay."""

    async def wipe(_: Any, ctx: durable.State) -> Any:
        ctx.timers.set("gone", after(seconds=1))
        ctx.storage.delete_all()
        before = await ctx.timers.list()
        ctx.timers.set("kept", after(seconds=2))
        return before

    await keeper.set("old", after(seconds=1))
    assert await run_in_object(keeper, wipe) == []
    assert await keeper.names() == ["kept"]
    await store.settle()
    await durable.testing.evict(keeper)
    assert await keeper.names() == ["kept"]
    await store.clock.advance(10)
    assert rung() == [(2, "kept")]


async def test_a_transaction_that_is_rolled_back_leaves_the_timers_as_they_were(
    store: Store, keeper: durable.Stub[Keeper]
) -> None:
    """An inner one with an outer, too; what is kept is kept with the writes beside it."""

    async def change(ctx: durable.State, fails: bool) -> None:
        async def inner(txn: durable.Transaction) -> None:
            ctx.timers.set("new", after(seconds=1))
            ctx.timers.set("moved", after(seconds=2), "again")

        async def outer(txn: durable.Transaction) -> None:
            ctx.timers.delete("unset")
            ctx.timers.set("moved", after(seconds=3), "once")
            await ctx.storage.transaction(inner)
            txn.put("beside", 1)
            if fails:
                txn.rollback()

        await ctx.storage.transaction(outer)

    await keeper.set("moved", after(seconds=50), "first")
    await keeper.set("unset", after(seconds=60))
    await run_in_object(keeper, lambda _, ctx: change(ctx, True))
    assert await keeper.names() == ["moved", "unset"]
    moved = await keeper.get("moved")
    assert moved is not None
    assert moved.payload == "first"

    await run_in_object(keeper, lambda _, ctx: change(ctx, False))
    assert await keeper.names() == ["new", "moved"]
    await store.clock.advance(100)
    assert [Ring(1, "new"), Ring(2, "moved", "again")] == RINGS


async def test_what_an_aborted_turn_did_to_timers_never_happened(
    store: Store, keeper: durable.Stub[Keeper], runtime: durable.Runtime
) -> None:
    def spoil(_: Any, ctx: durable.State) -> None:
        ctx.timers.delete("a")
        ctx.timers.set("b", after(seconds=1))
        ctx.abort("no")

    await keeper.set("a", after(seconds=5))
    with pytest.raises(durable.ObjectAborted):
        await run_in_object(keeper, spoil)
    await store.clock.advance(10)

    assert rung() == [(5, "a")]


async def test_timers_follow_a_class_that_is_renamed(store: Store) -> None:
    class Renamed(Keeper):
        pass

    first = durable.Migration(tag="v1", new_classes=["Keeper"])
    second = durable.Migration(tag="v2", renamed_classes=[{"from": "Keeper", "to": "Renamed"}])
    async with store.open(bindings={"K": Keeper}, migrations=[first]) as runtime:
        await runtime.env.K.get_by_name("a").set("old", after(seconds=10), 1)
    async with store.open(bindings={"K": Renamed}, migrations=[first, second]) as runtime:
        assert await runtime.env.K.get_by_name("a").names() == ["old"]
        await store.clock.advance(10)

    assert [Ring(10, "old", 1)] == RINGS


# Failures


async def test_a_failure_is_retried_after_2_4_8_s_up_to_6_times(
    store: Store, keeper: durable.Stub[Keeper]
) -> None:
    """Plus up to a quarter each; then the timer is given up."""
    FAILING["a"] = ValueError("fails")
    await keeper.set("a", after(seconds=1), "p")
    await store.clock.advance(10_000)

    assert [(ring.retry_count, ring.payload) for ring in RINGS] == [(n, "p") for n in range(7)]
    times = at_times("a")
    for doublings, (before, later) in enumerate(itertools.pairwise(times)):
        shortest = 2 << doublings
        assert shortest <= later - before <= shortest * 1.25 + 0.01
    assert {time.timestamp() - store.clock.start_s for time in TIMES} == {1}
    assert await keeper.names() == []


async def test_retries_of_one_timer_do_not_delay_the_others(
    store: Store, keeper: durable.Stub[Keeper]
) -> None:
    FAILING["bad"] = ValueError("fails")
    await keeper.set("bad", after(seconds=1))
    for seconds in range(1, 100, 7):
        await keeper.set(f"good {seconds}", after(seconds=seconds))
    await store.clock.advance(200)

    assert [(at, name) for at, name in rung() if name != "bad"] == [
        (seconds, f"good {seconds}") for seconds in range(1, 100, 7)
    ]
    assert len(at_times("bad")) == 7


async def test_a_timer_whose_handler_takes_long_does_not_delay_the_others(
    store: Store, keeper: durable.Stub[Keeper]
) -> None:
    """They ring while it waits; it does not ring beside itself."""
    DOORS["slow"] = anyio.Event()
    await keeper.every("slow", after(seconds=10))
    await keeper.set("quick", after(seconds=15))
    await store.clock.advance(12)
    assert rung() == [(10, "slow")]
    await keeper.set("set meanwhile", after(seconds=5))
    await store.clock.advance(20)
    assert rung() == [(10, "slow"), (15, "quick"), (17, "set meanwhile")]

    DOORS.pop("slow").set()
    await store.clock.advance(9)
    # The times 20 and 30 have passed meanwhile: one run makes up for them. The next is at 40.
    assert rung()[3:] == [(32, "slow"), (40, "slow")]


async def test_between_retries_the_time_that_was_set_is_told(
    store: Store, keeper: durable.Stub[Keeper]
) -> None:
    FAILING["a"] = ValueError("fails")
    await keeper.set("a", after(seconds=1))
    await store.clock.advance(1.5)

    timer = await keeper.get("a")
    assert timer is not None
    assert timer.retry_count == 1
    assert timer.scheduled_time.timestamp() == store.clock.start_s + 1
    assert 3 <= timer.due.timestamp() - store.clock.start_s <= 3.5 + 0.01


async def test_what_is_set_or_deleted_between_retries_counts(
    store: Store, keeper: durable.Stub[Keeper]
) -> None:
    FAILING.update({"set": ValueError("fails"), "deleted": ValueError("fails")})
    await keeper.set("set", after(seconds=1))
    await keeper.set("deleted", after(seconds=1))
    await store.clock.advance(1.5)
    FAILING.clear()
    await keeper.set("set", after(seconds=100))
    assert await keeper.unset("deleted") is True
    await store.clock.advance(1_000)

    assert RINGS[2:] == [Ring(101.5, "set")]


async def test_the_count_survives_a_restart(store: Store) -> None:
    FAILING["a"] = ValueError("fails")
    async with store.open(bindings={"K": Keeper}) as runtime:
        await runtime.env.K.get_by_name("a").set("a", after(seconds=1))
        await store.clock.advance(1)
    await store.clock.advance(100)
    async with store.open(bindings={"K": Keeper}):
        await store.settle()

    assert [ring.retry_count for ring in RINGS] == [0, 1]


async def test_a_schedule_goes_on_after_a_time_that_was_given_up(
    store: Store, keeper: durable.Stub[Keeper]
) -> None:
    """With the first of its times after the last try began."""
    FAILING["a"] = ValueError("fails")
    await keeper.every("a", after(seconds=60))
    await store.clock.advance(100)
    assert [ring.retry_count for ring in RINGS][:3] == [0, 1, 2]
    await store.clock.advance(120)
    FAILING.clear()
    last_try = at_times("a")[6]
    await store.clock.advance(120)

    assert [ring.retry_count for ring in RINGS][6:8] == [6, 0]
    assert at_times("a")[7] == (last_try // 60 + 1) * 60


class Aborter(Keeper):
    async def timer(self, name: str, payload: Any, info: durable.AlarmInfo) -> None:
        RINGS.append(Ring(CLOCK[0].steady(), name, payload, info.retry_count))
        if name != "good":
            self.ctx.abort("in the timer", retry_alarm=name != "gives up")


async def test_an_abort_in_the_handler_counts_as_a_failure(
    store: Store, runtime: durable.Runtime
) -> None:
    """Of this timer alone; `retry_alarm=False` gives it up."""

    def aborter() -> Any:
        return runtime.namespace(Aborter).get_by_name("a")

    await aborter().set("retries", after(seconds=1))
    await aborter().set("gives up", after(seconds=1))
    await aborter().set("good", after(seconds=20))
    await aborter().every("each", after(seconds=500))
    await store.clock.advance(400)
    assert [ring.retry_count for ring in RINGS if ring.name == "retries"] == list(range(7))
    assert at_times("gives up") == [1]
    assert at_times("good") == [20]

    await store.clock.advance(10_000)
    assert [ring.retry_count for ring in RINGS if ring.name == "each"][:8] == [*range(7), 0]


async def test_a_timer_that_takes_15_minutes_is_reset_and_retried(
    store: Store, keeper: durable.Stub[Keeper]
) -> None:
    DOORS["a"] = anyio.Event()
    await keeper.set("a", after(seconds=1))
    await store.clock.advance(910)

    assert [ring.retry_count for ring in RINGS] == [0, 1]
    with pytest.raises(durable.ObjectReset, match="allowed execution time"):
        await keeper.names()
    DOORS["a"].set()


async def test_an_object_that_breaks_for_other_reasons_costs_its_timers_no_try(
    store: Store, keeper: durable.Stub[Keeper], runtime: durable.Runtime
) -> None:
    """They ring again, with the same count."""
    DOORS["a"] = anyio.Event()
    await keeper.set("a", after(seconds=1))
    await store.clock.advance(1)
    with pytest.raises(durable.ObjectAborted):
        await run_in_object(keeper, lambda _, ctx: ctx.abort("for other reasons"))
    DOORS.pop("a").set()
    await store.clock.advance(100)

    assert [ring.retry_count for ring in RINGS] == [0, 0]
    assert await runtime.namespace(Keeper).get_by_name("a").names() == []


# While it runs


async def test_a_timer_is_gone_while_its_handler_runs(
    store: Store, keeper: durable.Stub[Keeper]
) -> None:
    """One with a schedule is set for its next time."""
    DOORS["once"] = DOORS["each"] = anyio.Event()
    await keeper.set("once", after(seconds=10))
    await keeper.every("each", after(seconds=10))
    await store.clock.advance(10)
    assert len(RINGS) == 2

    assert await keeper.get("once") is None
    assert await keeper.due("each") == 20
    assert await keeper.names() == ["each"]
    DOORS["once"].set()
    await store.settle()
    assert await keeper.names() == ["each"]


async def test_a_timer_set_while_its_handler_runs_is_kept(
    store: Store, keeper: durable.Stub[Keeper]
) -> None:
    """Whether or not the handler fails then."""
    for name in ("ends", "fails"):
        DOORS[name] = anyio.Event()
        await keeper.set(name, after(seconds=1))
    FAILING["fails"] = ValueError("fails")
    await store.clock.advance(1)
    for name in ("ends", "fails"):
        await keeper.set(name, after(seconds=60), "new")
        DOORS.pop(name).set()
    await store.settle()
    FAILING.clear()
    assert await keeper.names() == ["ends", "fails"]
    await store.clock.advance(1_000)

    assert RINGS[2:] == [Ring(61, "ends", "new"), Ring(61, "fails", "new")]


async def test_a_timer_deleted_while_its_handler_runs_is_neither_retried_nor_repeated(
    store: Store, keeper: durable.Stub[Keeper]
) -> None:
    DOORS["once"] = DOORS["each"] = anyio.Event()
    FAILING["once"] = ValueError("fails")
    await keeper.set("once", after(seconds=1))
    await keeper.every("each", after(seconds=1))
    await store.clock.advance(1)
    assert await keeper.unset("once") is False
    assert await keeper.unset("each") is True
    DOORS["once"].set()
    await store.clock.advance(1_000)

    assert len(RINGS) == 2


async def test_delete_all_in_the_handler_ends_its_timer(
    store: Store, runtime: durable.Runtime
) -> None:
    class Ends(Keeper):
        async def timer(self, name: str, payload: Any, info: Any) -> None:
            RINGS.append(Ring(CLOCK[0].steady(), name))
            self.ctx.storage.delete_all()

    ends = runtime.namespace(Ends).get_by_name("a")
    await ends.every("each", after(seconds=1))
    await ends.set("other", after(seconds=2))
    await store.clock.advance(100)

    assert rung() == [(1, "each")]
    assert [stored async for stored in runtime.namespace(Ends).objects()] == []


async def test_a_transaction_rolled_back_in_the_handler_leaves_its_timer_running(
    store: Store, runtime: durable.Runtime
) -> None:
    """What the transaction did to the timer is undone, so the handler's end counts again."""

    class Undoes(Keeper):
        async def timer(self, name: str, payload: Any, info: Any) -> None:
            RINGS.append(Ring(CLOCK[0].steady(), name))

            async def moved(txn: durable.Transaction) -> None:
                self.ctx.timers.set(name, after(seconds=5))
                txn.rollback()

            await self.ctx.storage.transaction(moved)

    undoes = runtime.namespace(Undoes).get_by_name("a")
    await undoes.set("a", after(seconds=1))
    await store.clock.advance(100)

    assert rung() == [(1, "a")]
    assert await undoes.names() == []


# Schedules


async def test_a_period_goes_by_the_grid_that_began_with_it(
    store: Store, keeper: durable.Stub[Keeper]
) -> None:
    """No drift, however late or long a run is."""
    await store.clock.advance(3)
    await keeper.every("a", after(seconds=7.5))
    await store.clock.advance(30)

    assert at_times("a") == [10.5, 18.0, 25.5, 33.0]


async def test_a_schedule_that_is_set_again_keeps_its_time(
    store: Store, runtime: durable.Runtime
) -> None:
    """So a constructor may set it, though the object is woken more often than it rings."""

    class Sets(Keeper):
        version = 1

        def __init__(self, ctx: durable.State, env: Any) -> None:
            super().__init__(ctx, env)
            ctx.timers.every("each", after(seconds=60), self.version)

    sets = runtime.namespace(Sets).get_by_name("a")
    for _ in range(6):
        await sets.names()
        await store.clock.advance(25)
        Sets.version += 1
    assert [ring.at for ring in RINGS] == [60, 120]
    assert [ring.payload for ring in RINGS] == [3, 5]

    await sets.every("each", after(seconds=5))  # another one begins anew
    await store.clock.advance(5)
    assert at_times("each")[2] == 155


async def test_missed_times_of_a_schedule_are_made_up_for_by_one_run(store: Store) -> None:
    """For the first of them; then it goes on as if nothing had been."""
    async with store.open(bindings={"K": Keeper}) as runtime:
        await runtime.env.K.get_by_name("a").every("cron", "*/10 * * * *")
        await runtime.env.K.get_by_name("a").every("each", after(minutes=7))
    await store.clock.advance(65 * 60)
    async with store.open(bindings={"K": Keeper}):
        await store.settle()
        assert sorted(rung()) == [(3900, "cron"), (3900, "each")]
        assert sorted(t.timestamp() - store.clock.start_s for t in TIMES) == [420, 600]
        await store.clock.advance(6 * 60)

    assert sorted(rung()[2:]) == [(4200, "cron"), (4200, "each")]


async def test_cron_goes_by_utc_unless_a_time_zone_is_given(
    store: Store, keeper: durable.Stub[Keeper]
) -> None:
    """The clock starts on Friday, 2027-01-15, at 08:00 UTC."""
    await keeper.every("utc", "30 8 * * *")
    await keeper.every("tokyo", "30 18 * * *", time_zone="Asia/Tokyo")
    zone = ZoneInfo("America/New_York")
    await run_in_object(
        keeper, lambda _, ctx: ctx.timers.every("zone", "30 4 * * *", time_zone=zone)
    )
    await keeper.every("second", "5,35 0 8 15 1 *")
    await keeper.every("monday", "0 0 * * MON")

    assert [await keeper.due(name) for name in ("utc", "tokyo", "zone", "second")] == [
        *(1800, 5400, 5400, 5)
    ]
    assert await keeper.due("monday") == (2 * 24 + 16) * 3600


SPRING = dt.datetime(2027, 3, 28, tzinfo=ZoneInfo("Europe/Berlin"))  # 02:00 to 03:00 are skipped
AUTUMN = dt.datetime(2027, 10, 31, tzinfo=ZoneInfo("Europe/Berlin"))  # 02:00 to 03:00 come twice


@pytest.mark.parametrize(
    ("day", "cron", "hours"),
    [
        # A fixed time that is skipped comes right behind the gap, once.
        (SPRING, "30 2 * * *", ["03:00+02:00"]),
        (SPRING, "0 3 * * *", ["03:00+02:00"]),
        # By star: in real time.
        (SPRING, "0 * * * *", ["00:00+01:00", "01:00+01:00", "03:00+02:00", "04:00+02:00"]),
        # A fixed time that comes twice: at the first of the two, once.
        (AUTUMN, "30 2 * * *", ["02:30+02:00"]),
        (AUTUMN, "0 3 * * *", ["03:00+01:00"]),
        (
            AUTUMN,
            "0 * * * *",
            ["00:00+02:00", "01:00+02:00", "02:00+02:00", "02:00+01:00", "03:00+01:00",
             "04:00+01:00"],
        ),
        (AUTUMN, "30 2-3 * * *", ["02:30+02:00", "03:30+01:00"]),
    ],
)  # fmt: skip
async def test_where_clocks_change_cron_does_as_debian_does(
    store: Store, day: dt.datetime, cron: str, hours: list[str]
) -> None:
    store.clock.start_s = day.timestamp() - 1
    async with store.open(bindings={"K": Keeper}) as runtime:
        keeper = runtime.env.K.get_by_name("a")
        await keeper.every("a", cron, time_zone="Europe/Berlin")
        await store.clock.advance(3.5 * 3600 if day is SPRING else 5.5 * 3600)

    shown = [time.astimezone(day.tzinfo).isoformat() for time in TIMES]
    assert shown == [f"{day.date()}T{hour[:5]}:00{hour[5:]}" for hour in hours]
    assert [time.timestamp() - store.clock.start_s for time in TIMES] == at_times("a")


async def test_a_fixed_time_does_not_come_again_in_the_second_of_two_hours(store: Store) -> None:
    """Not when it is set in that hour, either."""
    store.clock.start_s = dt.datetime(2027, 10, 31, 1, 10, tzinfo=dt.UTC).timestamp()  # 02:10 again
    async with store.open(bindings={"K": Keeper}) as runtime:
        keeper = runtime.env.K.get_by_name("a")
        await keeper.every("a", "30 2 * * *", time_zone="Europe/Berlin")
        timer = await keeper.get("a")

    assert timer.due == dt.datetime(2027, 11, 1, 1, 30, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (("a", "0 3 * *"), ValueError, "no expression of cron"),
        (("a", "61 * * * *"), ValueError, "Bad minute"),
        (("a", "0 0 30 2 *"), ValueError, "Bad day-of-month"),
        (("a", "* * */20 * 1L"), ValueError, "never comes"),
        (("a", after()), ValueError, "above zero"),
        (("a", after(seconds=-1)), ValueError, "above zero"),
        (("a", 60), TypeError, "an expression of cron"),
        ((1, after(days=1)), TypeError, "a timer's name must be a str"),
        (("é" * 129, after(days=1)), ValueError, "up to 256 bytes.*258"),
        (("a", after(days=1), b"x" * 16_384), durable.ValueTooLarge, "timer_payload_size_max"),
        (("a", after(days=1), object()), durable.UnstorableValue, "object"),
    ],
)
async def test_bad_arguments_are_refused_at_the_call(
    keeper: durable.Stub[Keeper], arguments: Any, error: type[Exception], text: str
) -> None:
    """And nothing is changed by them."""

    async def attempt(_: Any, ctx: durable.State) -> None:
        with pytest.raises(error, match=text):
            ctx.timers.every(*arguments)
        if not isinstance(arguments[1], str | int) and arguments[1] > after():
            with pytest.raises(error, match=text):
                ctx.timers.set(*arguments)
        assert await ctx.timers.list() == []

    await run_in_object(keeper, attempt)


@pytest.mark.parametrize("when", [0, -1, float("nan"), dt.datetime(1960, 1, 1, tzinfo=dt.UTC), "x"])
async def test_a_time_that_is_none_is_refused(keeper: durable.Stub[Keeper], when: Any) -> None:
    def attempt(_: Any, ctx: durable.State) -> None:
        with pytest.raises((ValueError, TypeError), match=r"timers\.set\(\)"):
            ctx.timers.set("a", when)

    await run_in_object(keeper, attempt)


async def test_bad_time_zones_are_refused(keeper: durable.Stub[Keeper]) -> None:
    def attempt(_: Any, ctx: durable.State) -> None:
        for zone, error, text in (
            ("Europe/Nowhere", ValueError, "no time zone 'Europe/Nowhere'"),
            ("../etc", ValueError, "no time zone"),
            (dt.UTC, TypeError, "is a name"),
        ):
            with pytest.raises(error, match=text):
                ctx.timers.every("a", "* * * * *", time_zone=zone)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="only with an expression of cron"):
            ctx.timers.every("a", after(days=1), time_zone="UTC")

    await run_in_object(keeper, attempt)


async def test_an_object_has_so_many_timers_and_no_more(store: Store) -> None:
    """Those it has may be set anew; nothing of a call beyond is kept."""
    limits = durable.Limits(timers_max=2, shutdown_s_max=1.0)
    async with store.open(bindings={"K": Keeper}, limits=limits) as runtime:
        keeper = runtime.env.K.get_by_name("a")
        await keeper.set("a", after(seconds=1))
        await keeper.every("b", after(seconds=1))
        for call in (keeper.set, keeper.every):
            with pytest.raises(durable.TooManyTimers, match=r"2 timers.*Limits\.timers_max"):
                await call("c", after(seconds=1))
        await keeper.set("b", after(seconds=2))
        await keeper.every("a", after(seconds=3))

        assert await keeper.names() == ["b", "a"]


async def test_cron_without_its_library_says_what_to_install(
    keeper: durable.Stub[Keeper], monkeypatch: pytest.MonkeyPatch
) -> None:
    def attempt(_: Any, ctx: durable.State) -> None:
        ctx.timers.every("a", after(seconds=1))
        with pytest.raises(durable.MissingExtra, match=r"durable-objects\[cron\]"):
            ctx.timers.every("b", "* * * * *")

    monkeypatch.setitem(sys.modules, "cronsim", None)
    await run_in_object(keeper, attempt)


async def test_a_timer_whose_next_time_cannot_be_told_is_not_lost(
    store: Store, keeper: durable.Stub[Keeper], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library of cron has gone: it is tried again until it is back."""

    await keeper.every("a", "* * * * *")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "cronsim", None)
        await store.clock.advance(10_000)
        assert RINGS == []
    await store.clock.advance(2_000)

    assert RINGS
    assert await keeper.names() == ["a"]


# Timers and the alarm


async def test_a_class_has_timers_or_an_alarm(store: Store, runtime: durable.Runtime) -> None:
    """Both is an error where the class is registered."""

    class Both(Keeper):
        async def alarm(self) -> None: ...

    with pytest.raises(TypeError, match=r"Both has alarm\(\) and timer\(\)"):
        runtime.namespace(Both)
    with pytest.raises(TypeError, match=r"alarm\(\) and timer\(\)"):
        store.open(bindings={"B": Both})


async def test_a_class_without_a_handler_sets_no_timers(runtime: durable.Runtime) -> None:
    class Plain(durable.DurableObject):
        async def attempt(self) -> list[Any]:
            with pytest.raises(TypeError, match=r"timers\.set\(\); define `async def timer"):
                self.ctx.timers.set("a", after(days=1))
            with pytest.raises(TypeError, match=r"timers\.every\(\)"):
                self.ctx.timers.every("a", after(days=1))
            return await self.ctx.timers.list()

    assert await runtime.namespace(Plain).get_by_name("a").attempt() == []


async def test_a_class_with_timers_sets_no_alarm(runtime: durable.Runtime) -> None:
    """Neither in its constructor; nor does it delete the one that its timers ring on."""

    class Sets(Keeper):
        def __init__(self, ctx: durable.State, env: Any) -> None:
            super().__init__(ctx, env)
            with pytest.raises(TypeError, match="a class that has timer"):
                ctx.storage.set_alarm(after(days=1))

        def attempt(self) -> None:
            for call in (lambda: self.ctx.storage.set_alarm(1), self.ctx.storage.delete_alarm):
                with pytest.raises(TypeError, match="a class that has timer"):
                    call()

    await runtime.namespace(Sets).get_by_name("a").attempt()


async def test_the_handler_cannot_be_called_by_a_stub(keeper: durable.Stub[Keeper]) -> None:
    with pytest.raises(durable.NoSuchMethod, match="reserved"):
        keeper.timer("a", None)


class Changing(durable.DurableObject):
    async def alarm(self) -> None:
        RINGS.append(Ring(CLOCK[0].steady(), "the alarm"))

    def set(self) -> None:
        self.ctx.storage.set_alarm(after(seconds=10))


async def test_an_alarm_of_a_class_that_has_timers_now_is_dropped(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """With a word in the log, as where there is no handler at all."""
    later = type("Changing", (Keeper,), {})
    async with store.open(bindings={"C": Changing}) as runtime:
        await runtime.env.C.get_by_name("a").set()
    with caplog.at_level(logging.WARNING, "durable"):
        async with store.open(bindings={"C": later}) as runtime:
            await store.clock.advance(20)
            assert "without a handler" in caplog.text
            await runtime.env.C.get_by_name("a").set("a", after(seconds=1))
            await store.clock.advance(1)

    assert rung() == [(21, "a")]


# Around


async def test_an_observer_is_told_which_timer_rings(
    store: Store, keeper: durable.Stub[Keeper], runtime: durable.Runtime
) -> None:
    told: list[Any] = []
    runtime.observe(told.append)
    await keeper.set("tea", after(seconds=1))
    await store.clock.advance(1)

    (rang,) = [event for event in told if type(event).__name__ == "AlarmRang"]
    assert (rang.timer, rang.retry_count) == ("tea", 0)
    (came,) = [event for event in told if getattr(event, "method", None) == "timer"][:1]
    assert came.kind == "timer"


async def test_a_test_may_ring_a_timer_whatever_its_time(
    store: Store, keeper: durable.Stub[Keeper]
) -> None:
    """What it was set for counts as done."""
    await keeper.set("once", after(days=1))
    await keeper.every("each", after(days=1))
    assert await run_timer(keeper, "once") is True
    assert await run_timer(keeper, "each") is True
    assert await run_timer(keeper, "none") is False
    with pytest.raises(TypeError, match="run_timer"):
        await durable.testing.run_alarm(keeper)

    assert rung() == [(0, "once"), (0, "each")]
    assert await keeper.names() == ["each"]
    assert await keeper.due("each") == 2 * 86_400


async def test_timers_wait_their_turn_behind_a_critical_section(
    store: Store, keeper: durable.Stub[Keeper], start: Start[Any]
) -> None:
    """And are looked at again when it comes: one that was moved meanwhile rings at its new time."""
    door = anyio.Event()

    async def change(_: Any, ctx: durable.State) -> None:
        async def section() -> None:
            await door.wait()
            ctx.timers.set("moved", after(seconds=60))
            ctx.timers.delete("deleted")

        await ctx.block_concurrency_while(section)

    for name in ("moved", "deleted", "left"):
        await keeper.set(name, after(seconds=5))
    call = start(run_in_object(keeper, change))
    await store.clock.advance(10)
    door.set()
    await call.result()
    await store.clock.advance(100)

    assert rung() == [(10, "left"), (70, "moved")]
