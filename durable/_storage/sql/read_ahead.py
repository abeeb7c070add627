"""Reading ahead: a query that goes through a table asks for its pages one by one, mostly in a row.

To read many at a time costs less for each of them, and one answer in place of many where the store
is far away. So when some were asked for in a row, those behind them are read together with the next
one; more each time, as long as they are asked for too.

Rule: a runtime holds at most `WIDTH_MAX` pages that were read ahead, all of one database.
"""

from __future__ import annotations

from typing import Final

from attrs import define, field

# How many pages in a row are read one by one before more are read at a time, and how many then.
ONE_BY_ONE: Final = 2
WIDTH_MIN: Final = 4
WIDTH_MAX: Final = 32

# In place of the number of a page: no page is, or follows, this one.
_NONE: Final = -1


@define(eq=False, slots=True, weakref_slot=False)
class ReadAhead:
    """That of one runtime. It knows which pages come next, and not how they are read."""

    # Whose pages these are.
    owner: object = field(default=None, init=False)
    # Read, and not asked for yet: each is taken out when it is asked for, or written.
    pages: dict[int, bytes] = field(factory=dict, init=False)
    # How many were read at a time, and the page that follows them.
    _width: int = field(default=1, init=False)
    _next: int = field(default=_NONE, init=False)
    # The last page that was not among `pages`, and how many before it were in a row with it.
    _last: int = field(default=_NONE, init=False)
    _in_a_row: int = field(default=0, init=False)

    def width_at(self, owner: object, number: int) -> int:
        """How many pages *owner* should read, since it is asked for page *number*, which is not
        among `pages`. If it is more than one, `pages` has none any more."""
        if owner is not self.owner:
            self._begin(owner)
        width = 1
        if number == self._next:
            # Where the pages of several tables alternate, many are read that nobody asks for.
            were_asked_for = 4 * len(self.pages) < self._width
            width = min(2 * self._width, WIDTH_MAX) if were_asked_for else self._width // 2
        elif number == self._last + 1:
            self._in_a_row += 1
            if self._in_a_row == ONE_BY_ONE:
                width = WIDTH_MIN
        else:
            self._in_a_row = 0
        self._last = number
        if width > 1:
            self.pages.clear()
            self._width, self._next, self._in_a_row = width, number + width, 0
        return width

    def drop(self, owner: object) -> None:
        """*owner* is closed."""
        if owner is self.owner:
            self._begin(None)

    def _begin(self, owner: object) -> None:
        self.owner = owner
        self.pages.clear()
        self._next = self._last = _NONE
        self._in_a_row = 0
