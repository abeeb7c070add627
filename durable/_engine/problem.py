"""What a check of a store finds."""

from __future__ import annotations

from attrs import frozen


@frozen
class Problem:
    """Something that must not be."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"
