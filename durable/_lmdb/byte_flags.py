"""A few flags for each of very many numbers, a byte a number.

Numbers are assigned one after the other, so those that have flags lie side by side; a damaged one
may lie anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import compress

from attrs import define, field

PAGE_SIZE = 1 << 14


@define(eq=False)
class Marks:
    """Which of eight marks, each a bit, a number has."""

    _pages: dict[int, bytearray] = field(factory=dict)

    def of(self, number: int) -> int:
        """All marks of *number*."""
        page = self._pages.get(number // PAGE_SIZE)
        return 0 if page is None else page[number % PAGE_SIZE]

    def add(self, number: int, mark: int) -> None:
        page = self._pages.get(number // PAGE_SIZE)
        if page is None:
            page = self._pages[number // PAGE_SIZE] = bytearray(PAGE_SIZE)
        page[number % PAGE_SIZE] |= mark

    def remove(self, number: int, mark: int) -> None:
        page = self._pages.get(number // PAGE_SIZE)
        if page is not None:
            page[number % PAGE_SIZE] &= ~mark

    def having(self, mark: int) -> Iterator[int]:
        """The numbers that have *mark*, in order."""
        has_it = bytes(marks & mark for marks in range(256))
        for first in sorted(self._pages):
            at = first * PAGE_SIZE
            yield from compress(range(at, at + PAGE_SIZE), self._pages[first].translate(has_it))
