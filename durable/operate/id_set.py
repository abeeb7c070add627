"""The set of the objects of a file that were read, in memory that does not grow with the file.

Ids that ascend are all different, and those of an export do: then it suffices to know the last one.
A file in any other order is read once more from its beginning, and its ids are put into a temporary
database on the disk.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Protocol

from attrs import define, field

from durable._engine.catalog import Naming
from durable._model.ids import BASE_SIZE

CACHE_KIB = 8_192


class NotAscending(Exception):
    """The ids of the file do not ascend, so their order does not prove that they differ."""


class Seen(Protocol):
    def add(self, naming: Naming, unique_key: str, id: bytes, name: str | None) -> bool:
        """Add an object that goes into the class *naming*, and comes from that of *unique_key*.

        Returns whether no other was added that is the same, or would be the same there.
        """


@define(eq=False)
class Ascending:
    """Relies on the order. Raises NotAscending."""

    _last: dict[Naming, tuple[str, bytes]] = field(factory=dict)

    def add(self, naming: Naming, unique_key: str, id: bytes, name: str | None) -> bool:
        last = self._last.get(naming)
        if last is not None:
            key, last_id = last
            if key != unique_key or id < last_id:
                raise NotAscending
            if id == last_id:
                return False
        self._last[naming] = unique_key, id
        return True


@define(eq=False)
class OnDisk:
    """Accepts any order."""

    _database: sqlite3.Connection

    def add(self, naming: Naming, unique_key: str, id: bytes, name: str | None) -> bool:
        target = f"id {id[:BASE_SIZE].hex()}" if name is None else f"name {name}"
        try:
            self._database.execute(
                "INSERT INTO seen VALUES (?1, ?2), (?1, ?3)",
                (repr(naming), f"of {unique_key} {id.hex()}", target),
            )
        except sqlite3.IntegrityError:
            return False
        except sqlite3.Error as error:
            raise OSError(
                f"the ids of the file do not ascend, and the temporary database to compare them "
                f"cannot be written: {error}; set TMPDIR to a folder with more room"
            ) from error
        return True


@contextmanager
def on_disk() -> Iterator[OnDisk]:
    """In a file without a name, which is gone at the end whatever happens."""
    with closing(sqlite3.connect("", isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = OFF")
        database.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        database.execute(
            "CREATE TABLE seen (class, object, PRIMARY KEY (class, object)) WITHOUT ROWID"
        )
        database.execute("BEGIN")
        yield OnDisk(database)
