"""The kinds of engine that the suite is run over. One more engine is one more class here.

A kind opens one store, as often as it is asked; what it keeps is there again the next time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from attrs import define, field

from durable._engine.catalog import Catalog
from durable._engine.engine import Engine
from durable._lmdb import layout, long_keys
from durable._lmdb.check import check
from durable._lmdb.environment import Environment
from durable._lmdb.journal.journaled import Journaled
from durable._memory.contents import Contents
from durable._memory.engine import MemoryEngine
from durable._memory.scratch import ScratchEngine
from durable._postgres.connection import Connection
from durable._postgres.engine import PostgresEngine
from tests import postgres

from .kit import Clock


class Kind(Protocol):
    """How engines of one kind are opened, and what they are good for."""

    keeps: bool
    """Whether a store that is opened again has what was committed."""

    rots: bool
    """Whether what is stored can be damaged, by `damage`."""

    holds_a_moment: bool
    """Whether a reader sees one moment until it is released."""

    def open(self, folder: Path, clock: Clock) -> Engine:
        """The store in *folder*, which is made if it is not there."""

    def damage(self, engine: Engine, keyspace: int, key: str) -> None:
        """Change a byte of the value as it is stored."""

    def settle(self, engine: Engine) -> None:
        """Have all that was committed counted by `measure`."""

    def check(self, engine: Engine) -> None:
        """Raise an AssertionError if what is stored is not whole."""


class Lmdb:
    """Files, by LMDB."""

    keeps = rots = holds_a_moment = True

    def open(self, folder: Path, clock: Clock) -> Environment:
        return Environment.open(folder, clock=clock)

    def damage(self, engine: Engine, keyspace: int, key: str) -> None:
        assert isinstance(engine, Environment)

        def change(txn: Any) -> None:
            record = long_keys.find(txn, keyspace, key.encode())
            txn.put(layout.top_level(keyspace) + key.encode(), record[:-5] + b"?" + record[-4:])

        engine.handle.write(change)
        engine.refresh()

    def settle(self, engine: Engine) -> None: ...

    def check(self, engine: Engine) -> None:
        assert isinstance(engine, Environment)
        problems = check(engine)
        assert problems == [], problems


@define
class WithJournal:
    """Files, with a journal in front, whose thread brings things into the file, or not."""

    follows: bool
    keeps = rots = holds_a_moment = True

    def open(self, folder: Path, clock: Clock) -> Journaled:
        return Journaled(Environment.open(folder, clock=clock), clock, follows=self.follows)

    def damage(self, engine: Engine, keyspace: int, key: str) -> None:
        assert isinstance(engine, Journaled)
        engine.bring_in()
        Lmdb().damage(engine.file, keyspace, key)
        engine.refresh()

    def settle(self, engine: Engine) -> None:
        assert isinstance(engine, Journaled)
        engine.bring_in()

    def check(self, engine: Engine) -> None:
        assert isinstance(engine, Journaled)
        engine.bring_in()
        Lmdb().check(engine.file)


@define
class Memory:
    """Nothing but the process."""

    keeps, rots, holds_a_moment = True, False, True
    _contents: Contents = field(factory=lambda: Contents(catalog=Catalog()), init=False)
    _engine: MemoryEngine | None = field(default=None, init=False)

    def open(self, folder: Path, clock: Clock) -> MemoryEngine:
        contents = self._contents if self._engine is None else self._engine.contents
        self._engine = MemoryEngine(clock, str(folder), contents)
        return self._engine

    def damage(self, engine: Engine, keyspace: int, key: str) -> None:
        raise NotImplementedError

    def settle(self, engine: Engine) -> None: ...

    def check(self, engine: Engine) -> None:
        assert isinstance(engine, MemoryEngine)
        contents = engine.contents
        known = {record.keyspace for record in contents.objects.values() if record is not None}
        assert None not in contents.objects.values()
        assert known.issuperset(contents.records)  # no records are left behind
        assert len(known) == len(contents.objects)
        assert sorted(contents.alarms) == list(contents.alarms)


@define
class Scratch:
    """Above another engine, which has an object and a class already."""

    below: Kind
    keeps, rots, holds_a_moment = False, False, True

    def open(self, folder: Path, clock: Clock) -> ScratchEngine:
        self.below.open(folder, clock).close()
        if isinstance(self.below, Lmdb):
            return ScratchEngine(Environment.open_to_read(folder, clock=clock), clock)
        return ScratchEngine(self.below.open(folder, clock), clock)

    def damage(self, engine: Engine, keyspace: int, key: str) -> None:
        raise NotImplementedError

    def settle(self, engine: Engine) -> None: ...

    def check(self, engine: Engine) -> None:
        assert isinstance(engine, ScratchEngine)


@define
class Postgres:
    """Tables of a database. The folder only tells one store from another."""

    keeps, rots, holds_a_moment = True, True, False
    _url: str | None = field(default=None, init=False)

    def open(self, folder: Path, clock: Clock) -> PostgresEngine:
        if self._url is None:
            self._url = postgres.server().new_store()
        connection = Connection(self._url)
        claimed = connection.write(
            "update durable.shards set owner = 1, epoch = epoch + 1 returning shard, epoch"
        )
        connection.close()
        return PostgresEngine.open(self._url, clock, 1, dict(claimed))

    def damage(self, engine: Engine, keyspace: int, key: str) -> None:
        assert isinstance(engine, PostgresEngine)
        connection = Connection(engine.url)
        connection.write(
            "update durable.records set value = set_byte(value, octet_length(value) - 5, 63) "
            "where keyspace = %s and key = %s",
            (keyspace, key.encode()),
        )
        connection.close()

    def settle(self, engine: Engine) -> None: ...

    def check(self, engine: Engine) -> None:
        """No rows are left behind, and no object without any."""
        assert isinstance(engine, PostgresEngine)
        connection = Connection(engine.url)
        [(lost, empty)] = connection.read(
            "select (select count(*) from ("
            "select keyspace from durable.records union select keyspace from durable.sides"
            ") as used where not exists ("
            "select from durable.objects as o where o.keyspace = used.keyspace) and not exists ("
            "select from durable.garbage as g where g.keyspace = used.keyspace)), "
            "(select count(*) from durable.objects as o where due_us is null and not exists ("
            "select from durable.records as r where r.keyspace = o.keyspace) and not exists ("
            "select from durable.sides as s where s.keyspace = o.keyspace))"
        )
        connection.close()
        assert (lost, empty) == (0, 0)

    def drop(self) -> None:
        """The store is not needed any more."""
        if self._url is not None:
            postgres.server().drop(self._url)


def kinds() -> dict[str, Kind]:
    return {
        "lmdb": Lmdb(),
        "lmdb with a journal": WithJournal(follows=True),
        "lmdb behind its journal": WithJournal(follows=False),
        "memory": Memory(),
        "scratch above lmdb": Scratch(Lmdb()),
        "scratch above memory": Scratch(Memory()),
        "postgres": Postgres(),
    }
