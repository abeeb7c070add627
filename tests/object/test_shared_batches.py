"""A hot object: the writes of calls that wait in line for it reach the disk together."""

from __future__ import annotations

import anyio

import durable
import durable.testing
from durable._cpython.switch import BORROWS

CALLS = 200


class Counter(durable.DurableObject):
    """Counts, and says when what it wrote is on the disk."""

    async def increment(self, confirmed: bool = False) -> int:
        value = await self.ctx.storage.get("value", 0) + 1
        self.ctx.storage.put("value", value)
        self.ctx.storage.put(f"was {value}", True)
        if confirmed:
            await self.ctx.confirmed()
        return int(value)


async def test_calls_in_line_share_batches_and_each_write_is_kept(
    runtime: durable.Runtime, faults: durable.testing.Faults
) -> None:
    """Two hundred turns while the disk is busy are a few batches; their answers are their own.

    Where tasks serve one delivery each, they come in line later: then a few commits are.
    """
    stub = runtime.namespace(Counter).get_by_name("hot")
    answers: list[int] = []

    async def call() -> None:
        answers.append(await stub.increment())

    async with anyio.create_task_group() as tasks:
        with faults.hold_commits():
            for _ in range(CALLS):
                tasks.start_soon(call)
            await anyio.wait_all_tasks_blocked()

    assert sorted(answers) == list(range(1, CALLS + 1))
    commits = runtime.statistics().commits
    assert (commits.batches if BORROWS else commits.count) < CALLS / 10


async def test_a_handler_that_waits_for_its_own_write_hears_of_it(
    runtime: durable.Runtime,
) -> None:
    """`ctx.confirmed()` in the middle of a turn comes, among turns that share their batches."""
    stub = runtime.namespace(Counter).get_by_name("hot")
    answers: list[int] = []

    async def call(number: int) -> None:
        answers.append(await stub.increment(number % 7 == 3))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            for number in range(CALLS):
                tasks.start_soon(call, number)

    assert sorted(answers) == list(range(1, CALLS + 1))
