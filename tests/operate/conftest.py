"""What the tests of operation share: a store whose time and disk do what the test says."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from attrs import define, field

import durable
import durable.testing
from durable import observing


class Clock(durable.testing.VirtualClock):
    """A clock that code can be made to use up."""

    def spend(self, seconds: float) -> None:
        """What runs at this moment takes so long."""
        self._elapsed_s += seconds


class Worker(durable.DurableObject):
    """An object that does what it is told."""

    async def fetch(self, request: durable.Request) -> durable.Response:
        return durable.Response("here")

    async def put(self, key: str, value: Any) -> None:
        self.ctx.storage.put(key, value)

    async def get(self, key: str) -> Any:
        return await self.ctx.storage.get(key)

    async def sleep(self, seconds: float) -> str:
        await self.env.CLOCK.sleep(seconds)
        return "slept"

    async def never_end(self, seconds: float) -> None:
        """Whatever is raised in it, as a broken author's code may."""
        while True:
            with suppress(BaseException):
                await self.env.CLOCK.sleep(seconds)

    async def compute(self, seconds: float) -> None:
        self.env.CLOCK.spend(seconds)

    async def wait_then_compete(self, waits: float, holds: float) -> None:
        """Wait outside, and come back while somebody else holds the gate."""
        await self.env.CLOCK.sleep(waits)

    async def hold_gate(self, seconds: float) -> None:
        await self.ctx.block_concurrency_while(lambda: self.env.CLOCK.sleep(seconds))

    async def ask(self, query: str) -> list[Any]:
        return self.ctx.storage.sql.exec(query).to_list()

    async def fail(self) -> None:
        raise LookupError("not here")

    async def give_up(self) -> None:
        self.ctx.abort("enough")

    async def relay(self, name: str, method: str, *args: Any) -> Any:
        other = self.env.WORKERS.get_by_name(name)
        return await getattr(other, method)(*args)

    async def set_alarm(self, seconds: float) -> None:
        self.ctx.storage.set_alarm(datetime.timedelta(seconds=seconds))

    async def alarm(self) -> None:
        self.ctx.storage.put("rang", True)


@define(eq=False)
class Watched:
    """A folder to open, its clock and disk, and what an observer was told."""

    folder: Path
    clock: Clock = field(factory=Clock)
    faults: durable.testing.Faults = field(factory=durable.testing.Faults)
    told: list[Any] = field(factory=list)

    @asynccontextmanager
    async def open(self, **options: Any) -> AsyncIterator[durable.Runtime]:
        options.setdefault("observer", self.told.append)
        options.setdefault("limits", durable.Limits(shutdown_s_max=1.0))
        async with durable.testing.open(
            self.folder,
            faults=self.faults,
            clock=self.clock,
            bindings={"WORKERS": Worker},
            vars={"CLOCK": self.clock},
            **options,
        ) as runtime:
            yield runtime

    def of(self, kind: type[Any]) -> list[Any]:
        """What was told of one kind."""
        return [event for event in self.told if isinstance(event, kind)]

    def ended(self, method: str) -> observing.DeliveryEnded:
        """The one end of a delivery of *method*."""
        (event,) = [e for e in self.of(observing.DeliveryEnded) if e.method == method]
        assert isinstance(event, observing.DeliveryEnded)
        return event


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path / "store")


@asynccontextmanager
async def running(*calls: Any) -> AsyncIterator[None]:
    """The calls are awaited in tasks; their errors are not of interest."""

    async def run(call: Any) -> None:
        try:
            await call
        except Exception:
            pass

    async with anyio.create_task_group() as tasks:
        for call in calls:
            tasks.start_soon(run, call)
        yield
