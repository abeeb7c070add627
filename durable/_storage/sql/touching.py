"""What a statement touches, for debug mode: the columns that it reads and those that it sets, by
what SQLite asks about it as it is prepared, and the rows that it changes, by its update hook."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType

import apsw
from attrs import define, field, frozen

from ..watched_queries import Column, Touched

Action = tuple[int, str | None, str | None, object]
"""What it is, two names, and the trigger or view by which it is done."""

_WRITES = frozenset({apsw.SQLITE_INSERT, apsw.SQLITE_UPDATE, apsw.SQLITE_DELETE})


@frozen
class Columns:
    """Those that a statement names."""

    reads: frozenset[Column]
    sets: frozenset[Column]

    @classmethod
    def of(cls, actions: Iterable[Action]) -> Columns:
        reads: set[Column] = set()
        sets: set[Column] = set()
        has_triggers = False
        for action, table, column, by in actions:
            if table and column and action == apsw.SQLITE_READ:
                reads.add((table, column))
            elif action in _WRITES:
                has_triggers |= by is not None
                if table and column and action == apsw.SQLITE_UPDATE:
                    sets.add((table, column))
        # Which of the rows a trigger has changed, and in what, is not known.
        return cls(frozenset(reads), frozenset() if has_triggers else frozenset(sets))


@define(eq=False, slots=True, weakref_slot=False)
class ChangedRows:
    """A context manager around a statement: collects the rows that it updates."""

    _connection: apsw.Connection
    _rows: list[tuple[str, int]] = field(factory=list, init=False)

    def __enter__(self) -> ChangedRows:
        self._connection.set_update_hook(self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._connection.set_update_hook(None)

    def _note(self, action: int, _: str, table: str, row: int) -> None:
        if action == apsw.SQLITE_UPDATE:
            self._rows.append((table, row))

    def touched(self, columns: Columns, *, only_reads: bool) -> Touched:
        sets = [
            (column, row)
            for table, row in self._rows
            for column in columns.sets
            if column[0] == table
        ]
        return Touched(only_reads, columns.reads, tuple(sets))
