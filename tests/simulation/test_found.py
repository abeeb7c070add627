"""What the simulation has found, each as a small test of its own."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import anyio
import pytest
import sniffio

import durable
import durable.testing
from durable._storage.cache import Cache
from durable._storage.cache_budget import CacheBudget
from durable._storage.key_ranges import NOTHING
from durable.testing import Faults, VirtualClock
from durable.testing.simulation.disk import UnsureFaults

pytestmark = pytest.mark.backends("asyncio", "trio")


class Keeper(durable.DurableObject):
    born = 0

    def __init__(self, ctx: durable.State, env: Any) -> None:
        super().__init__(ctx, env)
        Keeper.born += 1

    async def keep(self, value: int) -> int:
        self.ctx.storage.put("value", value)
        return value

    def value(self) -> Any:
        return self.ctx.storage.kv.get("value")

    async def keep_two(self) -> None:
        self.ctx.storage.put("value", 1)
        await anyio.lowlevel.checkpoint()
        self.ctx.storage.put("value", 2)
        await anyio.lowlevel.checkpoint()

    async def spread(self) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep_forever)


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
async def runtime(tmp_path: Path, faults: Faults) -> AsyncIterator[durable.Runtime]:
    clock = VirtualClock()
    limits = durable.Limits(shutdown_s_max=0.1)
    async with durable.testing.open(
        tmp_path / "store", faults=faults, clock=clock, limits=limits
    ) as runtime:
        yield runtime


@pytest.mark.backends("asyncio")
async def test_a_list_too_large_for_the_cache_leaves_no_key_behind_as_absent() -> None:
    """What is given up while it is taken in is not known any more."""
    cache = Cache(CacheBudget(300), NOTHING, False)
    found = [(f"k{number}", b"value") for number in range(10)]

    cache.learn_range(cache.epoch, ("", None), found, {})

    assert all(cache.lookup(key) is not None for key, _ in found)


async def test_a_successor_may_break_before_it_has_begun(
    runtime: durable.Runtime, faults: Faults
) -> None:
    """It waits for its predecessor's writes when it is reset; the next one has them."""
    keepers = runtime.namespace(Keeper)
    async with anyio.create_task_group() as tasks:
        with faults.hold_commits():
            keepers.get_by_name("a").keep(1)
            await anyio.lowlevel.checkpoint()
            await anyio.wait_all_tasks_blocked()
            for _ in range(2):
                await durable.testing.abort_all(runtime)
                tasks.start_soon(_refused, keepers.get_by_name("a"))
                await anyio.wait_all_tasks_blocked()
            await durable.testing.abort_all(runtime)

        assert await keepers.get_by_name("a").value() == 1


async def _refused(stub: Any) -> None:
    with pytest.raises(durable.ObjectReset):
        await stub.value()


async def test_code_may_be_abandoned_with_a_task_group_open(runtime: durable.Runtime) -> None:
    """A reset object that waits for its own tasks takes nothing down with it."""
    keepers = runtime.namespace(Keeper)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_spread_refused, keepers.get_by_name("a"))
        await anyio.wait_all_tasks_blocked()
        await durable.testing.abort_all(runtime)

    assert await keepers.get_by_name("a").keep(2) == 2


async def _spread_refused(stub: Any) -> None:
    with pytest.raises(durable.ObjectReset):
        await stub.spread()


async def test_a_runtime_closes_though_its_last_commits_fail(
    tmp_path: Path, faults: Faults
) -> None:
    """The object is reset when nothing can be submitted any more."""
    async with durable.testing.open(
        tmp_path / "store", faults=faults, clock=VirtualClock()
    ) as runtime:
        faults.fail_commits()
        runtime.namespace(Keeper).get_by_name("a").keep_two()
        await anyio.lowlevel.checkpoint()


async def test_code_of_an_object_that_broke_before_it_began_never_begins(
    runtime: durable.Runtime,
) -> None:
    """Not even the constructor, whose task was about to start."""
    Keeper.born = 0
    stub = runtime.namespace(Keeper).get_by_name("a")
    answer = stub.keep(1)
    await durable.testing.abort_all(runtime)

    with pytest.raises(durable.ObjectReset):
        await answer
    await anyio.wait_all_tasks_blocked()
    is_eager = sys.version_info >= (3, 12) and sniffio.current_async_library() == "asyncio"
    assert Keeper.born == int(is_eager)  # where tasks are eager, it was born at the call


class Doorman(durable.DurableObject):
    """Keeps a socket, and aborts when it is asked to."""

    heard: ClassVar[list[Any]] = []
    kept: ClassVar[list[durable.WebSocket]] = []

    async def fetch(self, request: durable.Request) -> durable.Response:
        client, server = durable.WebSocketPair()
        self.kept.append(server)  # that it is garbage one day is not what the client waits for
        if request.url.query.get("classic") == "1":
            server.accept()
            self.ctx.wait_until(self._listen(server))
        else:
            self.ctx.accept_websocket(server)
        return durable.Response(status=101, websocket=client)

    async def _listen(self, ws: durable.WebSocket) -> None:
        async for message in ws:
            await self.websocket_message(ws, str(message))

    async def websocket_message(self, ws: durable.WebSocket, message: str) -> None:
        if message == "abort":
            self.ctx.abort("enough")
        if message == "write":
            self.ctx.storage.put("value", 1)

    async def websocket_close(
        self, ws: durable.WebSocket, code: int, reason: str, was_clean: bool
    ) -> None:
        self.heard.append(code)


async def test_the_successor_of_an_aborted_object_hears_nothing_of_its_sockets(
    runtime: durable.Runtime,
) -> None:
    """Not even of the socket whose handler called `abort` in its first step."""
    Doorman.heard.clear()
    doormen = runtime.namespace(Doorman)
    ws = (await doormen.get_by_name("a").fetch("https://doorman/")).websocket
    assert ws is not None
    ws.accept()
    ws.send("abort")
    ws.send("hello")
    await anyio.wait_all_tasks_blocked()

    assert not durable.testing.is_live(doormen.get_by_name("a"))
    assert Doorman.heard == []


@pytest.mark.parametrize("is_classic", [False, True], ids=["hibernatable", "classic"])
async def test_a_reset_is_heard_by_a_client_whose_goodbye_has_no_reply_yet(
    runtime: durable.Runtime, faults: Faults, is_classic: bool
) -> None:
    """The reply waits for what the object wrote, and is never sent: the socket is cut instead."""
    doorman = runtime.namespace(Doorman).get_by_name("a")
    ws = (await doorman.fetch(f"https://doorman/?classic={int(is_classic)}")).websocket
    assert ws is not None
    ws.accept()
    with faults.hold_commits():
        ws.send("write")
        ws.close(1000)
        await anyio.wait_all_tasks_blocked()
        await durable.testing.abort_all(runtime)
        with anyio.fail_after(10), pytest.raises(durable.WebSocketClosed):
            await anext(ws)


class Sleeper(durable.DurableObject):
    """Notes in the class when its alarm has rung, since what it keeps is lost."""

    rang: ClassVar[list[str]] = []
    door: ClassVar[anyio.Event]

    async def set(self, seconds: float) -> None:
        await self.ctx.storage.set_alarm(timedelta(seconds=seconds))

    async def unset_and_wait(self) -> None:
        async def wait(txn: durable.Transaction) -> None:
            txn.delete_alarm()
            await self.door.wait()

        await self.ctx.storage.transaction(wait)

    async def alarm(self) -> None:
        self.rang.append(str(self.ctx.id.name))


@pytest.mark.parametrize("seconds", [-1.0, 40.0])
async def test_an_alarm_rings_whose_commit_was_made_and_said_to_have_failed(
    tmp_path: Path, seconds: float
) -> None:
    """The disk could not say whether it had written: the index is looked at again."""
    Sleeper.rang.clear()
    clock, faults = VirtualClock(), UnsureFaults()
    async with durable.testing.open(tmp_path / "store", clock=clock, faults=faults) as runtime:
        sleeper = runtime.namespace(Sleeper).get_by_name("a")
        faults.is_unsure = True
        with pytest.raises(durable.CommitFailed):
            await sleeper.set(seconds)
        await clock.advance(41)

        assert Sleeper.rang == ["a"]


async def test_an_alarm_rings_whose_object_broke_before_it_had_deleted_it(
    tmp_path: Path,
) -> None:
    """It was due while the object's own deletion of it was on its way, which came to nothing."""
    Sleeper.rang.clear()
    Sleeper.door = anyio.Event()
    clock = VirtualClock()
    async with durable.testing.open(tmp_path / "store", clock=clock) as runtime:
        sleeper = runtime.namespace(Sleeper).get_by_name("a")
        await sleeper.set(10)
        waiting = sleeper.unset_and_wait()
        await clock.advance(11)
        assert Sleeper.rang == []
        await durable.testing.abort_all(runtime)
        with pytest.raises(durable.ObjectReset):
            await waiting
        await clock.advance(31)

        assert Sleeper.rang == ["a"]
