"""A problem that a check of a store has found."""

from __future__ import annotations

from attrs import frozen


@frozen
class Problem:
    """Something that is wrong in a store, and where."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"
