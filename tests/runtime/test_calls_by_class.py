"""`stub.rpc`, `stub.call`, `ctx.now()`, `Namespace.delete` and `durable.retry`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

import durable
import durable.testing

Clock = durable.testing.VirtualClock


class Base(durable.DurableObject):
    async def who(self) -> str:
        return "base"


class Counter(Base):
    built = 0

    def __init__(self, ctx: durable.State, env: Any) -> None:
        super().__init__(ctx, env)
        Counter.built += 1
        self.seen = 0

    async def add(self, by: int = 1) -> int:
        self.seen += by
        return self.ctx.storage.kv.update("n", lambda n: n + by, 0)

    def peek(self) -> tuple[int, int]:
        return self.seen, self.ctx.storage.kv.get("n", 0)

    async def ticks(self, count: int) -> AsyncIterator[int]:
        for number in range(count):
            yield number

    async def who(self) -> str:
        return "counter"

    @staticmethod
    def fixed() -> int:
        return 7

    @classmethod
    def kind(cls) -> str:
        return cls.__name__

    again = add

    def _hidden(self) -> None: ...

    def now(self) -> datetime:
        return self.ctx.now()

    async def ring(self) -> None:
        self.ctx.storage.set_alarm(timedelta(hours=1))

    async def alarm(self) -> None:
        self.ctx.storage.put("rang", self.ctx.now())

    async def rang(self) -> Any:
        return await self.ctx.storage.get("rang")

    async def wait(self) -> None:
        self.may_go_on = anyio.Event()
        await self.may_go_on.wait()

    async def go_on(self) -> None:
        self.may_go_on.set()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def counters(tmp_path: Path, clock: Clock) -> AsyncIterator[durable.Namespace[Counter]]:
    async with durable.testing.open(
        tmp_path, clock=clock, bindings={"COUNTERS": Counter}
    ) as runtime:
        yield runtime.namespace(Counter)


async def test_rpc_is_the_stub_itself(counters: durable.Namespace[Counter]) -> None:
    """Its methods are those of the class, for those who read types; it runs what the stub runs."""
    stub = counters.get_by_name("a")

    assert await stub.rpc.add(5) == 5
    assert [number async for number in stub.rpc.ticks(2)] == [0, 1]
    with pytest.raises(durable.NoSuchMethod):
        stub.rpc._hidden()


async def test_a_method_is_called_by_what_it_is_in_the_class(
    counters: durable.Namespace[Counter],
) -> None:
    """Async, plain, a generator, inherited, static, of the class, under another name."""
    stub = counters.get_by_name("a")

    assert await stub.call(Counter.add, 5) == 5
    assert await stub.call(Counter.add, by=2) == 7
    assert await stub.call(Counter.peek) == (7, 7)
    assert [number async for number in stub.call(Counter.ticks, 2)] == [0, 1]
    assert await stub.call(Counter.again) == 8
    assert await stub.call(Counter.fixed) == 7  # type: ignore[arg-type]
    assert await stub.call(Counter.kind) == "Counter"  # type: ignore[arg-type]


async def test_what_overrides_a_method_is_what_runs(counters: durable.Namespace[Counter]) -> None:
    """As in any call of a method."""
    assert await counters.get_by_name("a").call(Base.who) == "counter"


async def test_what_is_no_method_of_the_class_is_refused_at_the_call(
    counters: durable.Namespace[Counter],
) -> None:
    """And what is not public."""
    stub = counters.get_by_name("a")
    for wrong in (len, "add", durable.testing.evict, lambda self: 1, None):
        with pytest.raises(TypeError, match="a method of Counter"):
            stub.call(wrong)  # type: ignore[call-overload]
    for hidden in (Counter._hidden, Counter.alarm):
        with pytest.raises(durable.NoSuchMethod):
            stub.call(hidden)


async def test_now_is_the_clock_of_the_runtime(
    counters: durable.Namespace[Counter], clock: Clock
) -> None:
    """Which a test turns; in UTC, to the microsecond, and what alarms go by."""
    stub = counters.get_by_name("a")
    first = await stub.now()
    await stub.ring()
    await clock.advance(3_600)

    assert first == datetime.fromtimestamp(clock.now() - 3_600, UTC)
    assert type(first) is datetime
    assert first.tzinfo is UTC
    assert await stub.rang() == first + timedelta(hours=1)


async def test_delete_empties_an_object_from_outside(
    counters: durable.Namespace[Counter], clock: Clock
) -> None:
    """Keys and alarm are gone, and so is its memory; stubs stay valid."""
    stub = counters.get_by_name("a")
    await stub.add(3)
    await stub.ring()
    await counters.delete(stub.id)

    assert [found async for found in counters.objects()] == []
    await clock.advance(4_000)
    built = Counter.built
    assert await stub.peek() == (0, 0)
    assert Counter.built == built + 1
    assert await stub.rang() is None


async def test_delete_takes_its_place_in_line(counters: durable.Namespace[Counter]) -> None:
    """It acts at the call: after what was called before it, before what is called later."""
    stub = counters.get_by_name("a")
    stub.add(3)
    counters.delete(stub.id)

    assert await stub.add(4) == 4


async def test_an_object_that_is_busy_is_emptied_and_stays(
    counters: durable.Namespace[Counter], clock: Clock
) -> None:
    """What runs in it goes on."""
    stub = counters.get_by_name("a")
    await stub.add(3)
    waiting = stub.wait()
    await counters.delete(stub.id)
    await stub.go_on()
    await waiting

    assert await stub.peek() == (3, 0)


async def test_delete_takes_an_id_of_its_class(counters: durable.Namespace[Counter]) -> None:
    """As `get` does."""
    with pytest.raises(TypeError):
        counters.delete("a")  # type: ignore[arg-type]


class Flaky(durable.DurableObject):
    tries = 0
    failures = 0

    async def work(self) -> int:
        Flaky.tries += 1
        if Flaky.tries <= Flaky.failures:
            raise durable.DurableError("not yet", retryable=True)
        return Flaky.tries

    async def abort_once(self) -> int:
        Flaky.tries += 1
        if Flaky.tries == 1:
            self.ctx.abort("not yet")
        return Flaky.tries


@pytest.fixture
async def flaky(tmp_path: Path) -> AsyncIterator[durable.Namespace[Flaky]]:
    Flaky.tries = 0
    async with durable.testing.open(tmp_path, clock=Clock(autojump=True)) as runtime:
        yield runtime.namespace(Flaky)


async def test_retry_tries_again_with_a_fresh_stub(flaky: durable.Namespace[Flaky]) -> None:
    """After pauses that grow, by the runtime's clock."""
    Flaky.failures = 3
    clock = flaky._entry.directory.services.clock
    began_s = clock.steady()
    stub = flaky.get_by_name("a")

    assert await durable.retry(lambda stub: stub.work(), stub, pause_s=100, pause_s_max=300) == 4
    assert 600 <= clock.steady() - began_s <= 750


async def test_retry_takes_a_reset_for_one_that_passes_if_told_so(
    flaky: durable.Namespace[Flaky],
) -> None:
    """The fresh stub reaches the new instance, which the old one does not."""
    stub = flaky.get_by_name("a")
    with pytest.raises(durable.ObjectAborted):
        await durable.retry(lambda stub: stub.abort_once(), stub)
    Flaky.tries = 0
    again = flaky.get_by_name("a")

    assert await durable.retry(lambda stub: stub.abort_once(), again, on_reset=True) == 2
    with pytest.raises(durable.ObjectAborted):
        await again.work()


async def test_retry_gives_up_in_the_end(flaky: durable.Namespace[Flaky]) -> None:
    """With what the last try raised."""
    Flaky.failures = 9
    with pytest.raises(durable.DurableError, match="not yet"):
        await durable.retry(lambda stub: stub.work(), flaky.get_by_name("a"), tries_max=3)

    assert Flaky.tries == 3


async def test_retry_may_try_for_ever(flaky: durable.Namespace[Flaky]) -> None:
    """A pause that would be doubled more often than a float can be is the longest one."""
    Flaky.failures = 1_100
    stub = flaky.get_by_name("a")

    tried = durable.retry(lambda stub: stub.work(), stub, tries_max=10_000, pause_s_max=0.001)
    assert await tried == 1_101


async def test_retry_takes_stubs_alone() -> None:
    """At the call, and not when the first try has failed."""
    with pytest.raises(TypeError, match="takes a stub"):
        await durable.retry(lambda stub: stub.work(), "a")  # type: ignore[type-var]


@pytest.mark.parametrize(
    "error",
    [
        ValueError("wrong"),
        durable.ObjectOverloaded("too much"),
        durable.NoSuchMethod("none"),
    ],
)
async def test_what_does_not_pass_by_itself_is_not_tried_again(
    flaky: durable.Namespace[Flaky], error: Exception
) -> None:
    """An error of the object's own, an overload, or a call that is wrong."""
    tried = 0

    async def fail(stub: durable.Stub[Flaky]) -> None:
        nonlocal tried
        tried += 1
        raise error

    with pytest.raises(type(error)):
        await durable.retry(fail, flaky.get_by_name("a"))

    assert tried == 1


@pytest.mark.parametrize("options", [{"tries_max": 0}, {"tries_max": True}, {"pause_s": -1}])
async def test_retry_refuses_options_that_mean_nothing(
    flaky: durable.Namespace[Flaky], options: dict[str, Any]
) -> None:
    """Before the first try."""
    with pytest.raises(ValueError, match="must be"):
        await durable.retry(lambda stub: stub.work(), flaky.get_by_name("a"), **options)

    assert Flaky.tries == 0


@pytest.mark.parametrize("prefix", [5, b"a", ("a", "b")])
async def test_a_prefix_of_names_is_a_str(tmp_path: Path, prefix: Any) -> None:
    """Else `objects` raises at the call."""
    async with durable.open(tmp_path, bindings={"COUNTERS": Counter}) as runtime:
        with pytest.raises(TypeError, match="the prefix of names must be a str"):
            runtime.env.COUNTERS.objects(prefix)
