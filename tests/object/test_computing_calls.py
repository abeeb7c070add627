"""Calls that compute, one after the other: the loop has its rounds between them.

Time passes by the clock of the runtime, which the handlers here move as they compute.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import durable
import durable.testing
from durable._gates.rows import COMPUTING_S_MAX, LONG_S, UNMEASURED_MAX

CALLS = 24
# After one call of so many seconds the loop has to have its round.
ENOUGH_S = 1.5 * COMPUTING_S_MAX


class ComputingClock(durable.testing.VirtualClock):
    """A clock that goes on while an object computes."""

    computed_s = 0.0
    readings = 0

    def steady(self) -> float:
        self.readings += 1
        return super().steady() + self.computed_s


class Rounds:
    """Counts the rounds of the loop, and the calls that begin in each."""

    def __init__(self) -> None:
        self.number = 0
        self.begun: Counter[int] = Counter()
        self.order: list[int] = []

    async def count(self) -> None:
        while True:
            await anyio.lowlevel.checkpoint()
            self.number += 1


class Work(durable.DurableObject):
    """Computes for as long as it is asked to."""

    async def compute(self, seconds: float, place: int = 0) -> None:
        rounds: Rounds = self.env["ROUNDS"]
        rounds.begun[rounds.number] += 1
        rounds.order.append(place)
        self.env["CLOCK"].computed_s += seconds

    async def have_others_compute(self, seconds: float, calls: int) -> None:
        for number in range(calls):
            await self.env["WORK"].get_by_name(f"other {number}").compute(seconds)


@pytest.fixture
def clock() -> ComputingClock:
    return ComputingClock()


@pytest.fixture
def rounds() -> Rounds:
    return Rounds()


@pytest.fixture
async def runtime(
    tmp_path: Path, clock: ComputingClock, rounds: Rounds
) -> AsyncIterator[durable.Runtime]:
    variables = {"ROUNDS": rounds, "CLOCK": clock}
    opening = durable.testing.open(
        tmp_path / "store", clock=clock, bindings={"WORK": Work}, vars=variables
    )
    async with opening as runtime:
        yield runtime


async def live_stubs(runtime: durable.Runtime, prefix: str = "") -> list[Any]:
    """Stubs of objects that are in memory; the last call was long, so that the next is measured."""
    stubs = [runtime.env.WORK.get_by_name(f"{prefix}{number}") for number in range(CALLS)]
    for stub in stubs:
        await stub.compute(2 * LONG_S)
    return stubs


@asynccontextmanager
async def counting(rounds: Rounds) -> AsyncIterator[None]:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(rounds.count)
        while rounds.number < 5:  # what has come before is forgotten by now
            await anyio.lowlevel.checkpoint()
        rounds.begun.clear()
        yield
        tasks.cancel_scope.cancel()


async def together(calls: list[Any]) -> None:
    async with anyio.create_task_group() as tasks:
        for call in calls:
            tasks.start_soon(call)


async def test_the_loop_has_a_round_between_computing_calls_of_several_tasks(
    runtime: durable.Runtime, rounds: Rounds
) -> None:
    stubs = await live_stubs(runtime)

    async with counting(rounds):
        await together([lambda stub=stub: stub.compute(ENOUGH_S) for stub in stubs])

    assert rounds.begun.total() == CALLS
    # Trio takes the steps of a round in any order, so that two rounds may look like one.
    assert max(rounds.begun.values()) <= 2


async def test_the_loop_has_a_round_between_computing_calls_of_one_task(
    runtime: durable.Runtime, rounds: Rounds
) -> None:
    stubs = await live_stubs(runtime)

    async with counting(rounds):
        for stub in stubs:
            await stub.compute(ENOUGH_S)

    assert rounds.begun.total() == CALLS
    assert max(rounds.begun.values()) <= 2


async def test_the_loop_has_a_round_between_computing_calls_of_an_object(
    runtime: durable.Runtime, rounds: Rounds
) -> None:
    await live_stubs(runtime, "other ")
    caller = runtime.env.WORK.get_by_name("caller")

    async with counting(rounds):
        await caller.have_others_compute(ENOUGH_S, CALLS)

    assert rounds.begun.total() == CALLS
    assert max(rounds.begun.values()) <= 2


async def test_what_several_calls_have_computed_counts_together(
    runtime: durable.Runtime, rounds: Rounds
) -> None:
    stubs = await live_stubs(runtime)
    part = 4

    async with counting(rounds):
        await together([lambda stub=stub: stub.compute(ENOUGH_S / part) for stub in stubs])

    assert rounds.begun.total() == CALLS
    assert max(rounds.begun.values()) <= 4 * part


async def test_computing_calls_that_wait_for_rounds_begin_in_their_order(
    runtime: durable.Runtime, rounds: Rounds
) -> None:
    stubs = await live_stubs(runtime)
    rounds.order.clear()

    calls = [stub.compute(ENOUGH_S, place) for place, stub in enumerate(stubs)]
    calls += [stubs[0].compute(ENOUGH_S, CALLS + place) for place in range(CALLS)]
    for call in calls:
        await call

    assert rounds.order == list(range(2 * CALLS))


async def test_long_calls_among_short_ones_are_found(
    runtime: durable.Runtime, rounds: Rounds
) -> None:
    """Also after so many short ones that few are measured."""
    (stub, *_) = await live_stubs(runtime)
    for _ in range(UNMEASURED_MAX**2):
        await stub.compute(0.0)

    async with counting(rounds):
        for number in range(20 * UNMEASURED_MAX):
            await stub.compute(ENOUGH_S if number % 2 else 0.0)

    # Until one is measured, and a row of calls may end before; from then on a long one and a short
    # one, or two in place of that.
    first, second, *following = rounds.begun.values()
    assert first + second <= 3 * UNMEASURED_MAX
    assert max(following) <= 4
