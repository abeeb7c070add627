"""One connection to the database, for one thread at a time; it is made anew after it was lost.

There is no session state: each statement is a transaction of its own, unless it stands in a
`transaction` block, no statement is prepared on the server, and nothing is SET. So a pooler in
transaction mode may stand between.

Rule: a read whose connection was lost is repeated once, on a new one. A write is not: it may have
been carried out, and raises `Lost`.

Rule: a commit for which the server has stopped waiting for its synchronous standby counts as lost,
too. The server reports that by a warning only, when an operator has cancelled the statement.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, LiteralString

import psycopg
from attrs import define, field
from psycopg.conninfo import conninfo_to_dict

from durable._model.database_url import shown
from durable._model.errors import RuntimeClosed, WrongLoop

from .arrays import let_send_arrays
from .postgres_errors import Lost, refusal, unavailable

Rows = list[tuple[Any, ...]]
Params = Sequence[Any] | Mapping[str, Any]

# Defaults for what the URL does not say. A silent network is noticed within this time: the event
# loop may be waiting for an answer.
DEFAULTS: Final = {
    "application_name": "durable",
    "connect_timeout": "5",
    "target_session_attrs": "read-write",  # of several hosts the primary
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",  # ms
}

# The server ends the session, or is not one that can be written to: there may be another one.
_GONE: Final = frozenset({"57P01", "57P02", "57P03", "57P05", "25006"})

# The server's function that gives this warning, in whatever language.
_WAITS_FOR_STANDBYS: Final = "SyncRepWaitForLSN"


@define(eq=False, repr=False)
class Connection:
    """Statements for one database. Blocks; any thread may use it, one at a time."""

    url: str
    path: str = field(init=False)  # its name in messages
    _connection: psycopg.Connection[Any] | None = field(default=None, init=False)
    _lock: threading.RLock = field(factory=threading.RLock, init=False)
    _is_closed: bool = field(default=False, init=False)
    # Why the last statement's commit is not known to be on the standby.
    _unconfirmed: psycopg.Warning | None = field(default=None, init=False)
    _pid: int = field(factory=os.getpid, init=False)

    def __attrs_post_init__(self) -> None:
        self.path = shown(self.url)

    def read(self, sql: LiteralString, params: Params = ()) -> Rows:
        """The rows of a statement that changes nothing. Raises StoreUnavailable, and DurableError
        for an error of the server's."""
        with self._lock:
            try:
                return self._execute(sql, params, is_read=True)
            except Lost:
                try:
                    return self._execute(sql, params, is_read=True)
                except Lost as error:
                    raise unavailable(self.path, error.__cause__) from error.__cause__

    def write(self, sql: LiteralString, params: Params = ()) -> Rows:
        """Run a statement in a transaction of its own, and return its rows. Raises StoreUnavailable
        if it was not sent, Lost if its outcome is unknown, and StoreFull, ObjectSuperseded or
        CommitFailed if nothing of it is stored."""
        with self._lock:
            return self._execute(sql, params)

    @contextmanager
    def transaction(self) -> Iterator[Callable[..., Rows]]:
        """A transaction of several statements: yields what runs one. Raises as `write` does."""
        with self._lock:
            connection = self._open()
            with self._refusals(connection), connection.transaction():

                def run(sql: LiteralString, params: Params = ()) -> Rows:
                    cursor = connection.execute(sql, params, binary=True)
                    return cursor.fetchall() if cursor.description else []

                yield run

    def close(self) -> None:
        """Close it; every call raises RuntimeClosed from now on."""
        self._is_closed = True
        if self._pid == os.getpid():
            with self._lock:
                self._drop()

    def _execute(self, sql: LiteralString, params: Params, *, is_read: bool = False) -> Rows:
        connection = self._open()
        with self._refusals(connection, is_read=is_read):
            cursor = connection.execute(sql, params, binary=True)
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def _refusals(
        self, connection: psycopg.Connection[Any], *, is_read: bool = False
    ) -> Iterator[None]:
        self._unconfirmed = None
        try:
            yield
        except psycopg.Error as error:
            if connection.closed or error.sqlstate in _GONE:
                self._drop()
                raise Lost(self.path, error) from error
            raise refusal(self.path, error, is_read=is_read) from error
        except BaseException:
            if connection.closed:
                self._drop()
            raise
        if self._unconfirmed is not None:
            raise Lost(self.path, self._unconfirmed) from self._unconfirmed

    def _hear(self, notice: psycopg.errors.Diagnostic) -> None:
        if notice.source_function == _WAITS_FOR_STANDBYS:
            self._unconfirmed = psycopg.Warning(notice.message_primary)

    def _open(self) -> psycopg.Connection[Any]:
        if self._is_closed:
            raise RuntimeClosed(f"the store {self.path!r} is closed; open it again")
        if self._pid != os.getpid():
            raise WrongLoop(f"the store {self.path!r}")
        if self._connection is None:
            self._connection = connect(self.url)
            self._connection.add_notice_handler(self._hear)
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "open" if self._connection else "not connected"
        return f"<Connection {state} {self.path!r}>"


def connect(url: str) -> psycopg.Connection[Any]:
    """A connection of psycopg's. Raises StoreUnavailable; ValueError for an invalid URL."""
    try:
        said = conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        raise ValueError(f"{shown(url)!r} is not a valid URL of a database: {error}") from error
    options: dict[str, Any] = {name: value for name, value in DEFAULTS.items() if name not in said}
    try:
        made = psycopg.connect(url, autocommit=True, prepare_threshold=None, **options)
    except psycopg.Error as error:
        raise unavailable(shown(url), error) from error
    let_send_arrays(made)
    return made
