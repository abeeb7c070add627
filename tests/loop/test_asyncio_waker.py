"""What waits for an answer on asyncio waits as for a future, and goes on in the order of waking."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from durable._loop.asyncio_loop import AsyncioLoop

Body = Callable[[], Coroutine[Any, Any, None]]


@pytest.fixture(params=["asyncio", "python", "uvloop", "eager"])
def run(request: pytest.FixtureRequest) -> Callable[[Body], None]:
    """Runs a program on asyncio's tasks in C and in Python, on uvloop's loop, with eager tasks."""
    kind = request.param
    if kind == "eager" and sys.version_info < (3, 12):
        pytest.skip("tasks are eager from Python 3.12 on")
    if kind == "python" and sys.version_info >= (3, 14):
        pytest.skip("asyncio does not find its tasks in Python beside those in C")

    def run_it(body: Body) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            if kind == "python":
                task: Any = asyncio.tasks._PyTask  # type: ignore[attr-defined]
                loop.set_task_factory(lambda loop, coro, **options: task(coro, loop=loop))
            elif kind == "eager":
                loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
            await body()

        if kind == "uvloop":
            uvloop = pytest.importorskip("uvloop")
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(main())
        else:
            asyncio.run(main())

    return run_it


async def _rounds(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_tasks_go_on_in_the_order_in_which_they_are_woken(run: Callable[[Body], None]) -> None:
    async def body() -> None:
        loop = AsyncioLoop()
        wakers = [loop.waker() for _ in range(5)]
        order: list[int] = []

        async def wait(number: int) -> None:
            await wakers[number]
            order.append(number)

        tasks = [asyncio.ensure_future(wait(number)) for number in range(5)]
        await _rounds(2)
        for number in (3, 0, 4, 1, 2):
            wakers[number].wake()
            wakers[number].wake()  # has no effect
        assert order == []  # in the next round, and not within the code that wakes
        await asyncio.gather(*tasks)
        assert order == [3, 0, 4, 1, 2]

    run(body)


def test_a_waker_may_be_woken_before_its_task_waits(run: Callable[[Body], None]) -> None:
    async def body() -> None:
        waker = AsyncioLoop().waker()
        waker.wake()
        assert waker.done()
        await waker

    run(body)


def test_a_cancelled_wait_ends_with_the_message_of_the_cancellation(
    run: Callable[[Body], None],
) -> None:
    async def body() -> None:
        waker = AsyncioLoop().waker()
        caught: list[tuple[Any, ...]] = []

        async def wait() -> None:
            try:
                await waker
            except asyncio.CancelledError as error:
                caught.append(error.args)
                raise

        task = asyncio.ensure_future(wait())
        await _rounds(2)
        task.cancel("enough")
        waker.wake()  # too late
        with pytest.raises(asyncio.CancelledError):
            await task
        assert caught == [("enough",)]
        assert waker.done()

    run(body)


def test_a_task_that_is_cancelled_after_it_was_woken_is_cancelled(
    run: Callable[[Body], None],
) -> None:
    async def body() -> None:
        waker = AsyncioLoop().waker()

        async def wait() -> None:
            await waker

        task = asyncio.ensure_future(wait())
        await _rounds(2)
        waker.wake()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(body)


def test_a_time_out_ends_a_wait(run: Callable[[Body], None]) -> None:
    async def body() -> None:
        waker = AsyncioLoop().waker()

        async def wait() -> None:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await waker

        await asyncio.create_task(wait())

    run(body)


def test_in_a_callback_of_the_loop_those_that_were_woken_may_go_on_at_once(
    run: Callable[[Body], None],
) -> None:
    async def body() -> None:
        loop = AsyncioLoop()
        wakers = [loop.waker() for _ in range(3)]
        seen: list[str] = []

        async def wait(number: int) -> None:
            await wakers[number]
            seen.append(f"task {number}")

        def report(resume: Callable[[], None]) -> None:
            for waker in wakers[:2]:
                waker.wake()
            seen.append("before")
            resume()
            seen.append("after")
            resume()  # no task is left to go on
            wakers[2].wake()

        tasks = [asyncio.ensure_future(wait(number)) for number in range(3)]
        await _rounds(2)
        loop.call_soon(lambda: loop.letting_go_on(report))
        await asyncio.gather(*tasks)
        assert seen == ["before", "task 0", "task 1", "after", "task 2"]

    run(body)


def test_within_a_task_they_go_on_in_the_next_round(run: Callable[[Body], None]) -> None:
    async def body() -> None:
        loop = AsyncioLoop()
        waker = loop.waker()

        async def wait() -> None:
            await waker

        task = asyncio.ensure_future(wait())
        await _rounds(2)

        def report(resume: Callable[[], None]) -> None:
            waker.wake()
            resume()

        loop.letting_go_on(report)
        assert not task.done()
        await task

    run(body)


def test_a_task_that_ends_the_program_keeps_no_other_from_going_on() -> None:
    seen: list[str] = []

    async def body() -> None:
        loop = AsyncioLoop()
        wakers = [loop.waker() for _ in range(2)]

        async def end() -> None:
            await wakers[0]
            raise KeyboardInterrupt

        async def wait() -> None:
            await wakers[1]
            seen.append("went on")

        tasks = [asyncio.ensure_future(end()), asyncio.ensure_future(wait())]
        await _rounds(2)
        for waker in wakers:
            waker.wake()
        await asyncio.gather(*tasks, return_exceptions=True)

    with asyncio.Runner() as runner:
        with pytest.raises(KeyboardInterrupt):
            runner.run(body())
        runner.get_loop().run_until_complete(_rounds(3))
    assert seen == ["went on"]
