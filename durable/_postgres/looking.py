"""Who has a store in a database, as a command reads it that is none of its processes."""

from __future__ import annotations

from contextlib import closing
from typing import Final

from durable._engine.shards import Owned, Process

from .connection import Connection
from .machine import control_folder, is_gone, this_machine
from .schema import read_meta

_PROCESSES: Final = (
    "select name, pid, address, version, is_alone, state, machine from durable.processes "
    "where expires > clock_timestamp() order by id"
)
_OWNERS: Final = (
    "select p.name, s.epoch from durable.shards as s "
    "left join durable.processes as p on p.id = s.owner order by s.shard"
)


def processes_of(url: str) -> list[tuple[Process, str | None]]:
    """The processes that have the store, each with the folder of its control socket; None for one
    of another machine. Raises StoreUnavailable; FileNotFoundError where the database has none."""
    here = this_machine()
    with closing(Connection(url)) as connection:
        read_meta(connection, may_grow=True, may_be_moved=True)
        return [
            (Process(*said), control_folder(said[0]) if here and machine == here else None)
            for *said, machine in connection.read(_PROCESSES)
            if not is_gone(said[1], machine)
        ]


def owners_of(url: str) -> list[Owned]:
    """The owners of the shards, present or last. Raises as `processes_of` does."""
    with closing(Connection(url)) as connection:
        return [Owned(owner, epoch) for owner, epoch in connection.read(_OWNERS)]
