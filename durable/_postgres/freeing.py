"""A commit that only deletes, where the database has no room: it makes no row, and no new version
of one.

Usually a group notes what it clears as garbage, and writes the row of an object before it finds
that nothing is left of it. Here the rows themselves are deleted, in the same transaction.
"""

from __future__ import annotations

from typing import Final

from durable._model.cluster_errors import ObjectSuperseded

from .arrays import Bigints, Byteas, Integers
from .connection import Connection
from .group import Freed

_FENCE: Final = (
    "select had.shard from unnest(%s::integer[], %s::bigint[]) as wanted (shard, epoch) "
    "join durable.shards as had on had.shard = wanted.shard "
    "and had.epoch = wanted.epoch and had.owner = %s order by had.shard for share of had"
)
_CLEARED: Final = (
    "delete from durable.records where keyspace = any(%s::bigint[])",
    "delete from durable.sides where keyspace = any(%s::bigint[])",
)
_DELETED: Final = (
    "delete from durable.records as r using unnest(%s::bigint[], %s::bytea[]) as gone "
    "(keyspace, key) where r.keyspace = gone.keyspace and r.key = gone.key",
    "delete from durable.sides as r using unnest(%s::bigint[], %s::bytea[]) as gone "
    "(keyspace, key) where r.keyspace = gone.keyspace and r.key = gone.key",
)
# That their alarms are gone is known.
_EMPTY: Final = (
    "delete from durable.objects as known "
    "using unnest(%s::integer[], %s::bytea[]) with ordinality as maybe (class_number, base, place) "
    "where known.class_number = maybe.class_number and known.base = maybe.base "
    "and known.history = 0 "
    "and not exists (select from durable.records as r where r.keyspace = known.keyspace) "
    "and not exists (select from durable.sides as s where s.keyspace = known.keyspace) "
    "returning maybe.place"
)


class NoRoom(Exception):
    """The row of an object has to be changed, which takes room."""


def free(
    connection: Connection, process: int, shards: list[int], epochs: list[int], freed: Freed
) -> list[int]:
    """Commit *freed*; returns the places of the objects of which nothing is left, from 1. Raises
    NoRoom, and what `Connection.transaction` raises; nothing is stored then."""
    with connection.transaction() as run:
        if len(run(_FENCE, [Integers(shards), Bigints(epochs), process])) < len(shards):
            raise ObjectSuperseded("another process owns a shard of the commit by now")
        for sql in _CLEARED:
            run(sql, [Bigints(freed.cleared)])
        for sql, gone in zip(_DELETED, (freed.keys, freed.sides), strict=True):
            run(sql, [Bigints([each for each, _ in gone]), Byteas([key for _, key in gone])])
        objects = freed.maybe_empty
        numbers, bases = [number for number, _ in objects], [base for _, base in objects]
        places = [place for (place,) in run(_EMPTY, [Integers(numbers), Byteas(bases)])]
        if not freed.changed <= {objects[place - 1] for place in places}:
            raise NoRoom
        return places
