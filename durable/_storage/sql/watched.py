"""Queries that are watched: timed, their rows counted, and reported when they have ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from attrs import define

from durable._loop import here
from durable._loop.loop import Loop
from durable._model.clock import SystemClock

from ..watched_queries import EndedQuery, Touched

# SQLite holds the loop up, so it is real time that counts.
REAL_TIME = SystemClock()


@define(eq=False, slots=True, weakref_slot=False)
class WatchedQuery:
    """One call of `exec`."""

    _text: str
    _on_ended: Callable[[EndedQuery], None]
    _loop: Loop
    rows_read: int = 0
    rows_written: int = 0
    duration_s: float = 0.0
    touched: Touched | None = None
    _has_ended: bool = False

    _since_s: float = 0.0

    def goes_on(self) -> None:
        """A call of SQLite begins that the query needs; `pauses` when it has ended."""
        self._since_s = REAL_TIME.steady()

    def pauses(self) -> None:
        self.duration_s += REAL_TIME.steady() - self._since_s

    def ended(self, error: BaseException | None = None, *, at_once: bool = True) -> None:
        """Report it, once. Not *at_once*, or in another thread: in the next round of the loop."""
        if self._has_ended:
            return
        self._has_ended = True
        query = EndedQuery(
            self._text, self.rows_read, self.rows_written, self.duration_s, error, self.touched
        )
        if at_once and here.thread() == self._loop.thread:
            self._on_ended(query)
        else:
            self._loop.call_soon_threadsafe(partial(self._on_ended, query))


class WatchedRows(Iterator[tuple[Any, ...]]):
    """The rows of a query that reads. One that is left half-way ends when nothing refers to it."""

    __slots__ = ("_query", "_rows")

    def __init__(self, rows: Iterator[tuple[Any, ...]], query: WatchedQuery) -> None:
        self._rows = rows
        self._query = query

    def __next__(self) -> tuple[Any, ...]:
        query = self._query
        query.goes_on()
        try:
            row = next(self._rows)
        except BaseException as error:
            query.pauses()
            query.ended(None if isinstance(error, StopIteration) else error)
            raise
        query.pauses()
        query.rows_read += 1
        return row

    def __del__(self) -> None:
        # Not at once: this may be within any line of the program, in any thread.
        self._query.ended(at_once=False)
