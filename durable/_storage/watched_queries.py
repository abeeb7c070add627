"""What is known of a query of SQL when it has ended, and whether anybody wants to know."""

from __future__ import annotations

from attrs import define, field, frozen

from durable._model.observer import QUERY_SIZE_MAX

Column = tuple[str, str]
"""A table and a column of it."""


@frozen
class Touched:
    """What a statement has read and changed, as far as it is known."""

    only_reads: bool
    reads: frozenset[Column]
    sets: tuple[tuple[Column, int], ...]  # each with the rowid of a row in which it was set


@frozen
class EndedQuery:
    """One call of `ctx.storage.sql.exec`."""

    text: str
    rows_read: int  # that it has given
    rows_written: int
    duration_s: float  # real time within SQLite
    error: BaseException | None
    touched: Touched | None = None  # of a single statement, where it is asked for

    @property
    def shown(self) -> str:
        """Its text, cut off for reports if it is long."""
        text = self.text
        return text if len(text) <= QUERY_SIZE_MAX else text[:QUERY_SIZE_MAX] + "…"


@define(eq=False)
class QueryWatch:
    """Whether one runtime's queries are watched. An unwatched query costs one look here."""

    is_on: bool = field(default=False, init=False)
    _is_counted: bool = field(default=False, init=False)
    # Whether it is also asked what each of them touches; settled before the first one.
    asks_touched: bool = field(default=False, init=False)

    def observe(self, is_observed: bool) -> None:
        """They are reported to observers from now on, or no more."""
        self.is_on = is_observed or self._is_counted

    def count(self) -> None:
        """They are counted from now on."""
        self._is_counted = self.is_on = True
