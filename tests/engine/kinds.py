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
from durable._memory.contents import Contents
from durable._memory.engine import MemoryEngine
from durable._memory.scratch import ScratchEngine

from .kit import Clock


class Kind(Protocol):
    """How engines of one kind are opened, and what they are good for."""

    keeps: bool
    """Whether a store that is opened again has what was committed."""

    rots: bool
    """Whether what is stored can be damaged, by `damage`."""

    def open(self, folder: Path, clock: Clock) -> Engine:
        """The store in *folder*, which is made if it is not there."""

    def damage(self, engine: Engine, keyspace: int, key: str) -> None:
        """Change a byte of the value as it is stored."""

    def check(self, engine: Engine) -> None:
        """Raise an AssertionError if what is stored is not whole."""


class Lmdb:
    """Files, by LMDB."""

    keeps = rots = True

    def open(self, folder: Path, clock: Clock) -> Environment:
        return Environment.open(folder, clock=clock)

    def damage(self, engine: Engine, keyspace: int, key: str) -> None:
        assert isinstance(engine, Environment)

        def change(txn: Any) -> None:
            record = long_keys.find(txn, keyspace, key.encode())
            txn.put(layout.top_level(keyspace) + key.encode(), record[:-5] + b"?" + record[-4:])

        engine.handle.write(change)
        engine.refresh()

    def check(self, engine: Engine) -> None:
        assert isinstance(engine, Environment)
        assert check(engine) == []


@define
class Memory:
    """Nothing but the process."""

    keeps, rots = True, False
    _contents: Contents = field(factory=lambda: Contents(catalog=Catalog()), init=False)
    _engine: MemoryEngine | None = field(default=None, init=False)

    def open(self, folder: Path, clock: Clock) -> MemoryEngine:
        contents = self._contents if self._engine is None else self._engine.contents
        self._engine = MemoryEngine(clock, str(folder), contents)
        return self._engine

    def damage(self, engine: Engine, keyspace: int, key: str) -> None:
        raise NotImplementedError

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
    keeps, rots = False, False

    def open(self, folder: Path, clock: Clock) -> ScratchEngine:
        self.below.open(folder, clock).close()
        if isinstance(self.below, Lmdb):
            return ScratchEngine(Environment.open_to_read(folder, clock=clock), clock)
        return ScratchEngine(self.below.open(folder, clock), clock)

    def damage(self, engine: Engine, keyspace: int, key: str) -> None:
        raise NotImplementedError

    def check(self, engine: Engine) -> None:
        assert isinstance(engine, ScratchEngine)


def kinds() -> dict[str, Kind]:
    return {
        "lmdb": Lmdb(),
        "memory": Memory(),
        "scratch above lmdb": Scratch(Lmdb()),
        "scratch above memory": Scratch(Memory()),
    }
