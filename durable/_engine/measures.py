"""The measures of a store's file, as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from attrs import fields, frozen

# From so many free pages on, if they are at least one in so many, a search in them takes a while.
FREE_PAGES_MANY: Final = 16_384
FREE_SHARE: Final = 4


@frozen
class Measures:
    """The measures of a store's file. Sizes are in bytes."""

    file_size: int
    map_size: int  # how far the file can grow before the map has to
    page_size: int
    pages: int
    free_pages: int  # used again before the file grows
    last_commit: int  # how many transactions the file has seen
    readers: int  # slots of the reader table in use
    readers_max: int
    classes: int  # including deleted ones
    objects: int
    records: int  # stored keys, and the pieces of long ones
    alarms: int
    garbage: int  # objects and classes whose records are still to be freed

    @property
    def advice(self) -> str | None:
        """What to do about the file, if anything."""
        if self.free_pages < FREE_PAGES_MANY or self.free_pages * FREE_SHARE < self.pages:
            return None
        # For a large value LMDB searches its list of free pages for enough in a row. When all were
        # scattered, 1 MiB took 1 ms with 10,000 of them, 8 with 30,000, and 130 with 75,000.
        return (
            f"{100 * self.free_pages // self.pages} % of the pages are free; if they are "
            f"scattered, commits of large values are slow. `durable copy --compact` makes a store "
            f"without them"
        )


def sum_of(measures: Sequence[Measures]) -> Measures:
    """The measures of several files together: sums, or the maximum of what all share."""
    values = {field.name: [getattr(each, field.name) for each in measures] for field in _FIELDS}
    return Measures(
        **{
            name: max(each, default=0) if name in _ALIKE else sum(each)
            for name, each in values.items()
        }
    )


_FIELDS = fields(Measures)
_ALIKE = frozenset({"page_size", "classes", "readers_max"})
