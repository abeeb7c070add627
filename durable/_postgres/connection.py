"""One connection to the database, for one thread at a time; it is made anew after it was lost.

There is no session state: each statement is a transaction of its own, unless it stands in a
`transaction` block, no statement is prepared on the server, and nothing is SET. So a pooler in
transaction mode may stand between.

Rule: a read whose connection was lost is repeated once, on a new one. A write is not: it may have
been carried out, and raises `Lost`. Nor is a read to which the server said nothing: the event loop
may be waiting.

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
from psycopg.errors import lookup
from psycopg.pq import DiagnosticField, ExecStatus, error_message
from psycopg.pq.abc import PGresult

from durable._model.clock import SystemClock
from durable._model.cluster_errors import StoreUnavailable
from durable._model.database_url import shown
from durable._model.errors import RuntimeClosed, WrongLoop

from .listening import ListeningConnection, Silence
from .newest_primary import NewestPrimary
from .postgres_errors import Lost, refusal, unavailable
from .reaching import reach

Rows = list[tuple[Any, ...]]
Params = Sequence[Any] | Mapping[str, Any]

# How long the server may say nothing, in seconds; and to a statement that reads a whole table.
SILENCE_S_MAX: Final = 30.0
LONG_SILENCE_S_MAX: Final = 900.0

# The server ends the session, or is not one that can be written to: there may be another one.
_GONE: Final = frozenset({"57P01", "57P02", "57P03", "57P05", "25006"})

# The server's function that gives this warning, in whatever language.
_WAITS_FOR_STANDBYS: Final = "SyncRepWaitForLSN"


@define(eq=False, repr=False)
class Connection:
    """Statements for one database. Blocks, no longer than the server says nothing for
    `silence_s_max`; any thread may use it, one at a time.

    With *rests*, a server that said nothing is not asked again for half as long as it was waited
    for: so a loop whose thread asks it runs for a third of the time at least."""

    url: str
    silence_s_max: float = SILENCE_S_MAX
    _rests: bool = False
    # Shared with the other connections of this process, so that none stays with a former primary.
    _newest: NewestPrimary | None = None
    # By the steady clock: until when nothing is asked.
    _rests_until: float = field(default=0.0, init=False)
    path: str = field(init=False)  # its name in messages
    _connection: ListeningConnection | None = field(default=None, init=False)
    # The place of its server among those of the URL, and its timeline.
    _server: int = field(default=0, init=False)
    _timeline: int | None = field(default=None, init=False)
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
            except Lost as lost:
                if isinstance(lost.__cause__, Silence):
                    raise unavailable(self.path, lost.__cause__) from lost.__cause__
                try:
                    return self._execute(sql, params, is_read=True)
                except Lost as error:
                    raise unavailable(self.path, error.__cause__) from error.__cause__

    def read_long(self, sql: LiteralString, params: Params = ()) -> Rows:
        """As `read`, for what takes the server long, since it reads a whole table."""
        with self._lock:
            usual, self.silence_s_max = self.silence_s_max, LONG_SILENCE_S_MAX
            try:
                return self.read(sql, params)
            finally:
                self.silence_s_max = usual

    def write(self, sql: LiteralString, params: Params = ()) -> Rows:
        """Run a statement in a transaction of its own, and return its rows. Raises StoreUnavailable
        if it was not sent, Lost if its outcome is unknown, and StoreFull, ObjectSuperseded or
        CommitFailed if nothing of it is stored."""
        with self._lock:
            return self._execute(sql, params)

    def call(self, sql: bytes, params: Sequence[bytes], types: Sequence[int]) -> None:
        """As `write`, for a function that returns nothing. *params* are as the server reads them,
        in its binary form, of *types* by its numbers: psycopg takes longer to make them than the
        server for a small commit, and the server to find out their types."""
        with self._lock:
            connection = self._open()
            with self._refusals(connection):
                connection.send(sql, params, types)
                _check(connection.results())

    def begin(self, sql: bytes, params: Sequence[bytes], types: Sequence[int]) -> bool:
        """As `call`, but only sends it, and returns: nothing else may be asked until `has_ended`
        says so. False if there is no connection with the primary now; then nothing was sent."""
        connection = self._connection
        if connection is None or self._pid != os.getpid() or not self._is_of_newest():
            return False
        with self._lock:
            self._start(connection)
            try:
                connection.send(sql, params, types)
            except BaseException as error:
                self._drop()  # it may have been sent, and its answer be taken for another one's
                if isinstance(error, psycopg.Error):
                    raise Lost(self.path, error) from error
                raise
            return True

    @property
    def present(self) -> object:
        """The connection there is now; None if there is none."""
        return self._connection

    def fileno(self) -> int:
        """The descriptor of the connection, where something was begun."""
        assert self._connection is not None
        return self._connection.fileno()

    def has_ended(self, *, may_wait: bool) -> bool:
        """Whether what was begun has ended; raises as `write` does. Waits for it only if it may."""
        with self._lock:
            connection = self._connection
            assert connection is not None
            try:
                results = connection.results() if may_wait else connection.heard()
                if results is None:
                    return False
                _check(results)
            except psycopg.Error as error:
                raise self._failure(connection, error) from error
            except BaseException as error:
                self._drop()  # its answer may still come
                raise Lost(self.path, error) from error
            self._check_confirmed()
            return True

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

    def begin_anew(self) -> None:
        """Let the next statement look for the server again."""
        with self._lock:
            self._drop()

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
        self, connection: ListeningConnection, *, is_read: bool = False
    ) -> Iterator[None]:
        self._start(connection)
        began_s = SystemClock.steady()
        try:
            yield
        except psycopg.Error as error:
            failure = self._failure(connection, error, is_read=is_read)
            if isinstance(error, Silence):
                self._rest(began_s)
            raise failure from error
        except BaseException:
            if connection.closed:
                self._drop()
            raise
        self._check_confirmed()

    def _start(self, connection: ListeningConnection) -> None:
        self._unconfirmed = None
        connection.silence_s_max = self.silence_s_max

    def _failure(
        self, connection: ListeningConnection, error: psycopg.Error, *, is_read: bool = False
    ) -> Exception:
        if connection.closed or error.sqlstate in _GONE:
            self._drop()
            if self._newest is not None:
                self._newest.doubt(self._server)
            return Lost(self.path, error)
        return refusal(self.path, error, is_read=is_read)

    def _check_confirmed(self) -> None:
        if self._unconfirmed is not None:
            raise Lost(self.path, self._unconfirmed) from self._unconfirmed

    def _hear(self, notice: psycopg.errors.Diagnostic) -> None:
        if notice.source_function == _WAITS_FOR_STANDBYS:
            self._unconfirmed = psycopg.Warning(notice.message_primary)

    def _open(self) -> ListeningConnection:
        if self._is_closed:
            raise RuntimeClosed(f"the store {self.path!r} is closed; open it again")
        if self._pid != os.getpid():
            raise WrongLoop(f"the store {self.path!r}")
        if self._connection is not None and not self._is_of_newest():
            self._drop()
        if self._connection is None:
            began_s = SystemClock.steady()
            if began_s < self._rests_until:
                raise unavailable(self.path, Silence("it said nothing just now"))
            try:
                self._connect()
            except StoreUnavailable as error:
                if isinstance(error.__cause__, psycopg.errors.ConnectionTimeout | Silence):
                    self._rest(began_s)
                raise
        assert self._connection is not None
        return self._connection

    def _connect(self) -> None:
        reached = reach(self.url, self.silence_s_max, self._newest)
        self._server, self._timeline = reached.place, reached.timeline
        connection = self._connection = reached.connection
        connection.add_notice_handler(self._hear)
        connection.is_overtaken = lambda: not self._is_of_newest()

    def _is_of_newest(self) -> bool:
        return self._newest is None or self._newest.accepts(self._timeline)

    def _rest(self, began_s: float) -> None:
        if self._rests:
            now_s = SystemClock.steady()
            self._rests_until = now_s + (now_s - began_s) / 2

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "open" if self._connection else "not connected"
        return f"<Connection {state} {self.path!r}>"


def _check(results: Sequence[PGresult]) -> None:
    """Raise if the server has refused a call."""
    if results[-1].status != ExecStatus.TUPLES_OK:
        raise _error_of(results[-1])


def _error_of(result: PGresult) -> psycopg.Error:
    """What psycopg would have raised."""
    text = error_message(result)
    state = result.error_field(DiagnosticField.SQLSTATE)
    if state is None:
        return psycopg.OperationalError(text)
    try:
        return lookup(state.decode())(text)
    except KeyError:
        error = psycopg.DatabaseError(text)
        error.sqlstate = state.decode()
        return error
