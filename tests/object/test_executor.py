"""The tasks that run deliveries: one may run those of many objects, and none of them notices."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import durable
import durable.testing

OBJECTS = 50
SPINNING: set[int] = set()
SCOPES: list[anyio.CancelScope] = []
WHO: ContextVar[str] = ContextVar("WHO", default="nobody")


class Worker(durable.DurableObject):
    """Does what its callers want to see done in the midst of others."""

    def __init__(self, ctx: durable.State, env: Any) -> None:
        super().__init__(ctx, env)
        self.door = anyio.Event()
        self.task: asyncio.Task[Any] | None = None

    async def add(self) -> int:
        self.ctx.storage.put("n", await self.ctx.storage.get("n", 0) + 1)
        return int(await self.ctx.storage.get("n"))

    async def wait_for(self, other: Any) -> str:
        await other()
        return "waited"

    async def open_door(self) -> None:
        self.door.set()

    async def wait_at_door(self) -> str:
        await self.door.wait()
        return "came in"

    async def name_of_caller(self) -> str:
        before = WHO.get()
        WHO.set("changed")
        await anyio.lowlevel.checkpoint()
        assert WHO.get() == "changed"
        return before

    async def cancel_own_task(self) -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return "done"

    async def take_back_a_cancellation(self) -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        task.uncancel()
        return "done"

    async def cancel_the_one_before(self) -> bool:
        before, self.task = self.task, asyncio.current_task()
        if before is None or before.done():
            return False
        return before.cancel()

    async def leave_scope_open(self) -> None:
        scope = anyio.CancelScope()
        scope.__enter__()
        SCOPES.append(scope)

    async def cancel_own_task_and_wait(self) -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel("by itself")
        try:
            await self.door.wait()
        except asyncio.CancelledError as cancelled:
            task.uncancel()
            return str(cancelled)
        return "not cancelled"

    async def keep_task(self, *, waits: bool) -> None:
        self.task = asyncio.current_task()
        if waits:
            await anyio.sleep(0)

    async def task_is_over(self) -> bool:
        assert self.task is not None
        return self.task.done()

    async def time_out(self) -> str:
        task = anyio.get_current_task().id
        try:
            with anyio.fail_after(0.001):
                await self.door.wait()
        except TimeoutError:
            assert anyio.get_current_task().id == task
            return "timed out"
        return "came in"

    async def reach(self, depth: int) -> int:
        if not depth:
            return 0
        following = self.env["WORKERS"].get_by_name(f"at {depth}")
        return 1 + int(await following.reach(depth - 1))

    async def give_up(self) -> None:
        self.ctx.abort("enough")

    async def spin(self, rounds: int) -> int:
        task = anyio.get_current_task().id
        assert task not in SPINNING
        SPINNING.add(task)
        for _ in range(rounds):
            await anyio.lowlevel.checkpoint()
            assert anyio.get_current_task().id == task
        SPINNING.discard(task)
        return rounds


async def all_of(calls: list[Any]) -> list[Any]:
    answers: list[Any] = [None] * len(calls)

    async def hear(place: int) -> None:
        try:
            answers[place] = await calls[place]
        except durable.DurableError as error:
            answers[place] = type(error)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            for place in range(len(calls)):
                tasks.start_soon(hear, place)
    return answers


def workers(runtime: durable.Runtime) -> list[Any]:
    return [runtime.namespace(Worker).get_by_name(str(n)) for n in range(OBJECTS)]


async def test_calls_of_many_objects_at_once_are_all_served(runtime: durable.Runtime) -> None:
    """Each of them by itself, twice, durably."""
    stubs = workers(runtime)

    assert await all_of([stub.add() for stub in stubs]) == [1] * OBJECTS
    assert await all_of([stub.add() for stub in stubs]) == [2] * OBJECTS


async def test_who_waits_for_an_object_that_is_called_later_is_not_stuck(
    runtime: durable.Runtime,
) -> None:
    """Deliveries that wait have tasks of their own."""
    stubs = workers(runtime)
    waiting = [stub.wait_at_door() for stub in stubs[:10]]
    function = [stubs[10].wait_for(stubs[40].add)]
    opening = [stub.open_door() for stub in stubs[:10]]

    assert await all_of(waiting + function + opening) == ["came in"] * 10 + ["waited"] + [None] * 10


async def test_each_delivery_has_the_context_of_its_own_caller(runtime: durable.Runtime) -> None:
    """What a handler sets in it is seen by no other, in whatever task it runs."""
    calls = []
    for number, stub in enumerate(workers(runtime)):
        token = WHO.set(f"caller {number}")
        calls.append(stub.name_of_caller())
        WHO.reset(token)

    assert await all_of(calls) == [f"caller {number}" for number in range(OBJECTS)]
    assert WHO.get() == "nobody"


async def test_a_task_runs_one_delivery_at_a_time(runtime: durable.Runtime) -> None:
    """Of deliveries that are under way together each has a task of its own."""
    assert await all_of([stub.spin(5) for stub in workers(runtime)]) == [5] * OBJECTS


async def test_an_object_that_aborts_takes_no_other_along(runtime: durable.Runtime) -> None:
    """Those that are called after it are served."""
    stubs = workers(runtime)
    calls = [stub.give_up() if n % 5 == 2 else stub.add() for n, stub in enumerate(stubs)]

    expected = [durable.ObjectAborted if n % 5 == 2 else 1 for n in range(OBJECTS)]
    assert await all_of(calls) == expected


@pytest.mark.backends("asyncio", "uvloop")
async def test_a_handler_that_cancels_its_own_task_cancels_no_other(
    runtime: durable.Runtime,
) -> None:
    """The cancellation ends with the delivery."""
    stubs = workers(runtime)
    calls = [stub.cancel_own_task() if n == 3 else stub.add() for n, stub in enumerate(stubs)]

    assert await all_of(calls) == [*[1] * 3, "done", *[1] * (OBJECTS - 4)]


@pytest.mark.backends("asyncio", "uvloop")
async def test_calls_are_served_although_somebody_cancelled_a_task_before_it_began(
    runtime: durable.Runtime,
) -> None:
    """A program that cancels all tasks it finds loses at most the delivery that one was for."""
    stubs = workers(runtime)
    await all_of([stub.add() for stub in stubs])
    first = stubs[0].add()
    for task in asyncio.all_tasks():
        if task is not asyncio.current_task() and task.get_name() == "add":
            task.cancel()

    assert await all_of([stub.add() for stub in stubs[1:]]) == [2] * (OBJECTS - 1)
    await durable.testing.abort_all(runtime)
    assert await all_of([first]) in ([durable.ObjectReset], [2])  # that one began at once


@pytest.mark.backends("asyncio", "uvloop")
async def test_a_cancellation_that_was_taken_back_meets_no_other(runtime: durable.Runtime) -> None:
    """Not even on a Python that tells the task of it all the same."""
    stubs = workers(runtime)
    calls = [stubs[0].take_back_a_cancellation(), *[stub.spin(2) for stub in stubs[1:]]]

    assert durable.ObjectReset not in await all_of(calls)


async def test_a_scope_that_a_handler_leaves_open_has_no_other_in_it(
    runtime: durable.Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    """Cancelled later, by its deadline perhaps, it cancels nobody else's work."""
    stubs = workers(runtime)
    waiting = [stub.wait_at_door() for stub in stubs[1:]]
    answers: list[Any] = []

    async def hear() -> None:
        answers.extend(await all_of([stubs[0].leave_scope_open(), *waiting]))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hear)
        await all_of([stub.spin(1) for stub in stubs[1:]])
        SCOPES.pop().cancel()
        await all_of([stub.spin(1) for stub in stubs[1:]])
        await all_of([stub.open_door() for stub in stubs[1:]])

    assert answers == [None] + ["came in"] * (OBJECTS - 1)


@pytest.mark.backends("asyncio", "uvloop")
async def test_a_task_that_an_object_has_kept_serves_no_other(runtime: durable.Runtime) -> None:
    """Who cancels the task of an earlier call, which is over, cancels nothing."""
    stubs = workers(runtime)
    waiting = [stub.wait_at_door() for stub in stubs[1:]]
    answers: list[Any] = []

    async def hear() -> None:
        answers.extend(await all_of([stubs[0].cancel_the_one_before(), *waiting]))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hear)
        await all_of([stub.spin(1) for stub in stubs[1:]])
        in_line = [stubs[0].cancel_the_one_before() for _ in range(5)]
        assert await all_of(in_line) == [False] * 5
        await all_of([stub.open_door() for stub in stubs[1:]])

    assert answers == [False] + ["came in"] * (OBJECTS - 1)


@pytest.mark.backends("asyncio", "uvloop")
@pytest.mark.parametrize("waits", [False, True])
async def test_a_task_that_an_object_has_kept_ends_with_its_delivery(
    runtime: durable.Runtime, waits: bool
) -> None:
    """So it can be awaited, as the task of a program's own."""
    stub = workers(runtime)[0]
    await all_of([stub.keep_task(waits=waits)])

    assert await stub.task_is_over()


@pytest.mark.backends("asyncio", "uvloop")
async def test_a_handler_that_cancels_its_own_task_hears_of_it_where_it_waits(
    runtime: durable.Runtime,
) -> None:
    """As a task does that asyncio runs from the first step on."""
    stubs = workers(runtime)

    answers = await all_of([stub.cancel_own_task_and_wait() for stub in stubs])

    assert answers == ["by itself"] * OBJECTS
    assert await all_of([stub.add() for stub in stubs]) == [1] * OBJECTS


async def test_time_outs_know_the_task_from_its_first_step_on(runtime: durable.Runtime) -> None:
    """The task of the first step goes on when the handler waits."""
    assert await all_of([stub.time_out() for stub in workers(runtime)]) == ["timed out"] * OBJECTS


async def test_a_program_that_only_calls_lets_others_have_their_turn(
    runtime: durable.Runtime,
) -> None:
    """Although no call of it would have to wait."""
    stub = workers(runtime)[0]
    is_over = False
    rounds = 0

    async def count_rounds() -> None:
        nonlocal rounds
        while not is_over:
            await anyio.lowlevel.checkpoint()
            rounds += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(count_rounds)
        await anyio.lowlevel.checkpoint()
        for _ in range(2_000):
            await stub.open_door()
        is_over = True

    assert rounds >= 20


async def test_a_program_that_awaits_no_call_lets_the_later_ones_wait(
    runtime: durable.Runtime,
) -> None:
    """All of them are served, in the order in which they were made."""
    stub = workers(runtime)[0]
    calls = [stub.add() for _ in range(1_000)]

    assert not calls[-1].is_done
    assert await all_of(calls) == list(range(1, 1_001))


async def test_objects_may_call_each_other_in_a_long_chain(tmp_path: Path) -> None:
    """Calls within calls are not nested deeper than Python can bear."""
    bindings = {"WORKERS": Worker}
    async with durable.testing.open(tmp_path / "store", bindings=bindings) as runtime:
        first: Any = runtime.namespace(Worker).get_by_name("first")

        assert await first.reach(300) == 300


@pytest.mark.backends("asyncio", "uvloop")
async def test_a_program_that_cancels_all_tasks_can_go_on_calling(
    runtime: durable.Runtime,
) -> None:
    """The tasks that are ready for the next calls are among them."""
    stubs = workers(runtime)
    await all_of([stub.spin(1) for stub in stubs])
    cancelled = [task for task in asyncio.all_tasks() if task.get_name().startswith("durable")]
    for task in cancelled:
        task.cancel()

    assert cancelled
    assert await all_of([stub.add() for stub in stubs]) == [1] * OBJECTS


@pytest.mark.backends("asyncio")
async def test_who_waits_for_all_tasks_to_be_blocked_waits_for_calls_that_have_not_begun(
    runtime: durable.Runtime,
) -> None:
    """Where there was no task for them yet, too."""
    stubs = workers(runtime)
    calls = [stub.wait_at_door() for stub in stubs]
    await anyio.wait_all_tasks_blocked()
    await all_of([stub.open_door() for stub in stubs])

    assert await all_of(calls) == ["came in"] * OBJECTS


@pytest.mark.backends("asyncio", "uvloop")
async def test_few_tasks_are_kept_when_many_calls_are_over(runtime: durable.Runtime) -> None:
    """They are for calls to come, and cost memory."""
    stubs = [runtime.namespace(Worker).get_by_name(f"one of many {n}") for n in range(300)]
    waiting = [stub.wait_at_door() for stub in stubs]
    await all_of([stub.open_door() for stub in stubs])
    await all_of(waiting)
    await all_of([stub.spin(1) for stub in stubs])

    assert len(asyncio.all_tasks()) < 100
