"""`once=`: a call with a key happens once, and a repeated one gets the first one's result."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar

import anyio
import pytest

import durable
import durable.testing
from durable._border.once import FREED_AT_ONCE, KEPT_S, PREFIX
from durable._memory.engine import MemoryEngine
from durable._model.observer import DeliveryEnded
from durable._runtime.open_store import OpenStore

DAY_S = KEPT_S


class StoreInMemory(OpenStore):
    """An open store that no file keeps."""

    open_engine = staticmethod(lambda path, clock, **_: MemoryEngine(clock, path))


class open_in_memory(durable.testing.open):
    """`durable.testing.open` of such a store."""

    _store_class: ClassVar[type[OpenStore]] = StoreInMemory


@pytest.fixture(params=["lmdb", "lmdb, read in a thread", "memory"])
async def counters(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    clock: durable.testing.VirtualClock,
    faults: durable.testing.Faults,
) -> AsyncIterator[durable.Namespace[Counter]]:
    opening = open_in_memory if request.param == "memory" else durable.testing.open
    reads = "thread" if "thread" in request.param else "inline"
    async with opening(
        tmp_path / "store", bindings={"COUNTERS": Counter}, clock=clock, faults=faults, reads=reads
    ) as runtime:
        yield runtime.env.COUNTERS


class Counter(durable.DurableObject):
    """Counts, in ways that end or do not."""

    values: ClassVar[list[type]] = []
    may_go_on: ClassVar[anyio.Event]

    async def increment(self, by: int = 1) -> int:
        return await self.ctx.storage.update("n", lambda n: n + by, 0)

    def plain(self) -> int:
        return self.ctx.storage.kv.update("n", lambda n: n + 1, 0)

    async def slow(self) -> int:
        count = await self.increment()
        await Counter.may_go_on.wait()
        return count

    async def slow_failure(self) -> int:
        await self.slow()
        raise LookupError("after all")

    async def fail(self) -> None:
        count = await self.increment()
        raise LookupError(count)

    async def take(self, value: Any) -> Any:
        await self.increment()
        return value

    async def unstorable(self) -> object:
        await self.increment()
        return durable.Response("no value")

    async def large(self) -> bytes:
        await self.increment()
        return bytes(3 << 20)

    async def to_itself(self, key: str) -> int:
        return await self.env.COUNTERS.get(self.ctx.id).call(Counter.to_itself, key, once=key)

    async def through(self, name: str, key: str) -> int:
        return await self.env.COUNTERS.get_by_name(name).call(Counter.increment, once=key)

    async def clear(self) -> None:
        self.ctx.storage.delete_all()

    async def ticks(self) -> AsyncIterator[int]:
        yield 1

    async def own(self, once: str) -> str:
        return once

    async def options(self, **options: Any) -> list[str]:
        return sorted(options)

    async def count(self) -> int:
        return await self.ctx.storage.get("n", 0)

    async def seen(self) -> tuple[list[str], int, list[str], list[str]]:
        storage = self.ctx.storage
        return (
            list(await storage.list()),
            await storage.count(),
            await storage.list(keys_only=True, reverse=True),
            list(storage.kv.list(start="n", limit=5)),
        )


async def test_a_repeated_call_gets_the_first_result(
    counters: durable.Namespace[Counter],
) -> None:
    """Its method does not run; other keys, and calls without one, do."""
    stub = counters.get_by_name("a")

    assert await stub.call(Counter.increment, 5, once="k") == 5
    assert await stub.call(Counter.increment, 5, once="k") == 5
    assert await stub.call(Counter.plain, once="other") == 6
    assert await stub.call(Counter.plain, once="other") == 6
    assert await stub.call(Counter.increment, once=None) == 7
    assert await counters.get_by_name("b").call(Counter.increment, 5, once="k") == 5
    assert await stub.call(Counter.take, {"a": [(1, {2})]}, once="value") == {"a": [(1, {2})]}
    assert await stub.call(Counter.take, {"a": [(1, {2})]}, once="value") == {"a": [(1, {2})]}
    assert await stub.count() == 8


async def test_it_is_remembered_when_the_object_has_left_memory(
    counters: durable.Namespace[Counter],
) -> None:
    """What is kept is on disk; no list and no count of the object's shows it."""
    stub = counters.get_by_name("a")
    await stub.call(Counter.increment, once="k")
    assert await stub.seen() == (["n"], 1, ["n"], ["n"])
    await durable.testing.evict(stub)

    assert await stub.call(Counter.increment, once="k") == 1
    assert await stub.seen() == (["n"], 1, ["n"], ["n"])
    assert await stub.count() == 1


async def test_a_call_whose_first_one_runs_waits_for_it(
    counters: durable.Namespace[Counter],
) -> None:
    """And shares its result; events that are none of these calls go on meanwhile."""
    Counter.may_go_on = anyio.Event()
    stub = counters.get_by_name("a")
    calls = [stub.call(Counter.slow, once="k") for _ in range(3)]

    assert await stub.count() == 1
    assert await stub.call(Counter.increment, once="other") == 2
    assert not any(call.is_done for call in calls)
    Counter.may_go_on.set()
    assert [await call for call in calls] == [1, 1, 1]
    assert await stub.count() == 2


async def test_a_call_that_failed_is_not_remembered(
    counters: durable.Namespace[Counter],
) -> None:
    """What it wrote before it raised stays, as that of any call; the next one runs."""
    stub = counters.get_by_name("a")
    for count in (1, 2):
        with pytest.raises(LookupError, match=str(count)):
            await stub.call(Counter.fail, once="k")

    assert await stub.call(Counter.increment, once="k") == 3


async def test_those_that_waited_for_a_call_that_fails_get_its_error(
    counters: durable.Namespace[Counter],
) -> None:
    Counter.may_go_on = anyio.Event()
    stub = counters.get_by_name("a")
    calls = [stub.call(Counter.slow_failure, once="k") for _ in range(3)]
    assert await stub.count() == 1
    Counter.may_go_on.set()

    for call in calls:
        with pytest.raises(LookupError, match="after all"):
            await call
    assert await stub.count() == 1


@pytest.mark.parametrize("runs", [True, False])
async def test_a_key_is_of_one_call(counters: durable.Namespace[Counter], runs: bool) -> None:
    """The same key with another method or other arguments is refused, and nothing is done."""
    Counter.may_go_on = anyio.Event()
    stub = counters.get_by_name("a")
    first = stub.call(Counter.slow, once="k")
    if not runs:
        Counter.may_go_on.set()
        await first

    with pytest.raises(durable.OnceConflict, match="'k' was given with another call of Counter"):
        await stub.call(Counter.plain, once="k")
    with pytest.raises(ValueError, match="a key of its own"):
        await stub.call(Counter.increment, 2, once="k")
    Counter.may_go_on.set()
    assert await first == 1
    assert await stub.count() == 1


async def test_equal_arguments_are_the_same_call(counters: durable.Namespace[Counter]) -> None:
    """Whatever the order of dicts and sets; values of different types are different."""
    stub = counters.get_by_name("a")
    friend = counters.get_by_name("friend")
    await stub.call(Counter.take, {"a": 1, "b": {"x", "y", "z"}}, once="k")
    await stub.call(Counter.take, {"b": {"z", "x", "y"}, "a": 1}, once="k")
    await stub.call(Counter.options, a=1, b=2, once="options")
    await stub.call(Counter.options, b=2, a=1, once="options")

    for other in ({"a": True, "b": {"x", "y", "z"}}, {"a": 1}, [{"a": 1}], None):
        with pytest.raises(durable.OnceConflict):
            await stub.call(Counter.take, other, once="k")
    assert await stub.count() == 1
    for value, wrong in ((stub.id, friend.id), ([], ([],)), ([[1], 2], [1, [2]])):
        key = repr(value)[:200]
        with pytest.raises(durable.ResultNotKept) if value is stub.id else nothing():
            await stub.call(Counter.take, value, once=key)
        with pytest.raises(durable.OnceConflict):
            await stub.call(Counter.take, wrong, once=key)


class nothing:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


@pytest.mark.parametrize("method", [Counter.unstorable, Counter.large])
async def test_a_result_that_cannot_be_kept_is_refused_and_the_call_not_repeated(
    counters: durable.Namespace[Counter], method: Any
) -> None:
    stub = counters.get_by_name("a")
    for _ in range(2):
        with pytest.raises(durable.ResultNotKept, match="was made, and is not made again"):
            await stub.call(method, once="k")

    assert await stub.count() == 1


async def test_what_cannot_be_called_once_is_refused_at_the_call(
    counters: durable.Namespace[Counter],
) -> None:
    """Before anything is done."""
    stub = counters.get_by_name("a")
    call: Any = stub.call
    with pytest.raises(TypeError, match="is an async generator"):
        call(Counter.ticks, once="k")
    with pytest.raises(TypeError, match="takes a str that names the call, not int"):
        call(Counter.increment, once=5)
    for key in ("", "k" * 256, "é" * 128):
        with pytest.raises(ValueError, match="1 to 255 bytes"):
            call(Counter.increment, once=key)
    with pytest.raises(ValueError, match="lone surrogate"):
        call(Counter.increment, once="\ud800")
    with pytest.raises(durable.UnstorableValue) as refused:
        call(Counter.take, print, once="k")
    assert "a repeated call" in refused.value.__notes__[0]
    assert await stub.count() == 0
    assert await stub.call(Counter.increment, once="é" * 127) == 1


async def test_a_method_with_a_parameter_once_gets_it(
    counters: durable.Namespace[Counter],
) -> None:
    """As it did before there was another meaning; attribute calls hand on every keyword."""
    stub = counters.get_by_name("a")

    assert await stub.call(Counter.own, once="mine") == "mine"
    assert await stub.options(once=1, a=2) == ["a", "once"]
    assert await stub.call(Counter.options, once="k", a=2) == ["a"]


async def test_a_result_is_kept_for_a_day(
    counters: durable.Namespace[Counter], clock: durable.testing.VirtualClock
) -> None:
    """By the runtime's clock; then the key is free."""
    stub = counters.get_by_name("a")
    for count in range(1, 4):
        assert await stub.call(Counter.increment, once="k") == count
        await clock.advance(DAY_S - 1)
        assert await stub.call(Counter.increment, once="k") == count
        await clock.advance(1)


async def test_a_clock_that_is_set_back_over_midnight_forgets_nothing(
    counters: durable.Namespace[Counter], clock: durable.testing.VirtualClock
) -> None:
    stub = counters.get_by_name("a")
    clock.set_wall_clock((clock.now() // DAY_S + 1) * DAY_S + 1)
    assert await stub.call(Counter.increment, once="k") == 1
    clock.set_wall_clock(clock.now() - 2)

    assert await stub.call(Counter.increment, once="k") == 1


async def test_what_is_too_old_is_freed_in_steps(
    counters: durable.Namespace[Counter], clock: durable.testing.VirtualClock
) -> None:
    """Each call that is kept frees some, so that no more is kept than was called in two days."""
    stub = counters.get_by_name("a")
    for number in range(FREED_AT_ONCE + 3):
        await stub.call(Counter.increment, once=f"old {number}")
    assert await kept(stub) == FREED_AT_ONCE + 3
    await clock.advance(2 * DAY_S)
    await stub.call(Counter.increment, once="new 1")
    assert await kept(stub) == 3 + 1
    await stub.call(Counter.increment, once="new 2")
    assert await kept(stub) == 2


async def kept(stub: durable.Stub[Counter]) -> int:
    def look(instance: Counter, ctx: durable.State) -> int:
        sides = ctx._activation.storage.sides
        return len(sides.scan(PREFIX, PREFIX + b"~", count_max=1_000))

    await durable.testing.evict(stub)
    return await durable.testing.run_in_object(stub, look)


async def test_delete_all_forgets_what_was_kept(counters: durable.Namespace[Counter]) -> None:
    """But not the call that has deleted, if that had a key; a deletion from outside leaves none."""
    stub = counters.get_by_name("a")
    await stub.call(Counter.increment, once="k")
    await stub.call(Counter.clear, once="clear")
    assert await stub.call(Counter.increment, once="k") == 1
    await stub.call(Counter.clear, once="clear")
    assert await stub.count() == 1
    await counters.delete(stub.id)

    assert [found async for found in counters.objects()] == []
    assert await stub.call(Counter.increment, once="k") == 1


async def test_the_result_is_in_the_batch_of_the_writes(
    counters: durable.Namespace[Counter], faults: durable.testing.Faults
) -> None:
    """A commit that fails takes both away: the call can be made again."""
    stub = counters.get_by_name("a")
    await stub.increment()
    faults.fail_commits()
    with pytest.raises(durable.CommitFailed):
        await stub.call(Counter.increment, once="k")
    faults.repair()

    stub = counters.get_by_name("a")
    assert await stub.call(Counter.increment, once="k") == 2
    assert await stub.call(Counter.increment, once="k") == 2


async def test_objects_call_each_other_once(counters: durable.Namespace[Counter]) -> None:
    stub = counters.get_by_name("a")
    assert await stub.through("b", "k") == 1
    assert await stub.through("b", "k") == 1


async def test_a_call_that_waits_for_itself_is_a_deadlock(
    counters: durable.Namespace[Counter],
) -> None:
    """It is said at once, and the key is free afterwards."""
    stub = counters.get_by_name("a")
    for _ in range(2):
        with pytest.raises(durable.Deadlock, match="once='k' leads to itself"):
            await stub.call(Counter.to_itself, "k", once="k")


class Shouting:
    """A codec of a program's own."""

    def encode(self, value: Any) -> bytes:
        return repr(value).upper().encode()

    def decode(self, encoded: bytes) -> Any:
        return eval(encoded.decode(), {})


async def test_a_codec_of_the_programs_own_writes_the_result(tmp_path: Path) -> None:
    """What the library keeps beside it is written as ever."""
    async with durable.open(tmp_path, bindings={"C": Counter}, codec=Shouting()) as runtime:
        stub = runtime.env.C.get_by_name("a")
        assert await stub.call(Counter.take, "ab", once="k") == "ab"
        assert await stub.call(Counter.take, "ab", once="k") == "AB"


async def test_debug_mode_and_observers_see_calls_as_ever(tmp_path: Path) -> None:
    events: list[Any] = []
    async with durable.open(
        tmp_path, bindings={"C": Counter}, debug=True, observer=events.append
    ) as runtime:
        stub = runtime.env.C.get_by_name("a")
        assert [await stub.call(Counter.increment, once="k") for _ in range(2)] == [1, 1]

    assert [event.method for event in events if isinstance(event, DeliveryEnded)] == [
        "increment",
        "increment",
    ]
