"""The database of one object: a connection while it is in use, and the turn's transaction.

The first statement of a turn that writes begins a transaction of SQLite, and the end of the turn
commits it: what SQLite then writes of pages is part of the turn's batch. A statement that is known
to be the only one of its turn is a transaction by itself, which spares SQLite two statements; if
another one follows after all, that begins one, and both are in the batch. A transaction of the
object is a savepoint, made when SQL is first written in it.

Rule: SQLite undoes a whole transaction by itself in some cases, and the keys of the turn stay. Then
the object is reset, so that neither is stored.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final, cast

import apsw
from attrs import define, field

from durable._engine.page_packing import PAGE_SIZE, RESERVED
from durable._model.errors import DurableError, ObjectReset, StoreDamaged
from durable._model.storage_errors import SqlError

from ..records import Records
from .connections import Connections
from .failures import CONSTRAINTS_VIOLATED, TURN_UNDONE, sql_error
from .pages import Pages
from .statements import ONLY_THE_LAST_BINDS, Statement, ask_all, check_bindings
from .texts import Texts
from .time_limit import STEPS_PER_LOOK, TimeLimit

if TYPE_CHECKING:
    from ..savepoint import Savepoint
    from ..write_buffer import WriteBuffer

Rows = tuple[apsw.Cursor, Statement]

# The statements that a connection remembers are found by their text, and no authorizer is asked
# about those: so ours must not be what an object could write.
_MARK: Final = f"/*{secrets.token_hex(8)}*/"
_BEGIN: Final = "BEGIN" + _MARK
_COMMIT: Final = "COMMIT" + _MARK
_ROLLBACK: Final = "ROLLBACK" + _MARK

# By these SQLite undoes the whole transaction, and not only the statement.
_UNDOES_ALL: Final = (apsw.FullError, apsw.InterruptError, apsw.IOError, apsw.NoMemError)

_WRITES: Final = apsw.SQLITE_TXN_WRITE
CACHE_KIB: Final = 256


@define(eq=False, slots=True)
class Database:
    """One object's. Nothing here suspends."""

    _records: Records
    connections: Connections
    _pages: Pages
    connection: apsw.Connection | None = field(default=None, init=False)
    # Runs what is a transaction by itself, and has no rows.
    _writer: apsw.Cursor | None = field(default=None, init=False)
    # How many rows were changed when that had run, if nothing else has written since.
    _changes_then: int | None = field(default=None, init=False)
    # `ctx.storage.sql`, as long as this is the object's database.
    sql: Any = field(default=None, init=False)
    texts: Texts = field(factory=Texts, init=False)
    # A transaction of SQLite is under way, which ends with the turn.
    _has_begun: bool = field(default=False, init=False)
    # The statement that was a transaction by itself, if the turn has begun with one.
    _alone: Statement | None = field(default=None, init=False)
    # The transaction of the object, if there was one, in which the turn began to write.
    _begun_in: Savepoint | None = field(default=None, init=False)
    # The transactions of the object that have a savepoint, and its name; None in place of one
    # that has ended before those above it.
    _names: list[tuple[Savepoint | None, str]] = field(factory=list, init=False)
    limit: TimeLimit = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.limit = TimeLimit(self.connections.limits.sql_s_max)

    @classmethod
    def of(cls, records: Records, connections: Connections) -> Database:
        """The database of the object whose records these are."""
        written_max = connections.limits.sql_turn_bytes_max // PAGE_SIZE
        pages = Pages(records, written_max, connections.read_ahead)
        database = cls(records, connections, pages)
        records.buffer.database = database
        return database

    def successor(self, sql: Any) -> Database:
        """The object's database: this one again, for *sql*, unless another has taken its place."""
        buffer = self._records.buffer
        if buffer.database is None:
            buffer.database, self.sql = self, sql
        return cast("Database", buffer.database)

    # The connection

    @property
    def is_in_turn(self) -> bool:
        return self._has_begun or bool(self._pages.written)

    @property
    def is_read(self) -> bool:
        connection = self.connection
        return connection is not None and connection.txn_state() == apsw.SQLITE_TXN_READ

    def use(self) -> apsw.Connection:
        connection = self.connection
        if connection is not None:
            if self.connections.latest is not self:
                self.connections.touch(self)
            return connection
        try:
            self._pages.look()
        except StoreDamaged as error:
            raise self._records.damaged(error) from error
        try:
            connection = self.connection = self.connections.open(self, self._pages)
            self._set_up(connection)
        except BaseException:
            self.disconnect()
            raise
        return connection

    def _set_up(self, connection: apsw.Connection) -> None:
        limits = self.connections.limits
        pragmas = [
            "locking_mode=EXCLUSIVE",
            "journal_mode=MEMORY",
            "synchronous=OFF",
            "temp_store=MEMORY",
            f"cache_size=-{CACHE_KIB}",
            f"max_page_count={max(1, limits.sql_size_max // PAGE_SIZE)}",
        ]
        if not self._pages.count:
            connection.reserve_bytes(reserve=RESERVED)
            pragmas.insert(0, f"page_size={PAGE_SIZE}")
        connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
        connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
        connection.config(apsw.SQLITE_DBCONFIG_ENABLE_FKEY, 1)
        pragmas += [f"{name}={value}" for name, value in self.texts.switches.items()]
        ask_all(connection, *pragmas)
        for limit, value in self.connections.sqlite_limits:
            connection.limit(limit, value)
        connection.authorizer = self.texts.authorize
        connection.set_progress_handler(self.limit.is_over, STEPS_PER_LOOK)

    def disconnect(self) -> None:
        """Close the connection. What the turn has written by it is gone."""
        connection, self.connection = self.connection, None
        self._has_begun, self._begun_in, self._alone = False, None, None
        self._writer = self._changes_then = None
        self._names.clear()
        self.texts.forget()
        self._pages.forget_turn()
        if connection is not None:
            self.connections.closed(self)
            # What SQLite still writes is of a transaction that is undone, and the pages forget it.
            connection.close(True)
        self._pages.rest()
        if not self.texts.switches:
            self._let_go()

    def _let_go(self) -> None:
        """Without a connection the object costs no more than one that has no database."""
        buffer, self.sql = self._records.buffer, None
        if buffer.database is self:
            buffer.database = None

    # Statements of the object

    def run(self, text: str, bindings: tuple[Any, ...]) -> Rows:
        """Run *text*: all of its statements but the last to their end, and the last one too, if it
        writes. Returns where its rows are read, and the statement."""
        connection = self.connection
        if connection is None or self.connections.latest is not self:
            connection = self.use()
        statements = self.texts.known(text)
        if statements is None:
            return self._run_new(connection, text, bindings)
        for statement in statements[:-1]:
            self.execute(connection, statement, ()).fetchall()
        last = statements[-1]
        check_bindings(last, len(bindings))
        return self.execute(connection, last, bindings), last

    def _run_new(self, connection: apsw.Connection, text: str, bindings: tuple[Any, ...]) -> Rows:
        texts = self.texts
        statements: list[Statement] = []
        rest = text
        if "pragma" in text.lower() and self._pages.written and not self._has_begun:
            # SQLite obeys some pragmas as it looks at them, and others not in a transaction; for
            # the object what the turn has written is in one.
            self._begin()
        while True:
            try:
                statement, rest = texts.look_at(connection, rest)
            except apsw.Error as error:
                raise texts.refusal or self.failed(error) from error
            statements.append(statement)
            if not rest:
                break
            if statement.bindings:
                raise SqlError(ONLY_THE_LAST_BINDS)
            self.execute(connection, statement, ()).fetchall()
        check_bindings(statement, len(bindings))
        cursor = self.execute(connection, statement, bindings)
        texts.remember(connection, text, statements)
        return cursor, statement

    def execute(
        self, connection: apsw.Connection, statement: Statement, bindings: tuple[Any, ...]
    ) -> apsw.Cursor:
        """Run *statement*, which was looked at. Returns where its rows are read."""
        buffer = self._records.buffer
        is_first = False
        if not statement.only_reads:
            if statement.is_alone and self.execute_alone(connection, statement, bindings) >= 0:
                assert self._writer is not None
                return self._writer
            self._changes_then = None
            savepoints = buffer.savepoints
            is_first = not (savepoints or buffer.output.has_unsealed)
            if savepoints or not self._has_begun:
                self._begin_writing(buffer)
        self.limit.looked_s = 0.0
        try:
            cursor = connection.execute(statement.sql, bindings)
        except apsw.Error as error:
            raise self.failed(error) from error
        if is_first and not (self._pages.written or connection.txn_state() == _WRITES):
            buffer.seal()  # as CREATE TABLE IF NOT EXISTS may: no write
        if self.texts.switching:
            self._note_switch(statement)
        return cursor

    def execute_alone(
        self, connection: apsw.Connection, statement: Statement, bindings: tuple[Any, ...]
    ) -> int:
        """Run *statement* as a transaction by itself, if none has written before it: as a rule it
        is alone in its turn, and spares SQLite the beginning and the end of a transaction. Returns
        how many rows it has changed; -1: it was not run."""
        buffer, written = self._records.buffer, self._pages.written
        if self._has_begun or written or buffer.savepoints:
            return -1
        is_first = not buffer.output.has_unsealed
        self._alone = statement
        buffer.note_sql()
        self.limit.looked_s = 0.0
        before, self._changes_then = self._changes_then, None
        if before is None:
            before, self._writer = connection.total_changes(), connection.cursor()
        assert self._writer is not None
        try:
            self._writer.execute(statement.sql, bindings)
        except apsw.Error as error:
            raise self.failed(error, is_alone=True) from error
        if is_first and not written:
            buffer.seal()  # no write
        changes = self._changes_then = connection.total_changes()
        return changes - before

    def _note_switch(self, statement: Statement) -> None:
        if statement.sql in self.texts.switching:
            name, value = self.texts.switching[statement.sql]
            # SQLite passes over this one while a transaction runs.
            if name != "foreign_keys" or not self._has_begun:
                self.texts.switches[name] = value

    def failed(self, error: apsw.Error, is_alone: bool = False) -> BaseException:
        """What to raise for *error*, of a statement that *is_alone* in its transaction or not.
        Resets the object where SQLite has undone the turn, and where a page is damaged."""
        if self._pages.failure is not None:
            damaged, self._pages.failure = self._pages.failure, None
            return self._records.damaged(damaged)
        described = sql_error(error)
        connection = self.connection
        if (self._has_begun and connection is not None and not connection.in_transaction) or (
            is_alone and isinstance(error, _UNDOES_ALL)
        ):
            undone = ObjectReset(f"{TURN_UNDONE}{described}")
            undone.__cause__ = described
            return self._records.damaged(undone)
        return described

    @property
    def size(self) -> int:
        """Bytes of the pages in use."""
        connection = self.use()
        self.texts.is_ours = True
        try:
            (count,), (free,) = ask_all(connection, "page_count", "freelist_count")
        finally:
            self.texts.is_ours = False
        return int(count - free) * PAGE_SIZE

    @property
    def changes(self) -> int:
        """How many rows the connection has changed."""
        return 0 if self.connection is None else self.connection.total_changes()

    # The turn, and the transactions of the object

    def _begin_writing(self, buffer: WriteBuffer) -> None:
        """A statement is about to write, which is not a transaction by itself."""
        savepoints = buffer.savepoints
        if not self._has_begun:
            if self._alone is not None and self._pages.written:
                self._alone.is_alone = False  # another one has followed it
            self._begin()
            self._begun_in = savepoints[0] if savepoints else None
        if savepoints and not (self._names and self._names[-1][0] is savepoints[-1]):
            # Not by their number: a savepoint whose transaction ended before one inside of it is
            # still named here.
            named = [owner for owner, _ in self._names]
            for savepoint in savepoints:
                if savepoint in named:
                    continue
                name = f"s{len(self._names)}"
                self._run_own(f"SAVEPOINT {name}{_MARK}")
                self._names.append((savepoint, name))
        buffer.note_sql()

    def _begin(self) -> None:
        if self._pages.written:
            self._pages.begin()
        self._run_own(_BEGIN)
        self._has_begun = True

    def release(self, savepoint: Savepoint) -> None:
        """What was written in *savepoint* is kept: it is that of the transaction around it now."""
        for place, (owner, name) in enumerate(self._names):
            if owner is savepoint:
                self._names[place] = None, name
        while self._names and self._names[-1][0] is None:
            self._run_own(f"RELEASE {self._names.pop()[1]}{_MARK}")
        if self._begun_in is savepoint:
            self._begun_in = None

    def roll_back(self, savepoint: Savepoint) -> None:
        """What was written in *savepoint* is undone."""
        if self._begun_in is savepoint:
            # All that the turn has written, by the shortest way: some tables do not survive a
            # savepoint that is undone.
            self._names.clear()
            self.texts.forget()
            self._run_own(_ROLLBACK)
            self._has_begun, self._begun_in = False, None
            self._pages.roll_back()
            return
        for place, (owner, name) in enumerate(self._names):
            if owner is savepoint:
                self.texts.forget()
                self._run_own(f"ROLLBACK TO {name}{_MARK}")
                self._run_own(f"RELEASE {name}{_MARK}")
                del self._names[place:]
                return

    def end_turn(self) -> DurableError | None:
        """Make what the turn has written by SQL part of its batch. What to reset the object with,
        if SQLite refuses."""
        if self._has_begun:
            try:
                self._run_own(_COMMIT)
            except apsw.ConstraintError as error:
                return self._cannot_end(CONSTRAINTS_VIOLATED, error)
            except apsw.Error as error:
                return self._cannot_end(TURN_UNDONE, error)
            self._has_begun = False
            self._begun_in = None
        self._alone = None
        self._pages.end_turn()
        return None

    def _cannot_end(self, why: str, error: apsw.Error) -> DurableError:
        if self._pages.failure is not None:
            return self._pages.failure
        described = sql_error(error)
        reset = ObjectReset(f"{why}{described}")
        reset.__cause__ = described
        return reset

    def _run_own(self, statement: str) -> None:
        if self.connection is not None:
            self.texts.is_ours = True
            try:
                self.connection.execute(statement)
            finally:
                self.texts.is_ours = False

    def clear(self) -> None:
        """Everything of the object is deleted."""
        self.disconnect()

    def close(self) -> None:
        """The object leaves memory, or is broken."""
        self.disconnect()
        self._let_go()
