"""An object that keeps a history, and a store in which it lives."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

import durable
import durable.testing
from tests.promises.conftest import Start, Store, runtime, start, store

__all__ = ["Ledger", "Start", "Store", "go_back", "ledger", "restart", "runtime", "start", "store"]


class Ledger(durable.DurableObject):
    """Does with its storage as it is told, and goes back."""

    history = timedelta(days=30)

    def __init__(self, ctx: durable.State, env: Any) -> None:
        super().__init__(ctx, env)
        # What the constructor finds.
        self.found = dict(ctx.storage.kv.list())

    async def alarm(self) -> None:
        """Far away."""

    async def put(self, key: str, value: Any) -> None:
        self.ctx.storage.put(key, value)

    async def put_all(self, values: dict[str, Any]) -> None:
        self.ctx.storage.put(values)

    async def delete(self, key: str) -> None:
        self.ctx.storage.delete(key)

    async def delete_all(self) -> None:
        self.ctx.storage.delete_all()

    async def set_alarm(self, when: datetime | None) -> None:
        if when is None:
            self.ctx.storage.delete_alarm()
        else:
            self.ctx.storage.set_alarm(when)

    async def sql(self, query: str, *bindings: Any) -> list[dict[str, Any]]:
        return self.ctx.storage.sql.exec(query, *bindings).to_list()

    async def now(self) -> str:
        return await self.ctx.storage.get_current_bookmark()

    async def at(self, time: datetime) -> str:
        return await self.ctx.storage.get_bookmark_for_time(time)

    async def wish(self, bookmark: str) -> str:
        return await self.ctx.storage.on_next_session_restore_bookmark(bookmark)

    async def abort(self) -> None:
        self.ctx.abort("to be built anew")

    async def all(self) -> dict[str, Any]:
        return dict(await self.ctx.storage.list())

    async def due(self) -> datetime | None:
        return await self.ctx.storage.get_alarm()

    async def found_first(self) -> dict[str, Any]:
        return self.found


async def restart(stub: durable.Stub[Ledger]) -> None:
    """The object is built anew with the next call."""
    with pytest.raises(durable.ObjectAborted):
        await stub.abort()


async def go_back(runtime: durable.Runtime, bookmark: str, name: str = "a") -> str:
    """The object goes back; returns what undoes it."""
    objects = runtime.namespace(Ledger)
    undo = await objects.get_by_name(name).wish(bookmark)
    await restart(objects.get_by_name(name))
    return undo


@pytest.fixture
async def ledger(runtime: durable.Runtime) -> Any:
    """A fresh stub of the object "a", whenever it is called."""
    objects = runtime.namespace(Ledger)
    return lambda: objects.get_by_name("a")
