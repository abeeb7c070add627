"""The database of one object: a connection while it is in use, and the turn's transaction.

The first statement of a turn that writes begins a transaction of SQLite, and the end of the turn
commits it: what SQLite then writes of pages is part of the turn's batch. A transaction of the
object is a savepoint, made when SQL is first written in it.

Rule: SQLite undoes a whole transaction by itself in some cases, and the keys of the turn stay. Then
the object is reset, so that neither is stored.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import apsw
from attrs import define, evolve, field

from durable._engine.page_packing import PAGE_SIZE, RESERVED
from durable._model.errors import DurableError, ObjectReset, StoreDamaged
from durable._model.storage_errors import SqlError, SqlForbidden

from ..records import Records
from . import rules
from .connections import Connections
from .failures import CONSTRAINTS_VIOLATED, TURN_UNDONE, sql_error
from .pages import Pages
from .statements import ONLY_THE_LAST_BINDS, TEXTS_REMEMBERED, Statement, check_bindings, first_of
from .time_limit import STEPS_PER_LOOK, TimeLimit

if TYPE_CHECKING:
    from ..savepoint import Savepoint
    from ..write_buffer import WriteBuffer

T = TypeVar("T")
Rows = tuple[apsw.Cursor, Statement]

# The statements that a connection remembers are found by their text, and no authorizer is asked
# about those: so ours must not be what an object could write.
_MARK: Final = f"/*{secrets.token_hex(8)}*/"
_BEGIN: Final = "BEGIN" + _MARK
_COMMIT: Final = "COMMIT" + _MARK
_ROLLBACK: Final = "ROLLBACK" + _MARK

CACHE_KIB: Final = 256


@define(eq=False, slots=True)
class Database:
    """One object's. Nothing here suspends."""

    _records: Records
    connections: Connections
    _pages: Pages
    connection: apsw.Connection | None = field(default=None, init=False)
    # `ctx.storage.sql`, as long as this is the object's database.
    sql: Any = field(default=None, init=False)
    # Statements of our own run, about which the rules are not asked.
    _is_ours: bool = field(default=False, init=False)
    _has_begun: bool = field(default=False, init=False)
    # The transaction of the object, if there was one, in which the turn began to write.
    _begun_in: Savepoint | None = field(default=None, init=False)
    # The transactions of the object that have a savepoint, and its name; None in the place of one
    # that has ended before those above it.
    _names: list[tuple[Savepoint | None, str]] = field(factory=list, init=False)
    # The texts that were run, as long as the schema stays.
    _texts: dict[str, tuple[Statement, ...]] = field(factory=dict, init=False)
    # Those of one statement that only reads; `Sql.exec` runs them itself.
    selects: dict[str, Statement] = field(factory=dict, init=False)
    # Of the statement that is looked at: why it is not allowed, and a switch that it turns.
    _refusal: DurableError | None = field(default=None, init=False)
    _switch: tuple[str, str] | None = field(default=None, init=False)
    _changes_schema: bool = field(default=False, init=False)
    # The switches that were turned, and the statements that turn them.
    _switches: dict[str, str] = field(factory=dict, init=False)
    _switching: dict[str, tuple[str, str]] = field(factory=dict, init=False)
    limit: TimeLimit = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.limit = TimeLimit(self.connections.limits.sql_s_max)

    @classmethod
    def of(cls, records: Records, connections: Connections) -> Database:
        """The database of the object whose records these are."""
        database = cls(records, connections, Pages(records))
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
        return self._has_begun

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
        connection = self.connection = self.connections.open(self, self._pages)
        try:
            self._set_up(connection)
        except BaseException:
            self.disconnect()
            raise
        return connection

    def _set_up(self, connection: apsw.Connection) -> None:
        limits = self.connections.limits
        if not self._pages.count:
            connection.reserve_bytes(reserve=RESERVED)
        pragmas = [
            f"page_size={PAGE_SIZE}",
            "locking_mode=EXCLUSIVE",
            "journal_mode=MEMORY",
            "synchronous=OFF",
            "temp_store=MEMORY",
            f"cache_size=-{CACHE_KIB}",
            f"max_page_count={max(1, limits.sql_size_max // PAGE_SIZE)}",
            "trusted_schema=OFF",
            "foreign_keys=ON",
            *(f"{name}={value}" for name, value in self._switches.items()),
        ]
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}").fetchall()
        connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
        for limit, value in rules.limits_of(limits).items():
            connection.limit(limit, value)
        connection.authorizer = self._authorize
        connection.set_progress_handler(self.limit.is_over, STEPS_PER_LOOK)

    def disconnect(self) -> None:
        """Close the connection. What the turn has written by it is gone."""
        connection, self.connection = self.connection, None
        self._has_begun, self._begun_in = False, None
        self._names.clear()
        self._forget_texts()
        self._pages.forget_turn()
        if connection is not None:
            self.connections.closed(self)
            # What SQLite still writes is of a transaction that is undone, and the pages forget it.
            connection.close(True)
            self._pages.forget_turn()
        if not self._switches:
            self._let_go()

    def _let_go(self) -> None:
        """Without a connection the object costs no more than one that has no database."""
        buffer, self.sql = self._records.buffer, None
        if buffer.database is self:
            buffer.database = None

    def _authorize(
        self, action: int, first: str | None, second: str | None, database: str | None, _: Any
    ) -> int:
        if self._is_ours:
            return apsw.SQLITE_OK
        if action in {apsw.SQLITE_TRANSACTION, apsw.SQLITE_SAVEPOINT}:
            self._refusal = SqlForbidden(rules.USE_TRANSACTION)
            return apsw.SQLITE_DENY
        self._changes_schema |= action in rules.CHANGES_SCHEMA
        if not rules.is_allowed(action, first, second, database):
            return apsw.SQLITE_DENY
        if action == apsw.SQLITE_PRAGMA and second is not None:
            name = (first or "").lower()
            if name in rules.KEPT_SWITCHES:
                self._switch = name, second
        return apsw.SQLITE_OK

    # Statements of the object

    def run(self, text: str, bindings: tuple[Any, ...]) -> Rows:
        """Run *text*: all of its statements but the last to their end, and the last one too, if it
        writes. Returns where its rows are read, and the statement."""
        connection = self.connection
        if connection is None or self.connections.latest is not self:
            connection = self.use()
        statements = self._texts.get(text)
        if statements is None:
            return self._run_new(connection, text, bindings)
        if len(statements) > 1:
            for statement in statements[:-1]:
                self._execute(connection, statement, ()).fetchall()
        last = statements[-1]
        if last.bindings != len(bindings):
            check_bindings(last, len(bindings))
        return self._execute(connection, last, bindings), last

    def _run_new(self, connection: apsw.Connection, text: str, bindings: tuple[Any, ...]) -> Rows:
        statements: list[Statement] = []
        rest = text
        while True:
            statement, rest = self._look_at(connection, rest)
            statements.append(statement)
            if not rest:
                break
            if statement.bindings:
                raise SqlError(ONLY_THE_LAST_BINDS)
            self._execute(connection, statement, ()).fetchall()
        check_bindings(statement, len(bindings))
        cursor = self._execute(connection, statement, bindings)
        if not any(each.changes_schema for each in statements):
            self._remember(text, tuple(statements))
        return cursor, statement

    def _remember(self, text: str, statements: tuple[Statement, ...]) -> None:
        if len(self._texts) >= TEXTS_REMEMBERED:
            self._forget_texts()
        self._texts[text] = statements
        # A switch that is turned is to be seen to.
        if len(statements) == 1 and statements[0].only_reads and text not in self._switching:
            self.selects[text] = statements[0]

    def _forget_texts(self) -> None:
        self._texts.clear()
        self.selects.clear()

    def _look_at(self, connection: apsw.Connection, text: str) -> tuple[Statement, str]:
        self._refusal = self._switch = None
        self._changes_schema = False
        try:
            statement, rest = first_of(connection, text)
        except apsw.Error as error:
            raise self._refusal or self.failed(error) from error
        if not rules.is_allowed_text(statement.sql):
            raise SqlForbidden(rules.NOT_AUTHORIZED)
        if self._changes_schema:
            self._forget_texts()
            statement = evolve(statement, changes_schema=True)
        if self._switch is not None:
            self._switching[statement.sql] = self._switch
        return statement, rest

    def _execute(
        self, connection: apsw.Connection, statement: Statement, bindings: tuple[Any, ...]
    ) -> apsw.Cursor:
        buffer = self._records.buffer
        is_first = False
        if not statement.only_reads:
            is_first = not (buffer.output.has_unsealed or buffer.savepoints)
            self._begin_writing(buffer)
        self.limit.looked_s = 0.0
        try:
            cursor = connection.execute(statement.sql, bindings)
        except apsw.Error as error:
            raise self.failed(error) from error
        if is_first and connection.txn_state() != apsw.SQLITE_TXN_WRITE:
            buffer.seal()  # it has changed nothing, as CREATE TABLE IF NOT EXISTS may: no write
        if self._switching and statement.sql in self._switching:
            name, value = self._switching[statement.sql]
            # SQLite passes over this one while a transaction runs.
            if name != "foreign_keys" or not self._has_begun:
                self._switches[name] = value
        return cursor

    def failed(self, error: apsw.Error) -> BaseException:
        """What to raise for *error*. Resets the object where SQLite has undone the turn, and where
        a page is damaged."""
        if self._pages.failure is not None:
            damaged, self._pages.failure = self._pages.failure, None
            return self._records.damaged(damaged)
        described = sql_error(error)
        if self._has_begun and self.connection is not None and not self.connection.in_transaction:
            undone = ObjectReset(f"{TURN_UNDONE}{described}")
            undone.__cause__ = described
            return self._records.damaged(undone)
        return described

    @property
    def size(self) -> int:
        """Bytes of the pages in use."""
        connection = self.use()

        def ask() -> int:
            count: int = connection.pragma("page_count")
            free: int = connection.pragma("freelist_count")
            return (count - free) * PAGE_SIZE

        return self._own(ask)

    @property
    def changes(self) -> int:
        """How many rows the connection has inserted, changed and deleted."""
        return 0 if self.connection is None else self.connection.total_changes()

    # The turn, and the transactions of the object

    def _begin_writing(self, buffer: WriteBuffer) -> None:
        savepoints = buffer.savepoints
        if not self._has_begun:
            self._run_own(_BEGIN)
            self._has_begun = True
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
            self._forget_texts()
            self._run_own(_ROLLBACK)
            self._has_begun, self._begun_in = False, None
            self._pages.forget_turn()
            return
        for place, (owner, name) in enumerate(self._names):
            if owner is savepoint:
                self._forget_texts()
                self._run_own(f"ROLLBACK TO {name}{_MARK}")
                self._run_own(f"RELEASE {name}{_MARK}")
                del self._names[place:]
                return

    def end_turn(self) -> DurableError | None:
        """Make what the turn has written by SQL part of its batch. What to reset the object with,
        if SQLite refuses."""
        if not self._has_begun:
            return None
        try:
            self._run_own(_COMMIT)
        except apsw.ConstraintError as error:
            return self._cannot_end(CONSTRAINTS_VIOLATED, error)
        except apsw.Error as error:
            return self._cannot_end(TURN_UNDONE, error)
        self._has_begun = False
        self._begun_in = None
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
            self._is_ours = True
            try:
                self.connection.execute(statement)
            finally:
                self._is_ours = False

    def _own(self, step: Callable[[], T]) -> T:
        self._is_ours = True
        try:
            return step()
        finally:
            self._is_ours = False

    def clear(self) -> None:
        """Everything of the object is deleted."""
        self.disconnect()

    def close(self) -> None:
        """The object leaves memory, or is broken."""
        self.disconnect()
        self._let_go()
