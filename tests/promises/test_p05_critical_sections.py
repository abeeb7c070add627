"""P5: from the call of `block_concurrency_while` nothing else is delivered until it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import durable
import durable.testing

from .conftest import Start, Store

DOORS: dict[str, anyio.Event] = {}
LOG: list[Any] = []


@pytest.fixture(autouse=True)
def fresh() -> None:
    DOORS.clear()
    DOORS.update(door=anyio.Event(), other=anyio.Event())
    LOG.clear()


class Worker(durable.DurableObject):
    """Has critical sections of many kinds."""

    async def section(self) -> str:
        async def fn() -> str:
            LOG.append("inside")
            await DOORS["door"].wait()
            LOG.append("end")
            return "result"

        LOG.append("call")
        answer = self.ctx.block_concurrency_while(fn)
        LOG.append("called")
        result = await answer
        LOG.append("after")
        return result

    async def section_unawaited(self) -> None:
        async def fn() -> None:
            LOG.append("inside")
            await DOORS["door"].wait()
            LOG.append("end")

        self.ctx.block_concurrency_while(fn)
        LOG.append("returned")

    async def section_awaited_late(self) -> None:
        async def fn() -> None:
            LOG.append("inside")
            await DOORS["door"].wait()
            LOG.append("end")

        answer = self.ctx.block_concurrency_while(fn)
        await DOORS["other"].wait()
        LOG.append("between")
        await answer
        LOG.append("after")

    async def two_sections(self) -> list[str]:
        async def fn(name: str) -> str:
            LOG.append(f"{name} begins")
            await anyio.sleep(0.001)
            LOG.append(f"{name} ends")
            return name

        first = self.ctx.block_concurrency_while(lambda: fn("first"))
        second = self.ctx.block_concurrency_while(lambda: fn("second"))
        return [await first, await second]

    async def nested(self, depth: int) -> int:
        async def fn(left: int) -> int:
            if not left:
                return 0
            await anyio.sleep(0)
            return 1 + await self.ctx.block_concurrency_while(lambda: fn(left - 1))

        return await fn(depth)

    async def nested_and_pending(self) -> None:
        async def inner() -> None:
            LOG.append("inner begins")
            await anyio.sleep(0.001)
            LOG.append("inner ends")

        async def outer() -> None:
            LOG.append("outer begins")
            await self.ctx.block_concurrency_while(inner)
            await anyio.sleep(0.001)
            LOG.append("outer ends")

        async def second() -> None:
            LOG.append("second")

        answers = [
            self.ctx.block_concurrency_while(outer),
            self.ctx.block_concurrency_while(second),
        ]
        for answer in answers:
            await answer

    async def outer_ends_first(self) -> None:
        async def inner() -> None:
            LOG.append("inner begins")
            await DOORS["door"].wait()
            LOG.append("inner ends")

        async def outer() -> None:
            self.ctx.block_concurrency_while(inner)
            LOG.append("outer ends")

        await self.ctx.block_concurrency_while(outer)
        LOG.append("after outer")

    async def with_tasks(self) -> list[int]:
        """What a section starts itself is delivered in it."""

        async def child(results: list[int], number: int) -> None:
            await anyio.sleep(0.001)
            self.ctx.storage.put(f"child {number}", number)
            results.append(number)

        async def fn() -> list[int]:
            results: list[int] = []
            async with anyio.create_task_group() as tasks:
                for number in range(5):
                    tasks.start_soon(child, results, number)
            return sorted(results)

        return await self.ctx.block_concurrency_while(fn)

    async def calls_another(self, other: durable.Stub[Worker]) -> str:
        async def fn() -> str:
            return await other.visit("other")

        return await self.ctx.block_concurrency_while(fn)

    async def throws(self) -> None:
        async def fn() -> None:
            await anyio.sleep(0.001)
            self.ctx.storage.put("written inside", 1)
            raise LookupError("from inside")

        self.ctx.storage.put("written before", 1)
        await anyio.sleep(0.001)
        try:
            await self.ctx.block_concurrency_while(fn)
        except BaseException:
            LOG.append("caught")  # never: it is not resumed
            raise
        finally:
            LOG.append("finally")

    async def catches_inside(self) -> str:
        async def fn() -> str:
            try:
                await anyio.sleep(0)
                raise LookupError("from inside")
            except LookupError:
                return "caught"

        return await self.ctx.block_concurrency_while(fn)

    async def hangs(self) -> None:
        await self.ctx.block_concurrency_while(anyio.sleep_forever)
        LOG.append("after")

    async def sleeps(self) -> str:
        """Waits a little less than it may."""

        async def fn() -> str:
            await DOORS["door"].wait()
            return "in time"

        return await self.ctx.block_concurrency_while(fn)

    async def too_deep(self, depth: int) -> str:
        async def fn(left: int) -> str:
            if left:
                return await self.ctx.block_concurrency_while(lambda: fn(left - 1))
            try:
                self.ctx.block_concurrency_while(lambda: fn(0))
            except durable.DurableError as error:
                return str(error)
            return "deep enough"

        return await self.ctx.block_concurrency_while(lambda: fn(depth))

    async def wait(self) -> str:
        await DOORS["other"].wait()
        LOG.append("waited")
        return "waited"

    async def visit(self, name: str = "visit") -> str:
        LOG.append(name)
        return name

    async def fetch(self, request: durable.Request) -> durable.Response:
        LOG.append("fetch")
        return durable.Response()

    async def alarm(self) -> None:
        LOG.append("alarm")

    async def calls_in_a_circle(self, other: durable.Stub[Worker]) -> str:
        async def fn() -> str:
            return await other.calls(self.env.WORKER.get_by_name("a"))

        return await self.ctx.block_concurrency_while(fn)

    async def calls(self, other: durable.Stub[Worker]) -> str:
        return await other.visit()

    async def calls_itself(self) -> str:
        async def fn() -> str:
            return await self.env.WORKER.get_by_name("a").visit()

        return await self.ctx.block_concurrency_while(fn)

    async def leaves_work(self, how: str) -> None:
        """Begins work in a section of some kind, and does not await it there."""

        async def work() -> None:
            await DOORS["door"].wait()
            LOG.append("work done")

        async def section(*_: object) -> None:
            self.ctx.wait_until(work())

        async def nested() -> None:
            await self.ctx.block_concurrency_while(section)

        if how == "transaction":
            await self.ctx.storage.transaction(section)
        else:
            await self.ctx.block_concurrency_while(nested if how == "nested" else section)
        LOG.append("after")

    async def overtakes_nothing(self, how: str) -> None:
        """A sibling task has what it waited for before a call came, or after."""

        async def section(*_: object) -> None:
            await DOORS["door"].wait()

        async def awaits() -> None:
            if how == "transaction":
                await self.ctx.storage.transaction(section)
            else:
                await self.ctx.block_concurrency_while(section)
            LOG.append("after")

        async def sibling() -> None:
            await DOORS["other"].wait()
            LOG.append("sibling")

        async def both() -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(sibling)
                tasks.start_soon(awaits)

        await (self.ctx.block_concurrency_while(both) if how == "nested" else both())

    async def stored(self) -> dict[str, Any]:
        return await self.ctx.storage.list()


@pytest.fixture
async def worker(store: Store) -> Any:
    async with store.open(bindings={"WORKER": Worker}) as runtime:
        stub = runtime.namespace(Worker).get_by_name("a")
        await stub.visit()
        LOG.clear()
        yield stub


async def test_nothing_is_delivered_from_the_call_until_the_end(
    store: Store, worker: durable.Stub[Worker], start: Start[Any]
) -> None:
    """No event of any kind, though the section waits on the outside."""
    await durable.testing.run_in_object(
        worker, lambda _, ctx: ctx.storage.set_alarm(store.clock.now() + 1)
    )
    section = start(worker.section())
    await store.settle()
    calls = [start(worker.visit()), start(worker.fetch("https://a/"))]
    await store.clock.advance(2)

    assert LOG == ["call", "called", "inside"]

    DOORS["door"].set()
    assert await section.result() == "result"
    for call in calls:
        await call.result()
    await store.settle()
    assert LOG == ["call", "called", "inside", "end", "after", "visit", "fetch", "alarm"]


async def test_no_other_handler_is_resumed_within_a_section(
    store: Store, worker: durable.Stub[Worker], start: Start[Any]
) -> None:
    """What it waited for has come, and it waits on; after the section's awaiter it goes on."""
    waiting = start(worker.wait())
    await store.settle()
    section = start(worker.section())
    await store.settle()
    DOORS["other"].set()
    await store.settle()

    assert LOG == ["call", "called", "inside"]

    DOORS["door"].set()
    await section.result()
    await waiting.result()
    assert LOG[3:] == ["end", "after", "waited"]


async def test_a_section_that_nobody_awaits_blocks_all_the_same(
    store: Store, worker: durable.Stub[Worker], start: Start[Any]
) -> None:
    """The handler may even have returned."""
    await worker.section_unawaited()
    visit = start(worker.visit())
    await store.settle()

    assert LOG == ["returned", "inside"]

    DOORS["door"].set()
    await visit.result()
    assert LOG == ["returned", "inside", "end", "visit"]


async def test_the_code_that_made_the_section_waits_for_its_end_too(
    store: Store, worker: durable.Stub[Worker], start: Start[Any]
) -> None:
    """If it waits for something else first, that is not delivered to it before."""
    call = start(worker.section_awaited_late())
    await store.settle()
    DOORS["other"].set()
    await store.settle()

    assert LOG == ["inside"]

    DOORS["door"].set()
    await call.result()
    assert LOG == ["inside", "end", "between", "after"]


async def test_sections_of_one_turn_run_one_after_the_other(
    store: Store, worker: durable.Stub[Worker], start: Start[Any]
) -> None:
    """In the order of the calls, and both before any other event."""
    call = start(worker.two_sections())
    visit = start(worker.visit())

    assert await call.result() == ["first", "second"]
    await visit.result()
    assert LOG == ["first begins", "first ends", "second begins", "second ends", "visit"]


@pytest.mark.parametrize("depth", [1, 2, 10, 64])
async def test_sections_nest(worker: durable.Stub[Worker], depth: int) -> None:
    """Up to the limit of 64."""
    assert await worker.nested(depth) == depth


async def test_a_nested_section_comes_before_one_that_waits(
    worker: durable.Stub[Worker],
) -> None:
    """The outer section ends, inner ones included, before the next begins."""
    await worker.nested_and_pending()

    assert LOG == ["outer begins", "inner begins", "inner ends", "outer ends", "second"]


async def test_the_gate_stays_shut_until_the_inner_section_ends(
    store: Store, worker: durable.Stub[Worker], start: Start[Any]
) -> None:
    """Though the outer one has ended without awaiting it."""
    start(worker.outer_ends_first())
    visit = start(worker.visit())
    await store.settle()

    assert "visit" not in LOG
    assert "inner begins" in LOG

    DOORS["door"].set()
    await visit.result()
    assert LOG.index("inner ends") < LOG.index("visit")


@pytest.mark.parametrize("how", ["section", "transaction", "nested"])
async def test_what_a_section_left_running_keeps_nothing_out(
    store: Store, how: str, start: Start[Any]
) -> None:
    """When its function has ended the section is over, and so are its limits."""
    limits = durable.Limits(critical_section_s_max=1)
    async with store.open(bindings={"WORKER": Worker}, limits=limits) as runtime:
        worker = runtime.namespace(Worker).get_by_name("a")
        await worker.leaves_work(how)
        await worker.visit()
        await store.clock.advance(2)
        await worker.visit("later")

        assert LOG == ["after", "visit", "later"]

        DOORS["door"].set()
        await store.settle()
        assert LOG == ["after", "visit", "later", "work done"]


async def test_what_a_section_of_the_constructor_left_running_keeps_nothing_out(
    store: Store,
) -> None:
    """The code around it has ended; the work goes on beside the calls."""

    class Built(durable.DurableObject):
        def __init__(self, ctx: durable.State, env: Any) -> None:
            super().__init__(ctx, env)
            ctx.block_concurrency_while(self._begin)

        async def _begin(self) -> None:
            self.ctx.wait_until(self._work())

        async def _work(self) -> None:
            await DOORS["door"].wait()
            LOG.append("work done")

        async def visit(self) -> None:
            LOG.append("visit")

    async with store.open(bindings={"BUILT": Built}) as runtime:
        built = runtime.namespace(Built).get_by_name("a")
        await built.visit()
        DOORS["door"].set()
        await store.settle()
        await built.visit()

    assert LOG == ["visit", "work done", "visit"]


async def test_what_a_section_left_running_belongs_to_the_code_around_it(
    store: Store, worker: durable.Stub[Worker], start: Start[Any]
) -> None:
    """Which may await it, fanning out over the storage: nobody else is let in meanwhile (P4)."""

    async def run(_: Any, ctx: durable.State) -> None:
        done = anyio.Event()

        async def work() -> None:
            for number in range(3):
                await anyio.lowlevel.checkpoint()
                ctx.storage.put("n", number)
                assert await ctx.storage.get("n") == number
            LOG.append("work done")
            done.set()

        async def section() -> None:
            await DOORS["door"].wait()
            ctx.wait_until(work())

        await ctx.block_concurrency_while(section)
        await done.wait()
        LOG.append("after")

    call = start(durable.testing.run_in_object(worker, run))
    await store.settle()
    visit = start(worker.visit())
    await store.settle()
    DOORS["door"].set()
    await call.result()
    await visit.result()

    assert LOG == ["work done", "after", "visit"]


@pytest.mark.parametrize("how", ["section", "transaction"])
async def test_a_call_is_not_overtaken_by_work_of_the_section_s_delivery(
    store: Store, worker: durable.Stub[Worker], start: Start[Any], how: str
) -> None:
    """It waited longer than the sibling task; only what awaits the section goes before it."""
    call = start(worker.overtakes_nothing(how))
    await store.settle()
    visit = start(worker.visit())
    await store.settle()
    DOORS["other"].set()
    await store.settle()
    DOORS["door"].set()
    await call.result()
    await visit.result()

    assert LOG == ["after", "visit", "sibling"]


@pytest.mark.parametrize("how", ["section", "nested"])
async def test_the_code_that_awaits_a_section_goes_on_before_its_siblings(
    store: Store, worker: durable.Stub[Worker], start: Start[Any], how: str
) -> None:
    """Nested or not, though they have waited longer."""
    call = start(worker.overtakes_nothing(how))
    await store.settle()
    DOORS["other"].set()
    await store.settle()
    visit = start(worker.visit())
    await store.settle()
    DOORS["door"].set()
    await call.result()
    await visit.result()

    assert LOG == ["after", "sibling", "visit"]


async def test_the_code_that_awaits_a_section_goes_on_before_the_next_section(
    worker: durable.Stub[Worker],
) -> None:
    """Which the same turn has begun."""

    async def run(_: Any, ctx: durable.State) -> None:
        async def fn(name: str) -> None:
            await anyio.sleep(0)
            LOG.append(name)

        first = ctx.block_concurrency_while(lambda: fn("first"))
        second = ctx.block_concurrency_while(lambda: fn("second"))
        await first
        LOG.append("after first")
        await second

    await durable.testing.run_in_object(worker, run)

    assert LOG == ["first", "after first", "second"]


async def test_too_deep_a_nesting_is_refused_at_the_call(worker: durable.Stub[Worker]) -> None:
    """And does no other harm."""
    assert "nested too deeply" in await worker.too_deep(63)
    assert await worker.visit() == "visit"


async def test_what_a_section_starts_itself_is_delivered(worker: durable.Stub[Worker]) -> None:
    """Its tasks and its calls to other objects, and whatever they wait for."""
    assert await worker.with_tasks() == [0, 1, 2, 3, 4]
    assert await worker.stored() == {f"child {number}": number for number in range(5)}


async def test_a_section_may_call_other_objects(
    runtime: durable.Runtime,
) -> None:
    """Their answers come in."""
    workers = runtime.namespace(Worker)
    assert await workers.get_by_name("a").calls_another(workers.get_by_name("b")) == "other"


async def test_a_throw_resets_the_object(
    store: Store, worker: durable.Stub[Worker], start: Start[Any]
) -> None:
    """Its callers get the error as a reset; no code of the old instance is resumed."""
    waiting = start(worker.wait())
    await store.settle()
    throwing = start(worker.throws())

    for call in (throwing, waiting):
        with pytest.raises(LookupError, match="from inside") as caught:
            await call.result()
        assert isinstance(caught.value, durable.ObjectReset)
        assert caught.value.reset
    DOORS["other"].set()
    await store.settle()
    assert "waited" not in LOG


async def test_a_throw_drops_what_the_section_wrote(
    store: Store, runtime: durable.Runtime, start: Start[Any]
) -> None:
    """And keeps what was sealed before it."""
    workers = runtime.namespace(Worker)
    with pytest.raises(LookupError):
        await workers.get_by_name("a").throws()

    assert await workers.get_by_name("a").stored() == {"written before": 1}


async def test_an_exception_caught_inside_is_harmless(worker: durable.Stub[Worker]) -> None:
    """Only what leaves the section resets."""
    assert await worker.catches_inside() == "caught"
    assert await worker.visit() == "visit"


async def test_thirty_seconds_reset_the_object(
    store: Store, worker: durable.Stub[Worker], start: Start[Any]
) -> None:
    """Measured from when the section began."""
    call = start(worker.hangs())
    visit = start(worker.visit())
    await store.settle()
    await store.clock.advance(29)
    assert not call.done

    await store.clock.advance(1.5)
    for waiting in (call, visit):
        with pytest.raises(durable.ObjectReset, match="waited for too long") as caught:
            await waiting.result()
        assert caught.value.overloaded
    assert LOG == []


async def test_a_section_that_ends_in_time_is_not_reset(
    store: Store, worker: durable.Stub[Worker], start: Start[Any]
) -> None:
    """Nor is its object later, when the limit would have passed."""
    call = start(worker.sleeps())
    await store.clock.advance(29)
    DOORS["door"].set()
    assert await call.result() == "in time"

    await store.clock.advance(5)
    assert await worker.visit() == "visit"


async def test_the_limit_of_a_nested_section_is_its_own(
    store: Store, worker: durable.Stub[Worker], start: Start[Any]
) -> None:
    """The outer one's time runs on meanwhile."""

    async def outer(_: Any, ctx: durable.State) -> None:
        async def inner() -> None:
            await DOORS["door"].wait()

        async def wait_then_nest() -> None:
            await DOORS["other"].wait()
            await ctx.block_concurrency_while(inner)

        await ctx.block_concurrency_while(wait_then_nest)

    call = start(durable.testing.run_in_object(worker, outer))
    await store.clock.advance(20)
    DOORS["other"].set()
    await store.clock.advance(9)
    assert not call.done
    await store.clock.advance(2)
    with pytest.raises(durable.ObjectReset):
        await call.result()


async def test_only_a_function_is_taken(worker: durable.Stub[Worker]) -> None:
    """A coroutine that was made already would not be closed by us."""
    coroutines: list[Any] = []

    def call(_: Any, ctx: durable.State) -> None:
        coroutines.append(anyio.sleep(0))
        with pytest.raises(TypeError, match="async function"):
            ctx.block_concurrency_while(coroutines[0])

    await durable.testing.run_in_object(worker, call)
    coroutines[0].close()


async def test_a_call_in_a_circle_is_an_error_that_names_the_chain(
    worker: durable.Stub[Worker],
) -> None:
    """Instead of a silent deadlock: nobody in it could ever go on."""
    with pytest.raises(durable.Deadlock, match=r"Worker\('a'\) -> Worker\('a'\)") as caught:
        await worker.calls_itself()

    assert caught.value.chain == (str(worker.id), str(worker.id))


async def test_a_longer_circle_is_an_error_that_names_the_chain(store: Store) -> None:
    """Through another object."""
    async with store.open(bindings={"WORKER": Worker}) as runtime:
        a, b = (runtime.namespace(Worker).get_by_name(name) for name in "ab")
        with pytest.raises(
            durable.Deadlock, match=r"Worker\('a'\) -> Worker\('b'\) -> Worker\('a'\)"
        ) as caught:
            await a.calls_in_a_circle(b)

        assert caught.value.chain == (str(a.id), str(b.id), str(a.id))
        assert await runtime.namespace(Worker).get_by_name("b").visit() == "visit"


async def test_a_cancelled_caller_leaves_the_section_running(
    store: Store, worker: durable.Stub[Worker], start: Start[Any]
) -> None:
    """The section runs to its end, and then others are let in (P17)."""
    call = start(worker.section())
    await store.settle()
    call.scope.cancel()
    await store.settle()
    assert call.done
    visit = start(worker.visit())
    await store.settle()
    assert "visit" not in LOG

    DOORS["door"].set()
    await visit.result()
    assert LOG == ["call", "called", "inside", "end", "after", "visit"]


@pytest.mark.backends("asyncio", "uvloop")
async def test_a_section_may_be_gathered_with_others(worker: durable.Stub[Worker]) -> None:
    """Its answer is an awaitable like others, which tasks take."""

    async def gathered(_: Any, ctx: durable.State) -> list[Any]:
        async def fn(number: int) -> int:
            await asyncio.sleep(0)
            return number

        def section(number: int) -> Awaitable[int]:
            return ctx.block_concurrency_while(lambda: fn(number))

        return await asyncio.gather(*[section(number) for number in range(3)])

    assert await durable.testing.run_in_object(worker, gathered) == [0, 1, 2]


async def test_sections_inside_tasks_of_a_section_take_turns(
    worker: durable.Stub[Worker],
) -> None:
    """Each waits until the one before has ended."""

    async def run(_: Any, ctx: durable.State) -> None:
        async def fn(number: int) -> None:
            LOG.append((number, "begins"))
            await anyio.sleep(0.001)
            LOG.append((number, "ends"))

        async def section(number: int) -> None:
            await ctx.block_concurrency_while(lambda: fn(number))

        async def outer() -> None:
            async with anyio.create_task_group() as tasks:
                for number in range(3):
                    tasks.start_soon(section, number)

        await ctx.block_concurrency_while(outer)

    await durable.testing.run_in_object(worker, run)

    assert len(LOG) == 6
    assert [LOG[n][0] for n in (0, 2, 4)] == [LOG[n][0] for n in (1, 3, 5)]
