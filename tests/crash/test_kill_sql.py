"""P16 for SQL: killed with SIGKILL at random points, tables, keys, index and full text agree, and
nothing that the process was told is lost.

10 rounds by default; DURABLE_CRASH_ROUNDS=200 for more. SQLite's cache is small, so that pages are
written in the middle of turns. In half of the rounds the number of connections is small, too, so
that pages are read from the disk; in the others a connection stays, so that a statement that is
known is a transaction by itself.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import durable
import durable.testing
from durable import operate
from tests import postgres

from .killed_program import run_and_kill

pytest.importorskip("apsw")

ROUNDS = int(os.environ.get("DURABLE_CRASH_ROUNDS", "10"))
RUN_S_MAX = 0.2  # a process is killed up to so long after its first answer
OBJECTS = 12
LIMITS = {"sql_connections_max": 5, "lease_s": 1.0}

PROGRAM = """
import json, random, sys
import anyio
import durable
sys.path.insert(0, sys.argv[4])
from durable._storage.sql import database
from tests.crash.test_kill_sql import LIMITS, Shop
database.CACHE_KIB = 16

async def main():
    chance = random.Random(int(sys.argv[2]))
    connections = chance.choice([LIMITS["sql_connections_max"], 100])
    limits = durable.Limits(**LIMITS | {"sql_connections_max": connections})
    async with durable.open(sys.argv[1], bindings={"SHOPS": Shop}, limits=limits) as runtime:

        async def call(name):
            stub = runtime.env.SHOPS.get_by_name(name)
            while True:
                what = chance.choice(
                    ["sell"] * 6 + ["sell_one"] * 6 + ["undone", "undone_now", "prune", "clear"]
                )
                answer = await getattr(stub, what)(chance.randrange(1_000))
                print(json.dumps([name, answer]), flush=True)

        async with anyio.create_task_group() as tasks:
            for number in range(int(sys.argv[3])):
                tasks.start_soon(call, f"shop {number}")

anyio.run(main, backend=sys.argv[5])
"""


class Shop(durable.DurableObject):
    """Keeps sales in a table with an index and a full text of them, and counts them by keys."""

    def __init__(self, ctx: durable.State, env: Any) -> None:
        super().__init__(ctx, env)
        self._make()

    def _make(self) -> None:
        self.ctx.storage.sql.exec(
            "CREATE TABLE IF NOT EXISTS sale (id INTEGER PRIMARY KEY, buyer TEXT, amount);"
            "CREATE INDEX IF NOT EXISTS by_buyer ON sale (buyer);"
            "CREATE VIRTUAL TABLE IF NOT EXISTS note USING fts5(body);"
        )

    async def sell(self, seed: int) -> int:
        """Returns how often the object was called."""
        storage, sql = self.ctx.storage, self.ctx.storage.sql
        calls: int = storage.kv.get("calls", 0) + 1
        buyer = f"buyer {seed} {'x' * (seed * 7 % 3_000)}"
        storage.put({"calls": calls, "sold": storage.kv.get("sold", 0) + 1})
        sql.exec("INSERT INTO sale (buyer, amount) VALUES (?, ?)", buyer, seed)
        sql.exec("INSERT INTO note VALUES (?)", buyer[:40])
        return calls

    async def sell_one(self, seed: int) -> int:
        """By one statement, and in one turn of three by another one after it, which is undone."""
        storage = self.ctx.storage
        calls: int = storage.kv.get("calls", 0) + 1
        storage.put({"calls": calls, "sold": storage.kv.get("sold", 0) + 1})
        insert = "INSERT INTO sale (amount, buyer) VALUES (?, ?)"
        storage.sql.exec(insert, seed, f"buyer {seed}")
        if seed % 3 == 0:
            with pytest.raises(LookupError):
                storage.transaction_sync(self._spoil)
        return calls

    def _spoil(self) -> None:
        self.ctx.storage.put("calls", -2)
        self.ctx.storage.sql.exec("UPDATE sale SET buyer = 'never'")
        raise LookupError

    async def undone(self, seed: int) -> int:
        async def spoil(txn: durable.Transaction) -> None:
            txn.put("calls", -1)
            self.ctx.storage.sql.exec("DELETE FROM sale")
            self.ctx.storage.sql.exec("INSERT INTO note VALUES ('never')")
            txn.rollback()

        await self.ctx.storage.transaction(spoil)
        return await self.sell(seed)

    async def undone_now(self, seed: int) -> int:
        with pytest.raises(LookupError):
            self.ctx.storage.transaction_sync(self._spoil)
        return await self.sell(seed)

    async def prune(self, seed: int) -> int:
        gone = self.ctx.storage.sql.exec("DELETE FROM sale WHERE id % 3 = 0").rows_written
        self.ctx.storage.put("sold", self.ctx.storage.kv.get("sold", 0) - gone)
        return await self.sell(seed)

    async def clear(self, seed: int) -> int:
        calls = self.ctx.storage.kv.get("calls", 0)
        self.ctx.storage.delete_all()
        self._make()
        self.ctx.storage.put("calls", calls)
        return await self.sell(seed)

    def look(self) -> list[Any]:
        sql, kv = self.ctx.storage.sql, self.ctx.storage.kv
        sql.exec("INSERT INTO note (note) VALUES ('integrity-check')")
        return [
            kv.get("calls", 0),
            kv.get("sold", 0),
            *next(sql.exec("SELECT count(*) FROM sale").raw()),
            *next(sql.exec("SELECT count(*) FROM sale INDEXED BY by_buyer").raw()),
            *next(sql.exec("SELECT count(*) FROM sale WHERE buyer = 'never'").raw()),
            *next(sql.exec("SELECT count(*) FROM note WHERE note MATCH 'never'").raw()),
            next(sql.exec("PRAGMA quick_check").raw())[0],
        ]


@pytest.mark.backends("asyncio")
async def test_a_killed_process_has_lost_no_sql_that_it_was_told(tmp_path: Path) -> None:
    """Each table, index and full text is sound, and agrees with the keys beside it."""
    await _kill(tmp_path / "store", ROUNDS)


@pytest.mark.backends("asyncio")
async def test_nor_has_one_whose_store_is_in_postgresql() -> None:
    """What it was told was committed there, and comes whole to the next one."""
    with postgres.store_url() as url:
        await _kill(url, 2 + ROUNDS // 20)


async def _kill(store: Path | str, rounds: int) -> None:
    told: dict[str, list[int]] = {}
    for seed in range(rounds):
        told.update(run_and_kill(PROGRAM, store, seed, objects=OBJECTS, run_s_max=RUN_S_MAX))
        # The server of the tests syncs nothing, which the check reports too.
        problems = operate.check(store)
        assert [each for each in problems if not each.where.startswith("setting")] == []

        async with durable.open(store, bindings={"SHOPS": Shop}) as runtime:
            for name, (answer,) in told.items():
                stub = runtime.env.SHOPS.get_by_name(name)
                look = await durable.testing.run_in_object(stub, lambda shop, _: shop.look())
                calls, sold, rows, indexed, spoilt, spoilt_notes, sound = look
                assert calls >= answer, f"round {seed}: {name} has forgotten"
                assert rows == indexed == sold, f"round {seed}: {name} is half there"
                assert (spoilt, spoilt_notes, sound) == (0, 0, "ok")
