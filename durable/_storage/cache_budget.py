"""The cache budget: how much all caches of a runtime hold together, and which shrinks first.

Rule: it only counts and chooses. What can be given up a share knows itself, since what is not yet
on the disk must stay.
"""

from __future__ import annotations

from typing import Protocol

from attrs import define, field


class Share(Protocol):
    """One object's cache, as the budget sees it."""

    touched: int  # the moment of the last delivery to its object

    def evict(self, size: int) -> None:
        """Give up at least *size* bytes if so many can be, the oldest first, and charge for it."""


@define(eq=False, slots=True)
class CacheBudget:
    """Bytes of keys and values in memory over all live objects: `Limits.cache_bytes_max`.

    When there are too many, the objects that were called longest ago give up theirs first, down to
    an eighth below the limit, so that making room is rare.
    """

    size_max: int
    size: int = field(default=0, init=False)
    _moment: int = field(default=0, init=False)
    # Where to make room next: above the limit while what is over it cannot be given up.
    _shrink_at: int = field(init=False)
    _shares: set[Share] = field(factory=set, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._shrink_at = self.size_max

    def touch(self, share: Share) -> None:
        """The object of *share* is being called."""
        self._moment += 1
        share.touched = self._moment

    def join(self, share: Share) -> None:
        self._shares.add(share)

    def leave(self, share: Share) -> None:
        """*share* holds nothing any more."""
        self._shares.discard(share)
        assert self.size >= 0

    def charge(self, size: int) -> None:
        """A share holds *size* bytes more, or less. Be ready to give some up if it is more."""
        self.size += size
        if size > 0 and self.size > self._shrink_at:
            self._shrink()

    def settle(self, share: Share) -> None:
        """Something in *share* can be given up now that could not before."""
        if self.size > self.size_max:
            share.evict(self.size - self._target)

    @property
    def _target(self) -> int:
        return self.size_max - self.size_max // 8

    def _shrink(self) -> None:
        for share in sorted(self._shares, key=lambda share: share.touched):
            share.evict(self.size - self._target)
            if self.size <= self._target:
                break
        # Where the rest is not yet on disk, asking again at every write would not help.
        self._shrink_at = max(self.size_max, self.size + self.size_max // 16)

    def __repr__(self) -> str:
        return f"<CacheBudget {self.size:,} of {self.size_max:,} bytes, {len(self._shares)} shares>"
