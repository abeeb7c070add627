"""P5 in programs made by chance: objects that call each other in and out of sections all end."""

from __future__ import annotations

import random
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
import pytest

import durable

from .conftest import Start, Store

Steps = list[tuple[Any, ...]]


class Actor(durable.DurableObject):
    """Does what it is told, in steps."""

    async def run(self, steps: Steps) -> None:
        for what, *about in steps:
            if what == "sleep":
                await anyio.sleep(0)
            elif what == "put":
                self.ctx.storage.put("n", await self.ctx.storage.get("n", 0) + 1)
            elif what == "fail":
                raise LookupError("by chance")
            elif what == "call":
                # A call that fails is no reason to stop; a deadlock is told, and code goes on.
                with suppress(LookupError, durable.Deadlock):
                    await self._peer(about[0]).run(about[1])
            elif what == "send":
                self._peer(about[0]).run(about[1])
            elif what == "leave":
                self.ctx.wait_until(self._quietly(about[0]))
            elif what == "section":
                await self.ctx.block_concurrency_while(partial(self._alone, about[0]))
            else:
                with suppress(LookupError):
                    await self.ctx.storage.transaction(partial(self._alone, about[0]))

    def _peer(self, name: str) -> durable.Stub[Actor]:
        stub: durable.Stub[Actor] = self.env.ACTORS.get_by_name(name)
        return stub

    async def _quietly(self, steps: Steps) -> None:
        with suppress(LookupError):
            await self.run(steps)

    async def _alone(self, steps: Steps, txn: durable.Transaction | None = None) -> None:
        # What a section raises would reset the object; a transaction passes it on.
        await (self._quietly(steps) if txn is None else self.run(steps))


def steps_of(chance: random.Random, depth: int) -> Steps:
    steps: Steps = []
    for _ in range(chance.randint(1, 3)):
        what = chance.choice(["sleep", "put", "call", "send", "leave", "section", "txn", "fail"])
        if what in {"sleep", "put"} or (what == "fail" and chance.random() < 0.3):
            steps.append((what,))
        elif what == "fail" or depth == 0:
            steps.append(("sleep",))
        elif what in {"call", "send"}:
            steps.append((what, chance.choice("abc"), steps_of(chance, depth - 1)))
        else:
            steps.append((what, steps_of(chance, depth - 1)))
    return steps


@pytest.mark.parametrize("seed", range(25))
async def test_programs_of_objects_in_sections_come_to_their_end(
    store: Store, start: Start[Any], seed: int
) -> None:
    """Without a limit that runs out: what could wait for ever is told, and nothing keeps the gate
    that has ended."""
    chance = random.Random(seed)
    async with store.open(bindings={"ACTORS": Actor}) as runtime:
        actors = runtime.namespace(Actor)
        for _ in range(5):
            calls = [start(actors.get_by_name(name).run(steps_of(chance, 4))) for name in "abcab"]
            await store.settle()

            assert all(call.done for call in calls)
            for call in calls:
                assert isinstance(call.error, LookupError | durable.Deadlock | None)
            visits = [start(actors.get_by_name(name).run([("put",)])) for name in "abc"]
            await store.settle()
            assert all(visit.done and visit.error is None for visit in visits)
