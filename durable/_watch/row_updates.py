"""Lost updates by SQL: an event has read a column, has waited for the outside, and now sets that
column in a row in which another event has set it meanwhile.

Rule: better silent than wrong. Which rows a query has read is not known, so it is the rows that are
changed which must be the same; a statement that looks at what the column is now, by
`SET n = n + 1` or `WHERE n = ?`, is right; what a transaction has undone was no change.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any, Final

from attrs import define, field, frozen

from durable._gates.delivery import CURRENT, Delivery
from durable._storage.watched_queries import Column, Touched

Site = tuple[str, int]
"""File and line of the program's own code."""

# Deliveries whose reads are remembered, before those that have ended are forgotten.
REMEMBERED_MAX: Final = 64

# Places that were warned of already; `warnings` uses it to show a warning once.
shown: dict[Any, Any] = {}


@frozen
class Change:
    """Another event has set a column of a row."""

    site: Site
    # How often writes of the object had been undone by then.
    undone: int


@define(eq=False, slots=True, weakref_slot=False)
class _Seen:
    """What one delivery has read, and what others have changed of that since."""

    reads: dict[Column, Site] = field(factory=dict)
    changes: dict[tuple[Column, int], Change] = field(factory=dict)

    def read(self, columns: frozenset[Column], site: Site) -> None:
        self.reads.update(dict.fromkeys(columns, site))
        for place in [place for place in self.changes if place[0] in columns]:
            del self.changes[place]


@define(eq=False, slots=True)
class RowUpdates:
    """Those of one object."""

    _label: Callable[[], str]
    _undone: Callable[[], int]
    _seen: dict[Delivery[Any], _Seen] = field(factory=dict)

    def note(self, touched: Touched) -> None:
        """The delivery under way has run a statement. Warns of the update that is lost by it."""
        delivery = CURRENT.get()
        if delivery is None:
            return
        if touched.only_reads:
            if len(self._seen) > REMEMBERED_MAX:
                self._seen = {d: seen for d, seen in self._seen.items() if not d.has_left}
            self._seen.setdefault(delivery, _Seen()).read(touched.reads, site_outside())
            return
        set_in = [(column, row) for column, row in touched.sets if column not in touched.reads]
        lost = self._lost(delivery, set_in)
        change = Change(site_outside(), self._undone())
        for other, seen in self._seen.items():
            if other is not delivery and not other.has_left:
                for place in touched.sets:
                    if place[0] in seen.reads:
                        seen.changes[place] = change
        if lost is not None:
            self._warn(*lost)

    def _lost(
        self, delivery: Delivery[Any], set_in: list[tuple[Column, int]]
    ) -> tuple[Column, Site, Site] | None:
        seen = self._seen.get(delivery)
        if seen is None:
            return None
        for place in set_in:
            change = seen.changes.pop(place, None)
            if change is not None and change.undone == self._undone():
                return place[0], seen.reads[place[0]], change.site
        return None

    def _warn(self, column: Column, read: Site, changed: Site) -> None:
        file, line = site_outside()
        warnings.warn_explicit(
            f"{self._label()} read {'.'.join(column)!r} at {read[0]}:{read[1]}, then waited for "
            f"the outside, and now sets it in a row in which another event has set it meanwhile, "
            f"at {changed[0]}:{changed[1]}: that is lost. Read it again after the wait, set it by "
            f"what it is (SET n = n + 1, or WHERE n = ?), or keep the others out with "
            f"ctx.block_concurrency_while()",
            RuntimeWarning,
            file,
            line,
            registry=shown,
        )


def site_outside() -> Site:
    """The innermost line outside of this library."""
    frame = inspect.currentframe()
    if frame is None:  # an interpreter without frames
        return "<unknown>", 0
    while frame.f_back is not None:
        if not frame.f_globals.get("__name__", "").startswith("durable."):
            break
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno
