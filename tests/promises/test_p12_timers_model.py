"""The timers of an object are a list of times, whatever is done to them and whatever happens.

Hypothesis sets, moves and deletes timers, alone and in transactions, lets time pass, evicts the
object and closes the store; a plain dict says what has to ring, and when.
"""

from __future__ import annotations

import tempfile
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from attrs import define, field, frozen
from hypothesis import given, settings
from hypothesis import strategies as st

import durable
import durable.testing
from durable.testing import VirtualClock

NAMES = st.sampled_from("abc")
SECONDS = st.integers(0, 40)


@frozen
class Do:
    """A call on the timers."""

    call: str
    name: str
    seconds: int = 0
    payload: int = 0


@frozen
class Together:
    """Some of them in a transaction, kept or not."""

    calls: tuple[Do, ...]
    is_kept: bool


calls = st.one_of(
    st.builds(Do, st.just("set"), NAMES, SECONDS, st.integers(0, 2)),
    st.builds(Do, st.just("every"), NAMES, st.integers(1, 20), st.integers(0, 2)),
    st.builds(Do, st.just("delete"), NAMES),
)
steps = st.lists(
    st.one_of(
        calls,
        calls,
        st.builds(Together, st.lists(calls, max_size=4).map(tuple), st.booleans()),
        st.sampled_from(["delete_all", "evict", "restart"]),
        SECONDS,
        SECONDS,
    ),
    max_size=30,
)


@define
class Model:
    """What is set: when it is due, every how long, and what it brings along."""

    now: int = 0
    timers: dict[str, tuple[int, int | None, int]] = field(factory=dict)
    rung: list[tuple[int, str, int, int]] = field(factory=list)

    def change(self, step: Do) -> None:
        before = self.timers.get(step.name)
        if step.call == "delete":
            self.timers.pop(step.name, None)
        elif step.call == "set":
            self.timers[step.name] = (self.now + step.seconds, None, step.payload)
        elif before is not None and before[1] == step.seconds:
            self.timers[step.name] = (before[0], step.seconds, step.payload)
        else:
            self.timers[step.name] = (self.now + step.seconds, step.seconds, step.payload)

    def ring(self) -> None:
        for name, (due, period, payload) in sorted(self.timers.items()):
            if due <= self.now:
                self.rung.append((self.now, name, payload, due))
                if period is None:
                    del self.timers[name]
                else:
                    following = due + ((self.now - due) // period + 1) * period
                    self.timers[name] = (following, period, payload)

    def advance(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += 1
            self.ring()


class Ringer(durable.DurableObject):
    async def timer(self, name: str, payload: int, info: durable.AlarmInfo) -> None:
        clock, rung = self.env.CLOCK, self.env.RUNG
        due = info.scheduled_time.timestamp() - clock.start_s
        rung.append((clock.steady(), name, payload, due))

    async def do(self, call: str, name: str, seconds: int, payload: int) -> None:
        after = timedelta(seconds=seconds)
        if call == "delete":
            self.ctx.timers.delete(name)
        else:
            getattr(self.ctx.timers, call)(name, after, payload)

    async def together(self, steps: list[Any], is_kept: bool) -> None:
        async def run(txn: durable.Transaction) -> None:
            for step in steps:
                await self.do(*step)
            if not is_kept:
                txn.rollback()

        await self.ctx.storage.transaction(run)

    async def delete_all(self) -> None:
        self.ctx.storage.delete_all()

    async def set_now(self) -> list[tuple[str, float]]:
        start_s = self.env.CLOCK.start_s
        return [(t.name, t.due.timestamp() - start_s) for t in await self.ctx.timers.list()]


def arguments(step: Do) -> tuple[str, str, int, int]:
    return step.call, step.name, step.seconds, step.payload


async def follow(folder: Path, steps: list[Any]) -> None:
    clock, model, rung = VirtualClock(), Model(), []
    names = {"CLOCK": clock, "RUNG": rung}

    async def opened() -> durable.Runtime:
        opening = durable.testing.open(folder, clock=clock, bindings={"R": Ringer}, vars=names)
        return await stack.enter_async_context(opening)

    async with AsyncExitStack() as stack:
        runtime = await opened()
        for step in steps:
            stub = runtime.env.R.get_by_name("a")
            if isinstance(step, Do):
                await stub.do(*arguments(step))
                model.change(step)
                model.ring()
            elif isinstance(step, Together):
                await stub.together([arguments(each) for each in step.calls], step.is_kept)
                if step.is_kept:
                    # What is set for now, within the transaction, rings when that has ended.
                    for each in step.calls:
                        model.change(each)
                    model.ring()
            elif step == "delete_all":
                await stub.delete_all()
                model.timers.clear()
            elif step == "evict":
                await clock.settle()
                if durable.testing.is_live(stub):
                    await durable.testing.evict(stub)
            elif step == "restart":
                await stack.aclose()
                await clock.advance(7)
                model.now += 7
                runtime = await opened()
                model.ring()
            else:
                await clock.advance(step)
                model.advance(step)
            await clock.settle()

            assert sorted(rung) == sorted(model.rung)
            left = sorted((due, name) for name, (due, _, _) in model.timers.items())
            shown = await runtime.env.R.get_by_name("a").set_now()
            assert shown == [(name, due) for due, name in left]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_timers_are_a_list_of_times(backend: str) -> None:
    @settings(max_examples=100)
    @given(steps)
    def run(steps: list[Any]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            anyio.run(follow, Path(folder), steps, backend=backend)

    run()
