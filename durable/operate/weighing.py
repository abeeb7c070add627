"""How much an object has stored: keys, the pages of its SQL database, and its history.

Counted in steps, for those that no listing has weighed already.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from durable._engine.page_packing import PAGE_SIZE, pages_of
from durable._engine.side_records import FIRST_PAGE, HISTORY, end_of
from durable._engine.view import Damaged, View

from .found import Weight


def database_size(view: View, number: int) -> int:
    """Bytes of the pages of a database, as its first page says; 0 if there is none."""
    found = view.sides(number, FIRST_PAGE, FIRST_PAGE + b"\0")
    if not found or isinstance(found[0][1], Damaged):
        return 0
    return pages_of(found[0][1]) * PAGE_SIZE


def weigh(view: View, number: int, history: int) -> Weight:
    """What lies under the keyspace *number*, and in its *history*; reads all of it."""
    return sum(_steps(view, number, history), Weight(0, 0))


def weigh_if_little(view: View, number: int, history: int, steps_max: int) -> Weight | None:
    """The same; None for what takes more steps than *steps_max*."""
    steps = list(islice(_steps(view, number, history), steps_max + 1))
    return sum(steps, Weight(0, 0)) if len(steps) <= steps_max else None


def _steps(view: View, number: int, history: int) -> Iterator[Weight]:
    lower, is_last = "", False
    size = database_size(view, number)
    while not is_last:
        pairs, is_last = view.scan(number, lower, None)
        lower = pairs[-1][0] + "\0" if pairs else ""
        yield Weight(len(pairs), sum(len(key.encode()) + len(value) for key, value in pairs), size)
        size = 0
    first = HISTORY
    while history and (sides := view.sides(history, first, end_of(HISTORY))):
        first = sides[-1][0] + b"\0"
        yield Weight(0, 0, 0, sum(len(key) + len(value) for key, value in sides))
