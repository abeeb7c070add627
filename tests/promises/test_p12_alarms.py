"""P12: one alarm an object, durable, run at least once, never early, retried when it fails."""

from __future__ import annotations

import datetime as dt
from typing import Any

import anyio
import pytest

import durable
import durable.testing
from durable._runtime.alarms import Alarms

from .conftest import Start, Store

DOORS: dict[str, anyio.Event] = {}

RINGS: list[tuple[float, str, int, bool]] = []
FAILURES: list[BaseException] = []
LOG: list[Any] = []
CLOCK: list[durable.testing.VirtualClock] = []


@pytest.fixture(autouse=True)
def fresh(store: Store) -> None:
    DOORS.clear()
    RINGS.clear()
    FAILURES.clear()
    LOG.clear()
    CLOCK[:] = [store.clock]


class Ringer(durable.DurableObject):
    """Notes when it rang; fails as long as it is told to."""

    async def alarm(self, info: Any) -> None:
        name = str(self.ctx.id.name)
        RINGS.append((CLOCK[0].steady(), name, info.retry_count, info.is_retry))
        LOG.append(info.scheduled_time)
        self.ctx.storage.put("rings", await self.ctx.storage.get("rings", 0) + 1)
        if "door" in DOORS:
            await DOORS["door"].wait()
        if FAILURES:
            raise FAILURES[0]

    async def set(self, seconds: float) -> None:
        await self.ctx.storage.set_alarm(dt.timedelta(seconds=seconds))

    async def unset(self) -> None:
        await self.ctx.storage.delete_alarm()

    async def when(self) -> dt.datetime | None:
        return await self.ctx.storage.get_alarm()

    async def rings(self) -> int:
        return int(await self.ctx.storage.get("rings", 0))


@pytest.fixture
async def ringer(runtime: durable.Runtime) -> durable.Stub[Ringer]:
    return runtime.namespace(Ringer).get_by_name("a")


def times() -> list[float]:
    return [ring[0] for ring in RINGS]


async def test_an_alarm_rings_on_time_and_never_early(
    store: Store, ringer: durable.Stub[Ringer]
) -> None:
    """Once, at its time, with no call needed."""
    await ringer.set(60)
    await store.clock.advance(59.999)
    assert RINGS == []

    await store.clock.advance(0.001)
    assert RINGS == [(60, "a", 0, False)]
    await store.clock.advance(10_000)
    assert len(RINGS) == 1
    assert await ringer.when() is None


async def test_the_handler_is_told_the_time_that_was_set(
    store: Store, ringer: durable.Stub[Ringer]
) -> None:
    """An aware datetime, to the microsecond."""
    at = dt.datetime.fromtimestamp(store.clock.now() + 1.000001, dt.UTC)
    await durable.testing.run_in_object(ringer, lambda _, ctx: ctx.storage.set_alarm(at))
    assert await ringer.when() == at
    await store.clock.advance(2)

    assert [at] == LOG
    assert LOG[0].tzinfo is dt.UTC


async def test_a_later_call_replaces_the_alarm(store: Store, ringer: durable.Stub[Ringer]) -> None:
    """One an object: earlier or later, the last one counts."""
    await ringer.set(10)
    await ringer.set(30)
    await ringer.set(20)
    await store.clock.advance(100)

    assert times() == [20]


async def test_a_deleted_alarm_does_not_ring(store: Store, ringer: durable.Stub[Ringer]) -> None:
    """Nor does one that went with all the rest."""
    await ringer.set(10)
    await ringer.unset()
    await ringer.set(10)
    await durable.testing.run_in_object(ringer, lambda _, ctx: ctx.storage.delete_all())
    await store.clock.advance(100)

    assert RINGS == []


@pytest.mark.parametrize("how", ["moved", "deleted"])
async def test_an_alarm_that_changed_before_its_handler_began_does_not_run(
    store: Store, ringer: durable.Stub[Ringer], how: str, start: Start[Any]
) -> None:
    """It fell due while a section had the object shut, and was on its way."""

    async def change(_: Any, ctx: durable.State) -> None:
        async def section() -> None:
            await DOORS["section"].wait()
            if how == "moved":
                ctx.storage.set_alarm(dt.timedelta(seconds=60))
            else:
                ctx.storage.delete_alarm()

        await ctx.block_concurrency_while(section)

    DOORS["section"] = anyio.Event()
    await ringer.set(5)
    call = start(durable.testing.run_in_object(ringer, change))
    await store.clock.advance(10)
    DOORS["section"].set()
    await call.result()
    await store.clock.advance(10)
    assert RINGS == []

    await store.clock.advance(60)
    assert times() == ([70.0] if how == "moved" else [])


async def test_a_time_that_has_passed_is_now(store: Store, ringer: durable.Stub[Ringer]) -> None:
    """It rings at once, and is said to be set for now."""
    await durable.testing.run_in_object(ringer, lambda _, ctx: ctx.storage.set_alarm(5))
    await store.settle()

    assert times() == [0]
    assert [dt.datetime.fromtimestamp(store.clock.now(), dt.UTC)] == LOG


@pytest.mark.parametrize("time", [0, -1, 0.0, dt.datetime(1960, 1, 1, tzinfo=dt.UTC)])
async def test_a_time_at_or_before_1970_is_refused(ringer: durable.Stub[Ringer], time: Any) -> None:
    """At the call."""

    def set_alarm(_: Any, ctx: durable.State) -> None:
        with pytest.raises(ValueError):
            ctx.storage.set_alarm(time)

    await durable.testing.run_in_object(ringer, set_alarm)


async def test_a_naive_datetime_is_local_time(store: Store, ringer: durable.Stub[Ringer]) -> None:
    """As in Python's own `.timestamp()`."""
    at = dt.datetime.fromtimestamp(store.clock.now() + 50)
    await durable.testing.run_in_object(ringer, lambda _, ctx: ctx.storage.set_alarm(at))

    assert await ringer.when() == at.astimezone(dt.UTC)


async def test_an_alarm_is_durable_with_the_writes_beside_it(store: Store) -> None:
    """Both are there after a crash, or none is (P7)."""

    async def write(_: Any, ctx: durable.State) -> None:
        ctx.storage.put("beside", 1)
        ctx.storage.set_alarm(store.clock.now() + 60)

    for after in (0, 1):
        async with store.open(bindings={"R": Ringer}) as runtime:
            stub = runtime.env.R.get_by_name(str(after))
            store.faults.lose_power(after=after)
            try:
                await durable.testing.run_in_object(stub, write)
            except durable.CommitFailed:
                assert not after
        store.faults.repair()

    async with store.open(bindings={"R": Ringer}):
        await store.clock.advance(61)
    assert [ring[1] for ring in RINGS] == ["1"]


async def test_an_alarm_rings_after_a_restart_with_no_call(store: Store) -> None:
    """Missed ones at once, others at their time, all with their object's name."""
    async with store.open() as runtime:
        await runtime.namespace(Ringer).get_by_name("missed").set(60)
        await runtime.namespace(Ringer).get_by_name("later").set(200)
    await store.clock.advance(100)
    assert RINGS == []

    async with store.open(bindings={"R": Ringer}):
        await store.settle()
        assert [(at, name) for at, name, *_ in RINGS] == [(100, "missed")]
        await store.clock.advance(100)
        assert [(at, name) for at, name, *_ in RINGS] == [(100, "missed"), (200, "later")]


async def test_an_alarm_wakes_an_evicted_object(store: Store, ringer: durable.Stub[Ringer]) -> None:
    """After the idle time the object is gone from memory, and rings all the same."""
    await ringer.set(60)
    await store.clock.advance(30)
    assert not durable.testing.is_live(ringer)

    await store.clock.advance(30)
    assert times() == [60]
    assert await ringer.rings() == 1


async def test_many_alarms_ring_in_order_each_once(store: Store, runtime: durable.Runtime) -> None:
    """More at a time than ring at once."""
    ringers = runtime.namespace(Ringer)
    for number in range(300):
        ringers.get_by_name(f"{number:03}").set(60 + number // 100)
    await store.settle()
    await store.clock.advance(59)
    assert RINGS == []
    await store.clock.advance(10)

    assert len(RINGS) == 300
    assert len({name for _, name, *_ in RINGS}) == 300
    assert times() == sorted(times())
    assert set(times()) == {60, 61, 62}


# Failures


async def test_a_failure_is_retried_after_2_4_8_s_up_to_6_times(
    store: Store, ringer: durable.Stub[Ringer]
) -> None:
    """Plus up to a quarter each; then it is given up."""
    FAILURES.append(ValueError("fails"))
    await ringer.set(1)
    await store.clock.advance(10_000)

    assert [ring[2] for ring in RINGS] == [0, 1, 2, 3, 4, 5, 6]
    assert [ring[3] for ring in RINGS] == [False] + [True] * 6
    delays = [after - before for before, after in zip(times(), times()[1:], strict=False)]
    for doublings, delay in enumerate(delays):
        shortest = 2 << doublings
        assert shortest <= delay <= shortest * 1.25 + 0.01
    assert await ringer.when() is None


async def test_no_retries_may_be_asked_for(store: Store) -> None:
    """With `alarm_retries_max=0` a failure is the end of the alarm."""
    FAILURES.append(ValueError("fails"))
    limits = durable.Limits(alarm_retries_max=0, shutdown_s_max=1.0)
    async with store.open(limits=limits) as runtime:
        ringer = runtime.namespace(Ringer).get_by_name("a")
        await ringer.set(1)
        await store.clock.advance(10_000)

        assert [ring[2] for ring in RINGS] == [0]
        assert await ringer.when() is None


async def test_what_a_failed_handler_wrote_is_kept(
    store: Store, ringer: durable.Stub[Ringer]
) -> None:
    """An exception undoes no writes, as in any handler."""
    FAILURES.append(ValueError("fails"))
    await ringer.set(1)
    await store.clock.advance(1)

    assert await ringer.rings() == 1


async def test_a_success_ends_the_retries(store: Store, ringer: durable.Stub[Ringer]) -> None:
    """And a later alarm begins at nought."""
    FAILURES.append(ValueError("fails"))
    await ringer.set(1)
    await store.clock.advance(1)
    FAILURES.clear()
    await store.clock.advance(1_000)
    assert [ring[2] for ring in RINGS] == [0, 1]

    await ringer.set(1)
    await store.clock.advance(1)
    assert [ring[2] for ring in RINGS] == [0, 1, 0]


async def test_between_retries_the_time_that_was_set_is_seen(
    store: Store, ringer: durable.Stub[Ringer]
) -> None:
    """It is in the past by then."""
    FAILURES.append(ValueError("fails"))
    await ringer.set(1)
    at = await ringer.when()
    await store.clock.advance(1.5)

    assert await ringer.when() == at


async def test_delete_alarm_between_retries_ends_them(
    store: Store, ringer: durable.Stub[Ringer]
) -> None:
    """No further run."""
    FAILURES.append(ValueError("fails"))
    await ringer.set(1)
    await store.clock.advance(1.5)
    await ringer.unset()
    await store.clock.advance(1_000)

    assert len(RINGS) == 1


async def test_set_alarm_between_retries_replaces_them(
    store: Store, ringer: durable.Stub[Ringer]
) -> None:
    """The new one rings at its time, counted anew."""
    FAILURES.append(ValueError("fails"))
    await ringer.set(1)
    await store.clock.advance(1.5)
    FAILURES.clear()
    await ringer.set(100)
    await store.clock.advance(1_000)

    assert [(ring[0], ring[2]) for ring in RINGS] == [(1, 0), (101.5, 0)]


async def test_the_count_survives_a_restart(store: Store) -> None:
    """It is stored with the alarm."""
    FAILURES.append(ValueError("fails"))
    async with store.open(bindings={"R": Ringer}) as runtime:
        await runtime.env.R.get_by_name("a").set(1)
        await store.clock.advance(1)

    await store.clock.advance(100)
    async with store.open(bindings={"R": Ringer}):
        await store.settle()
    assert [ring[2] for ring in RINGS] == [0, 1]


async def test_an_abort_in_the_handler_counts_as_a_failure(
    store: Store, runtime: durable.Runtime
) -> None:
    """And is retried."""
    stub = runtime.namespace(Aborter).get_by_name("a")
    await stub.set()
    await store.clock.advance(10_000)

    assert LOG == [0, 1, 2, 3, 4, 5, 6]


async def test_an_abort_may_give_the_alarm_up(store: Store, runtime: durable.Runtime) -> None:
    """With `retry_alarm=False`."""
    stub = runtime.namespace(GivesUp).get_by_name("a")
    await stub.set()
    await store.clock.advance(10_000)

    assert LOG == [0]
    fresh = runtime.namespace(GivesUp).get_by_name("a")
    assert await durable.testing.run_in_object(fresh, lambda _, c: c.storage.get_alarm()) is None


class Aborter(durable.DurableObject):
    retry = True

    async def alarm(self, info: Any) -> None:
        LOG.append(info.retry_count)
        self.ctx.abort("in the alarm", retry_alarm=self.retry)

    def set(self) -> None:
        self.ctx.storage.set_alarm(dt.timedelta(seconds=1))


class GivesUp(Aborter):
    retry = False


async def test_an_alarm_that_takes_15_minutes_is_reset_and_retried(
    store: Store, ringer: durable.Stub[Ringer], runtime: durable.Runtime
) -> None:
    """That counts as its failure."""
    DOORS["door"] = anyio.Event()
    await ringer.set(1)
    await store.clock.advance(900)
    assert len(RINGS) == 1
    await store.clock.advance(10)

    assert [ring[2] for ring in RINGS] == [0, 1]
    with pytest.raises(durable.ObjectReset, match="allowed execution time"):
        await ringer.when()
    DOORS["door"].set()


async def test_an_alarm_whose_handler_has_ended_in_time_may_wait_for_the_disk(
    store: Store, ringer: durable.Stub[Ringer]
) -> None:
    """The limit is the handler's: what it has written may be stored later."""
    DOORS["door"] = anyio.Event()
    await ringer.set(1)
    await store.clock.advance(890)
    with store.faults.hold_commits():
        DOORS["door"].set()
        await store.settle()
        await store.clock.advance(20)
    await store.settle()
    await store.clock.advance(100)

    assert [ring[2] for ring in RINGS] == [0]
    assert await ringer.rings() == 1


# While it runs


async def test_get_alarm_is_none_while_the_handler_runs(
    store: Store, ringer: durable.Stub[Ringer], start: Start[Any]
) -> None:
    """Seen from other events too."""
    DOORS["door"] = anyio.Event()
    await ringer.set(1)
    await store.clock.advance(1)
    assert len(RINGS) == 1
    assert await ringer.when() is None

    DOORS["door"].set()
    await store.settle()
    assert await ringer.when() is None


async def test_an_alarm_set_while_the_handler_runs_is_kept(
    store: Store, ringer: durable.Stub[Ringer]
) -> None:
    """It rings at its own time, once this run has ended."""
    DOORS["door"] = anyio.Event()
    await ringer.set(1)
    await store.clock.advance(1)
    await ringer.set(50)
    assert await ringer.when() is not None
    DOORS["door"].set()
    await store.clock.advance(100)

    assert [(ring[0], ring[2]) for ring in RINGS] == [(1, 0), (51, 0)]


async def test_an_alarm_set_while_the_handler_runs_replaces_its_retry(
    store: Store, ringer: durable.Stub[Ringer]
) -> None:
    """If that run fails, it is not retried: the new one counts."""
    DOORS["door"] = anyio.Event()
    FAILURES.append(ValueError("fails"))
    await ringer.set(1)
    await store.clock.advance(1)
    await ringer.set(50)
    DOORS["door"].set()
    await store.settle()
    FAILURES.clear()
    await store.clock.advance(100)

    assert [(ring[0], ring[2]) for ring in RINGS] == [(1, 0), (51, 0)]


async def test_delete_alarm_while_the_handler_runs_prevents_the_retry(
    store: Store, ringer: durable.Stub[Ringer]
) -> None:
    """It cannot stop the run."""
    DOORS["door"] = anyio.Event()
    FAILURES.append(ValueError("fails"))
    await ringer.set(1)
    await store.clock.advance(1)
    await durable.testing.run_in_object(ringer, lambda _, ctx: ctx.storage.delete_alarm())
    DOORS["door"].set()
    await store.clock.advance(100)

    assert len(RINGS) == 1


async def test_an_alarm_does_not_ring_twice_at_a_time(
    store: Store, ringer: durable.Stub[Ringer], start: Start[Any]
) -> None:
    """One that is due again while its handler runs waits for the end of the run."""
    DOORS["door"] = anyio.Event()
    await ringer.set(1)
    await store.clock.advance(1)
    await ringer.set(1)
    await store.clock.advance(100)
    assert len(RINGS) == 1

    DOORS["door"].set()
    await store.settle()
    assert times() == [1, 101]


async def test_an_alarm_whose_end_was_not_stored_rings_again(store: Store) -> None:
    """At least once: a crash before the commit of its end runs it anew."""
    async with store.open(bindings={"R": Ringer}) as runtime:
        await runtime.env.R.get_by_name("a").set(1)
        store.faults.lose_power()
        await store.clock.advance(1)
    store.faults.repair()
    async with store.open(bindings={"R": Ringer}) as runtime:
        await store.settle()
        assert await runtime.env.R.get_by_name("a").rings() == 1

    assert len(RINGS) == 2


# The handler


class NoHandler(durable.DurableObject):
    def __init__(self, ctx: durable.State, env: Any) -> None:
        super().__init__(ctx, env)
        if not LOG:
            LOG.append("constructed")
            ctx.storage.set_alarm(dt.timedelta(seconds=60))

    def set(self) -> str:
        try:
            self.ctx.storage.set_alarm(1e10)
        except TypeError as error:
            return str(error)
        return "set"

    async def when(self) -> Any:
        return await self.ctx.storage.get_alarm()


async def test_an_alarm_that_could_not_ring_and_was_deleted_is_not_looked_for(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was to be tried again, and is gone by then, makes nobody look for it over and over."""
    looked: list[None] = []
    look = Alarms._look

    def counted(alarms: Alarms) -> None:
        looked.append(None)
        look(alarms)

    monkeypatch.setattr(Alarms, "_look", counted)
    async with store.open() as runtime:
        ringers = runtime.namespace(Ringer)
        await ringers.get_by_name("a").set(10)
        store.faults.fail_commits()
        await store.clock.advance(10)
        store.faults.repair()
        await ringers.get_by_name("a").unset()
        looked.clear()
        await store.clock.advance(60)

    assert [name for _, name, _, _ in RINGS] == ["a"]
    assert len(looked) < 5


async def test_a_class_without_a_handler_cannot_set_an_alarm(
    runtime: durable.Runtime,
) -> None:
    """But for its constructor."""
    stub = runtime.namespace(NoHandler).get_by_name("a")

    assert "alarm() handler" in await stub.set()
    assert await stub.when() is not None


async def test_an_alarm_of_a_class_without_a_handler_is_deleted(
    store: Store, runtime: durable.Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    """With a warning, when it rings."""
    stub = runtime.namespace(NoHandler).get_by_name("a")
    await stub.when()
    await store.clock.advance(61)

    assert await stub.when() is None
    assert "without a handler" in caplog.text


class Plain(durable.DurableObject):
    def alarm(self) -> None:
        LOG.append("rang")

    def set(self) -> None:
        self.ctx.storage.set_alarm(dt.timedelta(seconds=1))


async def test_a_handler_may_be_plain_and_take_no_info(
    store: Store, runtime: durable.Runtime
) -> None:
    """`info` may be left out."""
    stub = runtime.namespace(Plain).get_by_name("a")
    await stub.set()
    await store.clock.advance(1)

    assert LOG == ["rang"]


async def test_a_handler_cannot_be_called(ringer: durable.Stub[Ringer]) -> None:
    """It is not RPC."""
    with pytest.raises(durable.NoSuchMethod, match="reserved"):
        ringer.alarm(None)


# The clock and the kit


async def test_a_wall_clock_that_is_set_forward_rings(
    store: Store, ringer: durable.Stub[Ringer]
) -> None:
    """At once, where the clock tells of it."""
    await ringer.set(3_600)
    await store.settle()
    store.clock.set_wall_clock(store.clock.now() + 3_600)
    await store.clock.settle()

    assert len(RINGS) == 1


class SilentClock:
    """A clock that is set as those of machines are: nobody is told."""

    def __init__(self, clock: durable.testing.VirtualClock) -> None:
        self.now, self.steady = clock.now, clock.steady
        self.sleep, self.watch = clock.sleep, clock.watch


async def test_a_wall_clock_that_is_set_without_a_word_rings(store: Store) -> None:
    """As those of machines are: within the time after which it is looked at again."""
    async with store.open(clock=SilentClock(store.clock)) as runtime:
        await runtime.namespace(Ringer).get_by_name("a").set(3_600)
        store.clock.set_wall_clock(store.clock.now() + 3_600)
        await store.clock.advance(31)

    assert len(RINGS) == 1


async def test_a_wall_clock_that_is_set_back_does_not_ring_early(
    store: Store, ringer: durable.Stub[Ringer]
) -> None:
    """The alarm is for a time of the wall clock."""
    await ringer.set(60)
    await store.settle()
    store.clock.set_wall_clock(store.clock.now() - 100)
    await store.clock.advance(159)
    assert RINGS == []

    await store.clock.advance(1)
    assert times() == [160]


async def test_run_alarm_rings_whatever_the_time(ringer: durable.Stub[Ringer]) -> None:
    """The test kit's own way; it says whether there was one."""
    assert await durable.testing.run_alarm(ringer) is False

    await ringer.set(3_600)
    assert await durable.testing.run_alarm(ringer) is True
    assert len(RINGS) == 1
    assert await ringer.when() is None


async def test_an_autojumping_clock_rings_by_itself(store: Store) -> None:
    """When every task waits, time passes."""
    store.clock.autojump = True
    async with store.open() as runtime:
        stub = runtime.namespace(Ringer).get_by_name("a")
        await stub.set(3_600)
        await store.clock.sleep(3_601)

    assert times() == [3_600]
