"""The test kit, as somebody meets it who writes tests with it: contract, section 6."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

import durable
from durable import testing


class Diary(durable.DurableObject):
    """Counts, rings, and tells the test when."""

    rang: list[tuple[str | None, float, int]] = []
    now: Callable[[], float] = staticmethod(lambda: 0.0)
    fails = False

    def __init__(self, ctx: durable.State, env: Any) -> None:
        super().__init__(ctx, env)
        self.remembered = 0

    async def count(self) -> int:
        value: int = await self.ctx.storage.get("value", 0) + 1
        self.ctx.storage.put("value", value)
        return value

    async def value(self) -> int:
        return int(await self.ctx.storage.get("value", 0))

    async def remember(self, number: int) -> None:
        self.remembered = number

    async def recall(self) -> int:
        return self.remembered

    async def ring_in(self, seconds: float) -> None:
        self.ctx.storage.set_alarm(timedelta(seconds=seconds))

    async def alarm(self, info: durable.AlarmInfo) -> None:
        Diary.rang.append((self.ctx.id.name, Diary.now(), info.retry_count))
        if Diary.fails:
            raise ValueError("not today")

    async def sleep(self) -> None:
        await anyio.sleep_forever()


@pytest.fixture(autouse=True)
def _fresh() -> None:
    Diary.rang, Diary.fails, Diary.now = [], False, staticmethod(lambda: 0.0)


async def until(is_so: Callable[[], object]) -> None:
    with anyio.fail_after(5):
        while not is_so():
            await anyio.sleep(0.001)


async def test_what_falls_due_on_the_way_happens_in_order_each_at_its_time(tmp_path: Path) -> None:
    clock = testing.VirtualClock()
    Diary.now = clock.now
    begun = clock.now()
    async with testing.open(tmp_path, bindings={"D": Diary}, clock=clock) as runtime:
        for name, seconds in (("third", 30), ("first", 10), ("second", 20)):
            await runtime.env.D.get_by_name(name).ring_in(seconds)

        await clock.advance(9.99)
        assert Diary.rang == []
        await clock.advance(100)

    rang = [(name, round(when - begun, 3)) for name, when, _ in Diary.rang]
    assert rang == [("first", 10), ("second", 20), ("third", 30)]
    assert clock.now() - begun == pytest.approx(109.99)


async def test_a_clock_that_is_moved_far_runs_every_retry(tmp_path: Path) -> None:
    clock = testing.VirtualClock()
    Diary.now, Diary.fails = clock.now, True
    async with testing.open(tmp_path, bindings={"D": Diary}, clock=clock) as runtime:
        await runtime.env.D.get_by_name("a").ring_in(1)
        await clock.advance(10_000)

    assert [count for _, _, count in Diary.rang] == list(range(7))
    times = [when for _, when, _ in Diary.rang]
    for number, (earlier, later) in enumerate(itertools.pairwise(times), start=1):
        assert 2**number <= later - earlier <= 2**number * 1.25 + 0.001


async def test_a_clock_that_moves_by_itself_stands_while_there_is_work(tmp_path: Path) -> None:
    clock = testing.VirtualClock(autojump=True)
    Diary.now = clock.now
    async with testing.open(tmp_path, bindings={"D": Diary}, clock=clock) as runtime:
        begun = clock.now()
        for _ in range(20):
            await runtime.env.D.get_by_name("a").count()
        assert clock.now() - begun < 1

        await runtime.env.D.get_by_name("a").ring_in(86_400)
        await until(lambda: Diary.rang)

    assert Diary.rang[0][1] - begun >= 86_400


async def test_a_clock_that_moves_by_itself_goes_straight_to_what_is_due_and_then_stands(
    tmp_path: Path,
) -> None:
    clock = testing.VirtualClock(autojump=True)
    Diary.now = clock.now
    async with testing.open(tmp_path, bindings={"D": Diary}, clock=clock) as runtime:
        begun = clock.now()
        await runtime.env.D.get_by_name("a").ring_in(10 * 365 * 86_400)
        with anyio.fail_after(5):
            await until(lambda: Diary.rang)
        assert Diary.rang[0][1] - begun == 10 * 365 * 86_400

        with anyio.fail_after(5):  # beside the clock, which waits for the same
            await clock.settle()
        assert clock.now() - Diary.rang[0][1] < 60  # its last object has left memory


async def test_a_clock_is_moved_by_years_as_fast_as_by_seconds(tmp_path: Path) -> None:
    clock = testing.VirtualClock()
    Diary.now = clock.now
    async with testing.open(tmp_path, bindings={"D": Diary}, clock=clock) as runtime:
        await runtime.env.D.get_by_name("a").ring_in(10 * 365 * 86_400)
        with anyio.fail_after(5):
            await clock.advance(10 * 365 * 86_400)
        assert len(Diary.rang) == 1


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf])
async def test_time_goes_neither_back_nor_to_its_end(tmp_path: Path, seconds: float) -> None:
    clock = testing.VirtualClock()
    async with testing.open(tmp_path, clock=clock):
        with anyio.fail_after(5), pytest.raises(ValueError):
            await clock.advance(seconds)


@pytest.mark.parametrize("call", [testing.Faults.fail_commits, testing.Faults.lose_power])
async def test_a_fault_comes_after_no_fewer_than_no_commits(call: Callable[..., None]) -> None:
    with pytest.raises(ValueError, match="after=-1"):
        call(testing.Faults(), after=-1)


async def test_one_commit_goes_on_and_the_next_is_held(tmp_path: Path) -> None:
    faults = testing.Faults()
    async with testing.open(tmp_path, bindings={"D": Diary}, faults=faults) as runtime:
        with faults.hold_commits():
            first = runtime.env.D.get_by_name("a").count()
            await until(lambda: faults.commits_waiting == 1)
            second = runtime.env.D.get_by_name("b").count()
            await anyio.wait_all_tasks_blocked()
            assert (first.is_done, second.is_done) == (False, False)

            faults.let_one_commit()
            assert await first == 1
            await until(lambda: faults.commits_waiting == 1)
            assert not second.is_done
        assert await second == 1
    assert faults.commits_waiting == 0


async def test_a_hold_within_a_hold_ends_with_the_outer_one(tmp_path: Path) -> None:
    faults = testing.Faults()
    async with testing.open(tmp_path, bindings={"D": Diary}, faults=faults) as runtime:
        with faults.hold_commits():
            with faults.hold_commits():
                answer = runtime.env.D.get_by_name("a").count()
                await until(lambda: faults.commits_waiting)
            await anyio.sleep(0.01)
            assert not answer.is_done
        assert await answer == 1


async def test_commits_fail_after_as_many_as_were_asked_for(tmp_path: Path) -> None:
    faults = testing.Faults()
    async with testing.open(tmp_path, bindings={"D": Diary}, faults=faults) as runtime:
        faults.fail_commits(after=2)
        assert [await runtime.env.D.get_by_name("a").count() for _ in "ab"] == [1, 2]

        with pytest.raises(durable.DurableError) as failed:
            await runtime.env.D.get_by_name("a").count()
        assert failed.value.reset
        assert await runtime.env.D.get_by_name("a").value() == 2


async def test_the_power_is_out_until_the_store_is_opened_anew(tmp_path: Path) -> None:
    """The same faults serve the store before and after the crash."""
    faults = testing.Faults()
    async with testing.open(tmp_path, bindings={"D": Diary}, faults=faults) as runtime:
        faults.lose_power(after=1)
        assert await runtime.env.D.get_by_name("a").count() == 1
        for _ in "ab":
            with pytest.raises(durable.DurableError):
                await runtime.env.D.get_by_name("a").count()

    async with testing.open(tmp_path, bindings={"D": Diary}, faults=faults) as runtime:
        assert await runtime.env.D.get_by_name("a").count() == 2


async def test_held_reads_hold_what_is_behind_them(tmp_path: Path) -> None:
    faults = testing.Faults()
    async with testing.open(tmp_path, bindings={"D": Diary}) as runtime:
        await runtime.env.D.get_by_name("a").count()
    async with testing.open(
        tmp_path, bindings={"D": Diary}, faults=faults, reads="thread"
    ) as runtime:
        diary = runtime.env.D.get_by_name("a")
        with faults.hold_reads():
            value, recalled = diary.value(), diary.recall()
            await anyio.sleep(0.01)
            assert (value.is_done, recalled.is_done) == (False, False)
        assert (await value, await recalled) == (1, 0)


async def test_a_function_in_an_object_is_an_event_of_it(tmp_path: Path) -> None:
    """It has the instance and the ctx, its writes are committed, and its answer waits for that."""
    faults = testing.Faults()
    async with testing.open(tmp_path, bindings={"D": Diary}, faults=faults) as runtime:
        diary = runtime.env.D.get_by_name("a")
        done: list[Diary] = []

        async def write(instance: Diary, ctx: durable.State) -> Diary:
            assert (ctx, ctx.id) == (instance.ctx, diary.id)
            instance.remembered = 7
            ctx.storage.put("value", await ctx.storage.get("value", 0) + 5)
            return instance

        async def run() -> None:
            done.append(await testing.run_in_object(diary, write))

        async with anyio.create_task_group() as tasks:
            with faults.hold_commits():
                tasks.start_soon(run)
                await until(lambda: faults.commits_waiting)
                assert done == []

        assert isinstance(done[0], Diary)
        assert (await diary.value(), await diary.recall()) == (5, 7)
        assert await testing.run_in_object(diary, lambda instance, ctx: 1) == 1


async def test_a_test_can_wait_beside_an_eviction_that_waits(tmp_path: Path) -> None:
    """The object has work to do: the eviction waits, and so it looks to a test."""
    release = anyio.Event()

    class Busy(durable.DurableObject):
        async def work(self) -> int:
            await release.wait()
            return 1

    async with testing.open(tmp_path) as runtime:
        stub = runtime.namespace(Busy).get_by_name("a")
        answer = stub.work()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(testing.evict, stub)
            with anyio.fail_after(5):
                await anyio.wait_all_tasks_blocked()
            assert testing.is_live(stub)
            release.set()
        assert not testing.is_live(stub)
        assert await answer == 1


async def test_what_is_not_live_is_not_evicted(tmp_path: Path) -> None:
    async with testing.open(tmp_path, bindings={"D": Diary}) as runtime:
        diary = runtime.env.D.get_by_name("a")
        with pytest.raises(durable.DurableError, match="not currently running"):
            await testing.evict(diary)

        await diary.remember(5)
        await testing.evict(diary)
        assert await diary.recall() == 0
        with pytest.raises(TypeError, match="hibernate"):
            await testing.evict(diary, websockets="drop")  # type: ignore[arg-type]


@pytest.mark.parametrize("call", [testing.evict, testing.run_alarm, testing.is_live])
async def test_the_kit_says_that_it_takes_stubs(call: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match="can only be used on a Durable Object stub"):
        await call("front page")
    with pytest.raises(TypeError, match="can only be used on a Durable Object stub"):
        await testing.run_in_object("front page", lambda instance, ctx: 1)  # type: ignore[arg-type, call-overload]


async def test_an_alarm_can_be_rung_at_once(tmp_path: Path) -> None:
    async with testing.open(tmp_path, bindings={"D": Diary}) as runtime:
        diary = runtime.env.D.get_by_name("a")
        assert await testing.run_alarm(diary) is False
        await diary.ring_in(3_600)
        assert await testing.run_alarm(diary) is True
        assert await testing.run_alarm(diary) is False
    assert [name for name, _, _ in Diary.rang] == ["a"]


async def test_after_a_reset_of_the_store_nothing_was_ever_there(tmp_path: Path) -> None:
    async with testing.open(tmp_path, bindings={"D": Diary}) as runtime:
        counted, waiting = runtime.env.D.get_by_name("a"), runtime.env.D.get_by_name("b")
        await counted.count()
        await waiting.ring_in(3_600)
        ids = await testing.list_object_ids(runtime.env.D)
        assert ids == sorted([counted.id, waiting.id], key=str)

        await testing.reset(runtime)
        assert await testing.list_object_ids(runtime.env.D) == []
        with pytest.raises(durable.ObjectReset, match="deleteAllDurableObjects"):
            await counted.value()
        fresh = runtime.env.D.get_by_name("a")
        assert await fresh.value() == 0

        await testing.abort_all(runtime)
        with pytest.raises(durable.ObjectReset, match="abortAllDurableObjects"):
            await fresh.value()
