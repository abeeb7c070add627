"""What the test kit waits for: until nothing more happens, and not for longer than that."""

from __future__ import annotations

import asyncio

import pytest

from durable.testing import settling

pytestmark = pytest.mark.backends("asyncio")


def is_idle() -> bool:
    return False


async def rounds_of_settling(monkeypatch: pytest.MonkeyPatch) -> int:
    rounds = 0
    sleep = asyncio.sleep

    async def counted(delay: float) -> None:
        nonlocal rounds
        rounds += 1
        await sleep(delay)

    with monkeypatch.context() as patched:
        patched.setattr(settling.asyncio, "sleep", counted)
        await settling.settle(is_idle)
    return rounds


async def test_a_program_that_stands_still_is_seen_to_do_so_within_a_few_rounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A task that looks each millisecond whether something is so does not keep time from going."""
    assert await rounds_of_settling(monkeypatch) <= 4


async def test_a_chain_of_callbacks_is_waited_for_however_long_it_is_in_rounds() -> None:
    loop = asyncio.get_running_loop()
    done = []

    def go_on(left: int) -> None:
        if left:
            loop.call_soon(go_on, left - 1)
        else:
            done.append("the last")

    go_on(settling.QUIET_ROUNDS - 10)
    await settling.settle(is_idle)
    assert done == ["the last"]


async def test_a_callback_that_calls_itself_for_ever_is_not_waited_for() -> None:
    loop = asyncio.get_running_loop()
    is_over = False

    def go_on() -> None:
        if not is_over:
            loop.call_soon(go_on)

    go_on()
    await settling.settle(is_idle)
    is_over = True


async def test_two_that_settle_do_not_wait_for_each_other() -> None:
    await asyncio.wait_for(
        asyncio.gather(settling.settle(is_idle), settling.settle(is_idle)), timeout=60
    )
