"""A copy of a store into a database: how far it has come, so that it can go on when interrupted.

While a copy grows its database cannot be opened: a row of `durable.meta` names the store that is
copied, and the last object that was.
"""

from __future__ import annotations

import json

from attrs import define, field

from durable._model.errors import DurableError

from .connection import Connection
from .schema import read_meta

Place = tuple[int, bytes]
"""Class number and base of an object."""


@define(eq=False)
class Growing:
    """A growing copy in the database at *url*."""

    url: str
    source: str  # the store that is copied
    _connection: Connection = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._connection = Connection(self.url)

    def begin(self) -> Place | None:
        """Begin, or go on; returns the last object that was copied. Raises DurableError if the
        database has objects of its own, or a copy of another store."""
        said = read_meta(self._connection, may_grow=True).copying
        if said is None:
            [(has_some,)] = self._connection.read(
                "select exists (select from durable.objects) "
                "or exists (select from durable.classes)"
            )
            if has_some:
                raise DurableError(
                    f"the database {self._connection.path!r} has a store already, and a copy is "
                    f"made only where nothing is; give another database"
                )
            self._say(None)
            return None
        found = json.loads(said)
        if found["source"] != self.source:
            raise DurableError(
                f"the database {self._connection.path!r} has part of a copy of another store, "
                f"{found['source']}; give another database"
            )
        place = found["place"]
        after = None if place is None else (place[0], bytes.fromhex(place[1]))
        self._take_away_behind(after or (-1, b""))
        return after

    def _take_away_behind(self, after: Place) -> None:
        """Delete what was copied after the last recorded place; it is copied again."""
        self._connection.write(
            "with gone as (delete from durable.objects where (class_number, base) > (%s, %s) "
            "returning keyspace) "
            "insert into durable.garbage select keyspace from gone on conflict do nothing",
            after,
        )

    def reached(self, place: Place) -> None:
        """All objects up to this one are copied."""
        self._say(place)

    def _say(self, place: Place | None) -> None:
        said = {"source": self.source, "place": place and [place[0], place[1].hex()]}
        self._connection.write(
            "insert into durable.meta (key, value) values ('copying', %s) "
            "on conflict (key) do update set value = excluded.value",
            (json.dumps(said).encode(),),
        )

    def end(self) -> None:
        """The copy is complete: the database is a store."""
        self._connection.write("delete from durable.meta where key = 'copying'")

    def close(self) -> None:
        self._connection.close()
