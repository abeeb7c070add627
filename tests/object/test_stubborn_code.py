"""Code of a broken object that goes on after every error lets the others run, and ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

import durable
import durable.testing


async def nothing(*_: object) -> None: ...


USES: dict[str, Callable[[Stubborn], Awaitable[Any]]] = {
    "get": lambda it: it.ctx.storage.get("x"),
    "get many": lambda it: it.ctx.storage.get(["x", "y"]),
    "put": lambda it: it.ctx.storage.put("x", 1),
    "delete": lambda it: it.ctx.storage.delete("x"),
    "delete_all": lambda it: it.ctx.storage.delete_all(),
    "list": lambda it: it.ctx.storage.list(),
    "count": lambda it: it.ctx.storage.count(),
    "update": lambda it: it.ctx.storage.update("x", lambda _: 1),
    "get_alarm": lambda it: it.ctx.storage.get_alarm(),
    "set_alarm": lambda it: it.ctx.storage.set_alarm(1e9),
    "delete_alarm": lambda it: it.ctx.storage.delete_alarm(),
    "sync": lambda it: it.ctx.storage.sync(),
    "transaction": lambda it: it.ctx.storage.transaction(nothing),
    "section": lambda it: it.ctx.block_concurrency_while(nothing),
    "confirmed": lambda it: it.ctx.confirmed(),
    "call": lambda it: it.other.ok(),
    "fetch": lambda it: it.other.fetch("http://other/"),
    "stream": lambda it: anext(it.other.items()),
}


class Stubborn(durable.DurableObject):
    async def alarm(self) -> None: ...

    async def go_on(self, what: str) -> None:
        self.other = self.env.STUBBORN.get_by_name("other")
        try:
            await anyio.sleep_forever()
        except BaseException:
            pass
        while True:
            try:
                await USES[what](self)
            except BaseException:
                pass

    async def go_on_in_transaction(self, what: str) -> None:
        async def closure(txn: durable.Transaction) -> None:
            try:
                await anyio.sleep_forever()
            except BaseException:
                pass
            while True:
                try:
                    await getattr(txn, what)(*(["x", 1] if what == "put" else ["x"]))
                except BaseException:
                    pass

        await self.ctx.storage.transaction(closure)

    async def items(self) -> Any:
        yield 1

    async def ok(self) -> str:
        return "ok"

    async def fetch(self, request: durable.Request) -> durable.Response:
        return durable.Response("ok")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> durable.testing.open:
    monkeypatch.setattr("durable._gates.ending.CLEAN_UP_S_MAX", 0.02)
    return durable.testing.open(tmp_path / "store", bindings={"STUBBORN": Stubborn})


@pytest.mark.backends("asyncio", "trio")
@pytest.mark.parametrize("what", USES)
async def test_code_that_awaits_what_it_is_refused_in_a_circle_ends(
    store: durable.testing.open, what: str
) -> None:
    """Whatever call it is; its successor begins then."""
    async with store as runtime:
        await ends_after_reset(runtime, lambda stub: stub.go_on(what))


@pytest.mark.backends("asyncio", "trio")
@pytest.mark.parametrize("what", ["get", "put", "delete"])
async def test_so_does_code_of_a_transaction(store: durable.testing.open, what: str) -> None:
    async with store as runtime:
        await ends_after_reset(runtime, lambda stub: stub.go_on_in_transaction(what))


async def ends_after_reset(runtime: durable.Runtime, call: Callable[[Any], Any]) -> None:
    namespace = runtime.env.STUBBORN

    async def reset_is_told() -> None:
        with pytest.raises(durable.DurableError):
            await call(namespace.get_by_name("a"))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reset_is_told)
            await anyio.wait_all_tasks_blocked()
            await durable.testing.abort_all(runtime)
            assert await namespace.get_by_name("a").ok() == "ok"
