"""The newest primary of a database that this process knows of, so that none before it is asked.

A standby that takes its primary's place begins a timeline, with a higher number. The former primary
may live on, if it was paused, or cut off. It confirms nothing any more, but it would answer what
only reads, with what it had by then.

Rule: once a connection of this process has led to a primary, none is used that leads to one of an
older timeline.
"""

from __future__ import annotations

import threading
from typing import Any, Final

from attrs import define, field
from psycopg import Connection, errors

# Null while the server is a standby.
_WAL_FILE: Final = (
    "select case when not pg_is_in_recovery() then pg_walfile_name(pg_current_wal_lsn()) end"
)
# The timeline is the first part of the name of a file of the log, in hexadecimal digits.
_DIGITS: Final = 8
# Not every service that speaks as PostgreSQL does has such files, or shows them.
_NOT_SAID: Final = (
    errors.FeatureNotSupported,
    errors.InsufficientPrivilege,
    errors.UndefinedFunction,
)


def timeline_of(connection: Connection[Any]) -> int | None:
    """That of a server; None if it is a standby, or does not say. Raises psycopg.Error."""
    try:
        [(name,)] = connection.execute(_WAL_FILE).fetchall()
    except _NOT_SAID:
        return None
    return None if name is None else int(name[:_DIGITS], 16)


@define(eq=False)
class NewestPrimary:
    """Shared by all connections of a process with a store; any thread may use it."""

    _timeline: int = field(default=0, init=False)
    # Its place among the servers that the URL names; None while it is not known, or in doubt.
    place: int | None = field(default=None, init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False)

    def accepts(self, timeline: int | None) -> bool:
        """Whether a server of that timeline may be used; others then may not, if it is newer."""
        if timeline is None or timeline == self._timeline:
            return True
        with self._lock:
            if timeline < self._timeline:
                return False
            self._timeline = timeline
            return True

    def found(self, place: int) -> None:
        """It is the server at *place*: all were asked."""
        with self._lock:
            self.place = place

    def doubt(self, place: int) -> None:
        """The server at *place* has ended a connection, or says nothing: if it was the newest
        primary, another one may be by now."""
        with self._lock:
            if self.place == place:
                self.place = None

    def forget(self) -> None:
        """Accept any: one of those that come next confirms a write, and counts from then on."""
        with self._lock:
            self._timeline, self.place = 0, None

    def __repr__(self) -> str:
        return f"<NewestPrimary of timeline {self._timeline}>"
