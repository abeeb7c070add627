"""Random SQL on a database made of pages and on a plain one in memory: they stay the same.

The one of pages is closed and opened from its side records all the time; turns are sealed, lost,
and undone by transactions; SQLite's cache is small, so pages are written in the middle of turns.
`DURABLE_SQL_SEEDS=0-99` runs more seeds.
"""

from __future__ import annotations

import os
import random
from typing import Any

import apsw
import pytest

from durable._model.clock import SystemClock
from durable._model.limits import Limits
from durable._model.storage_errors import SqlError
from durable._storage.sql import database as database_file
from durable._storage.sql.database import Database
from durable._storage.sql.opening import make_connections
from tests.storage.fakes import FakeDisk, Kit, make_kit

TURNS = 300
FIRST, _, LAST = os.environ.get("DURABLE_SQL_SEEDS", "0-3").partition("-")


class Pair:
    """The same SQL on both."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.disk = FakeDisk()
        self.connections = make_connections(SystemClock(), Limits())
        self.plain = apsw.Connection(":memory:")
        self.wake()

    def wake(self) -> None:
        self.kit: Kit = make_kit(self.disk)
        self.buffer = self.kit.object_storage.buffer
        self.database = Database.of(self.kit.object_storage.records, self.connections)

    def find(self) -> None:
        """As `ctx.storage.sql` does: a database without a connection has been let go."""
        if self.database.connection is None:
            self.database = self.database.successor(None)

    def both(self, query: str, *bindings: Any) -> None:
        self.find()
        ours = self.database.run(query, bindings)[0].fetchall()
        assert ours == self.plain.execute(query, bindings).fetchall(), (query, bindings)

    def some_sql(self) -> None:
        chance = self.chance
        table = chance.choice("tuv")
        what = chance.random()
        text = "x" * int(chance.expovariate(1 / 300))
        if what < 0.05:
            self.both(f"CREATE TABLE IF NOT EXISTS {table} (id INTEGER PRIMARY KEY, a, b)")
        elif what < 0.07:
            self.both(f"DROP TABLE IF EXISTS {table}")
        elif what < 0.1:
            self.both(f"CREATE INDEX IF NOT EXISTS i{table} ON {table} (a, b)")
        elif what < 0.6:
            self.both(f"INSERT INTO {table} (a, b) VALUES (?, ?)", chance.randrange(1000), text)
        elif what < 0.63:
            self.both(f"INSERT INTO {table} (a, b) SELECT b, a FROM {table} LIMIT 300")
        elif what < 0.8:
            self.both(f"UPDATE {table} SET b = ? WHERE a % 7 = ?", text, chance.randrange(7))
        elif what < 0.9:
            self.both(f"DELETE FROM {table} WHERE a % 5 = ?", chance.randrange(5))
        elif what < 0.92:
            self.both(f"DELETE FROM {table} WHERE id < (SELECT max(id) - 50 FROM {table})")
        else:
            self.both(f"SELECT count(*), sum(length(b)), max(a) FROM {table}")

    def some_statements(self) -> None:
        for _ in range(self.chance.randrange(1, 8)):
            try:
                self.some_sql()
            except SqlError as error:
                if "no such" not in str(error):
                    raise

    def some_transactions(self) -> None:
        for _ in range(self.chance.randrange(3)):
            layer = self.buffer.begin_within_turn()
            self.plain.execute("SAVEPOINT layer")
            self.some_statements()
            if self.chance.random() < 0.5:
                self.buffer.roll_back(layer)
                self.plain.execute("ROLLBACK TO layer")
            else:
                self.buffer.commit(layer)
            self.plain.execute("RELEASE layer")

    def turn(self) -> None:
        self.plain.execute("SAVEPOINT turn")
        self.some_statements()
        self.some_transactions()
        if self.chance.random() < 0.15:  # the object is reset
            self.kit.object_storage.discard()
            self.plain.execute("ROLLBACK TO turn")
            self.disk.settle()
            self.wake()
        else:
            self.kit.object_storage.seal()
            if self.chance.random() < 0.7:
                self.disk.settle()
        self.plain.execute("RELEASE turn")
        if self.chance.random() < 0.1:  # it is evicted, or its connection gives way
            self.disk.settle()
            if self.chance.random() < 0.5:
                self.kit.object_storage.discard()
                self.wake()
            else:
                self.database.disconnect()

    def check(self) -> None:
        self.find()
        connection = self.database.use()
        self.database.texts.is_ours = True
        sound = connection.execute("PRAGMA integrity_check").fetchall()
        self.database.texts.is_ours = False
        assert sound == [("ok",)]
        for (name,) in self.plain.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table'"
        ).fetchall():
            self.both(f"SELECT * FROM {name} ORDER BY id")


@pytest.mark.parametrize("seed", range(int(FIRST), int(LAST or FIRST) + 1))
def test_a_database_of_pages_is_like_a_plain_one(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row by row, and sound by SQLite's own judgement."""
    monkeypatch.setattr(database_file, "CACHE_KIB", 8)
    pair = Pair(random.Random(seed))
    for turn in range(TURNS):
        pair.turn()
        if turn % 50 == 49:
            pair.check()
    pair.kit.object_storage.discard()
    pair.connections.close()
