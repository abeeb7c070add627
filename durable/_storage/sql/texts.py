"""The texts of SQL that one object runs: what their statements do, and whether the rules allow it.

SQLite asks about each action of a statement as it prepares it. What is found is remembered by the
text, as long as the schema stays: a text that is run again is looked up and not looked at.
"""

from __future__ import annotations

import re
from typing import Final

import apsw
from attrs import define, evolve, field

from durable._model.errors import DurableError
from durable._model.storage_errors import SqlForbidden

from . import rules
from .failures import not_authorized
from .statements import TEXTS_REMEMBERED, Statement, first_of
from .touching import Action, Columns

# Statements that may be a transaction of SQLite by themselves, unless something in the schema acts
# on the transaction: these are the words by which it would.
_MAY_BE_ALONE: Final = re.compile(r"(?:insert|update|delete|replace)\b(?!.*\brollback\b)", re.S)
_SCHEMA_ACTS: Final = (
    "SELECT 1 FROM sqlite_schema "
    "WHERE instr(lower(sql), 'rollback') OR instr(lower(sql), 'deferr') LIMIT 1"
)


@define(eq=False, slots=True, weakref_slot=False)
class Texts:
    """Those of one database."""

    # Statements of our own run, about which the rules are not asked.
    is_ours: bool = field(default=False, init=False)
    _known: dict[str, tuple[Statement, ...]] = field(factory=dict, init=False)
    # Those of one statement, which `Sql.exec` runs itself.
    singles: dict[str, Statement] = field(factory=dict, init=False)
    # Of the statement that is looked at: why it is not allowed, and a switch that it turns.
    refusal: DurableError | None = field(default=None, init=False)
    _switch: tuple[str, str] | None = field(default=None, init=False)
    _changes_schema: bool = field(default=False, init=False)
    # The switches that were turned, and the statements that turn them.
    switches: dict[str, str] = field(factory=dict, init=False)
    switching: dict[str, tuple[str, str]] = field(factory=dict, init=False)
    # What the texts read and set; None: it is not asked for.
    columns: dict[str, Columns] | None = field(default=None, init=False)
    _actions: list[Action] = field(factory=list, init=False)
    # Whether something in the schema, or a pragma, acts on the transaction; None: not asked yet.
    _acts: bool | None = field(default=None, init=False)

    def known(self, text: str) -> tuple[Statement, ...] | None:
        """The statements of a text that was run."""
        return self._known.get(text)

    def columns_of(self, text: str) -> Columns | None:
        """What the only statement of *text* reads and sets, if it was run and that is asked for."""
        statement = self.singles.get(text)
        return None if statement is None else (self.columns or {}).get(statement.sql)

    def look_at(self, connection: apsw.Connection, text: str) -> tuple[Statement, str]:
        """The first statement of *text*, and what follows it. Raises SqlForbidden; an apsw.Error,
        with `refusal` where that is a better reason."""
        self.refusal = self._switch = None
        self._changes_schema = False
        self._actions.clear()
        statement, rest = first_of(connection, text)
        if self._actions and self.columns is not None:
            if len(self.columns) >= TEXTS_REMEMBERED:
                self.columns.clear()
            self.columns[statement.sql] = Columns.of(self._actions)
        if not rules.is_allowed_text(statement.sql):
            raise not_authorized()
        if self._changes_schema:
            self.forget()
            statement = evolve(statement, changes_schema=True)
        if self._switch is not None:
            self.switching[statement.sql] = self._switch
        return statement, rest

    def remember(self, connection: apsw.Connection, text: str, statements: list[Statement]) -> None:
        """*text* was run, and its statements are these."""
        if any(each.changes_schema for each in statements):
            return
        if len(self._known) >= TEXTS_REMEMBERED:
            self.forget()
        self._known[text] = tuple(statements)
        # A switch that is turned is to be seen to.
        if len(statements) == 1 and text not in self.switching:
            only = self.singles[text] = statements[0]
            only.is_alone = self._may_be_alone(connection, only)

    def _may_be_alone(self, connection: apsw.Connection, statement: Statement) -> bool:
        if statement.columns or not _MAY_BE_ALONE.match(statement.sql.lower()):
            return False
        if self._acts is None:
            self.is_ours = True
            try:
                self._acts = bool(connection.execute(_SCHEMA_ACTS, can_cache=False).fetchall())
            finally:
                self.is_ours = False
        return not self._acts

    def forget(self) -> None:
        """The schema changes, or the connection is closed."""
        self._known.clear()
        self.singles.clear()
        self._acts = None

    def authorize(
        self, action: int, first: str | None, second: str | None, database: str | None, by: object
    ) -> int:
        """Whether an action is allowed: SQLite asks, of each of a statement that it prepares."""
        if self.is_ours:
            return apsw.SQLITE_OK
        if action in {apsw.SQLITE_TRANSACTION, apsw.SQLITE_SAVEPOINT}:
            self.refusal = SqlForbidden(rules.USE_TRANSACTION)
            return apsw.SQLITE_DENY
        if self.columns is not None:
            self._actions.append((action, first, second, by))
        self._changes_schema |= action in rules.CHANGES_SCHEMA
        if not rules.is_allowed(action, first, second, database):
            return apsw.SQLITE_DENY
        if action == apsw.SQLITE_PRAGMA and second is not None:
            name = (first or "").lower()
            if name in rules.KEPT_SWITCHES:
                self._switch = name, second
            elif name == rules.OF_TRANSACTIONS:
                self._changes_schema = True
        return apsw.SQLITE_OK
