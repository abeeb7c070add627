"""The connections of all databases of a runtime: opened when one is asked, closed to make room.

An open connection takes 160 KB and is opened in 0.1 ms, so a runtime keeps a bounded number of
them. One that is closed costs its object nothing.
"""

from __future__ import annotations

from typing import Protocol

import apsw
from attrs import define, field

from durable._model.limits import Limits

from .pages import Pages
from .read_ahead import ReadAhead
from .rules import limits_of
from .vfs import PageFiles


class Connected(Protocol):
    """A database that has a connection."""

    @property
    def is_in_turn(self) -> bool:
        """It has written in a turn that has not ended: its connection cannot be closed."""
        raise NotImplementedError

    @property
    def is_read(self) -> bool:
        """Cursors of it have rows that were not read; asked outside of a turn that has written."""
        raise NotImplementedError

    def disconnect(self) -> None:
        """Close the connection."""


@define(eq=False)
class Connections:
    """Those of one runtime."""

    limits: Limits
    _files: PageFiles
    # The one used longest ago first.
    _connected: dict[Connected, None] = field(factory=dict, init=False)
    latest: Connected | None = field(default=None, init=False)
    read_ahead: ReadAhead = field(factory=ReadAhead, init=False)
    # What each of them is given, as SQLite calls it.
    sqlite_limits: tuple[tuple[int, int], ...] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.sqlite_limits = tuple(limits_of(self.limits).items())

    def __len__(self) -> int:
        return len(self._connected)

    def open(self, database: Connected, pages: Pages) -> apsw.Connection:
        """A new connection for *database*; the one used longest ago may have to go for it."""
        if len(self._connected) >= self.limits.sql_connections_max:
            self._make_room()
        connection = self._files.connect(pages)
        self._connected[database] = None
        self.latest = database
        return connection

    def touch(self, database: Connected) -> None:
        """*database* is the one used last."""
        del self._connected[database]
        self._connected[database] = None
        self.latest = database

    def closed(self, database: Connected) -> None:
        self._connected.pop(database, None)
        if self.latest is database:
            self.latest = None

    def _make_room(self) -> None:
        idle = [each for each in self._connected if not each.is_in_turn]
        chosen = next((each for each in idle if not each.is_read), None)
        if chosen is None and idle:
            chosen = idle[0]
        if chosen is not None:
            chosen.disconnect()

    def close(self) -> None:
        """The runtime is closed, and no object uses a database any more."""
        for database in list(self._connected):
            database.disconnect()
        self._files.unregister()
