"""Waking an object whose store is far away: one answer brings all that it will probably read.

An engine in this process has no use for it: there a read costs a microsecond.
"""

from __future__ import annotations

from typing import Final, Protocol, runtime_checkable

from .batch import Woken

WOKEN_SIZE_MAX: Final = 1 << 20
"""Bytes of keys, values and side records that come with an object."""

WOKEN_COUNT_MAX: Final = 1_000
"""Keys that come with it, and side records."""


@runtime_checkable
class Wakes(Protocol):
    """An engine that can wake objects so."""

    def wake(self, class_number: int, base: bytes) -> Woken | None:
        """An object with what it has stored, up to the limits above; None if it has neither a
        record nor an alarm. What is damaged is left out."""
