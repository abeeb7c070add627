"""How the object under simulation reads its state and writes it: in many ways that mean the same.

Rule: a write is made in one turn, whichever way it is made. Only a transaction begins at the end of
the turn, as a batch of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from random import Random
from typing import Any

import anyio
import anyio.lowlevel

from durable._border.ctx import State
from durable._border.durable_object import DurableObject

from .history import History
from .model import PAIR
from .tables import has_table, read_rows, write_rows

KEYS = ("k0", "k1", "k2")
ALL = ("n", *PAIR, "due", *KEYS)

READ_STYLES = 6
WRITE_STYLES = 7
# Those that write in the turn under way; a transaction begins at its end, as a batch of its own.
TURN_STYLES = 6


class Storing(DurableObject):
    """Reads and writes on request, and waits for the outside."""

    def __init__(self, ctx: State, env: Any) -> None:
        super().__init__(ctx, env)
        self.history: History = env.history
        self.chance: Random = self.history.chance
        self.name: str = ctx.id.name or ""
        self.has_table: bool = has_table(self.name)

    async def _load(self, style: int) -> dict[str, Any]:
        storage = self.ctx.storage
        found: dict[str, Any]
        if style == 0:
            found = await storage.get(list(ALL))
        elif style == 1:
            found = await storage.list()
        elif style == 2:
            found = {key: await storage.get(key) for key in ALL}
        elif style == 3:
            found = {key: storage.kv.get(key) for key in ALL}
        elif style == 4:
            found = await self._load_at_once()
        else:
            found = {**await storage.list(prefix="k"), **await storage.get(["n", *PAIR, "due"])}
        found = {key: value for key, value in found.items() if value is not None}
        if self.has_table and (rows := read_rows(self.ctx)) != found:
            self.history.broken(f"P7: {self.name} finds {found} by keys and {rows} by SQL")
        return {"n": 0, **found}

    async def _load_at_once(self) -> dict[str, Any]:
        found: dict[str, Any] = {}

        async def load(key: str) -> None:
            found[key] = await self.ctx.storage.get(key)

        async with anyio.create_task_group() as tasks:
            for key in ALL:
                tasks.start_soon(load, key)
        return found

    async def _write(
        self, change: int, found: dict[str, Any], changes: dict[str, Any], style: int
    ) -> None:
        """Write *changes*, a new number and the pair, in one turn."""
        storage = self.ctx.storage
        option = self._option(change)
        puts = {PAIR[0]: change, "n": found["n"] + 1, PAIR[1]: change}
        puts |= {key: value for key, value in changes.items() if value is not None}
        for key, value in changes.items():
            if value is None:
                storage.delete(key, **option)
        rows = {**changes, **puts}
        if style < TURN_STYLES:
            self._write_rows(rows)
        if style == 0:
            storage.put(puts, **option)
        elif style == 1:
            await storage.put(puts, **option)
        elif style == 2:
            for key, value in puts.items():
                storage.put(key, value, **option)
        elif style == 3:
            for key, value in puts.items():
                await storage.put(key, value, **option)
        elif style == 4:
            async with anyio.create_task_group() as tasks:
                for key, value in puts.items():
                    tasks.start_soon(self._put, key, value, option)
        elif style == 5:
            for key, value in puts.items():
                storage.kv.put(key, value, **option)
        else:
            self._write_rows({key: None for key, value in changes.items() if value is None})
            await storage.transaction(lambda txn: self._write_in(txn, puts, option))

    def _write_rows(self, changes: Mapping[str, Any]) -> None:
        """The same by SQL, in the objects that have a table."""
        if self.has_table:
            write_rows(self.ctx, changes)

    def _option(self, change: int) -> dict[str, bool]:
        """How the writes of this change are made."""
        return {"allow_unconfirmed": True} if self.history.is_unconfirmed(change) else {}

    async def _put(self, key: str, value: Any, option: dict[str, bool]) -> None:
        await self.ctx.storage.put(key, value, **option)

    async def _write_in(self, txn: Any, puts: dict[str, Any], option: dict[str, bool]) -> None:
        txn.put(puts, **option)
        self._write_rows(puts)
        await self._pause(self.chance.randrange(3))

    async def _pause(self, kind: int) -> None:
        """Wait for the outside, in one way or other."""
        clock_sleep: Callable[[float], Awaitable[None]] = self.env.sleep
        if kind == 1:
            await anyio.lowlevel.checkpoint()
        elif kind == 2:
            for _ in range(20):
                await anyio.lowlevel.checkpoint()
        elif kind == 3:
            await clock_sleep(1.5)
        self._steps()

    def _steps(self) -> None:
        """Code of this instance runs."""
        self.history.steps(self.name, self)
