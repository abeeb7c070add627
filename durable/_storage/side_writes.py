"""Side records that one object has written and the disk does not have yet.

The cache does the same for keys. Side records are read seldom, and not kept once they are durable.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Final, Literal

from attrs import define, field

SideValue = bytes | None
"""The value of a side record; None: there is none."""

UNSEALED: Final = 1 << 62
"""In place of a sequence number: the write is not part of a batch yet."""


class OnDisk(Enum):
    """In place of a value: the disk has it, or has none."""

    ON_DISK = "on disk"


ON_DISK: Final = OnDisk.ON_DISK

SideBefore = tuple[SideValue, int] | None
"""A write, and the batch that it is part of; None: the disk has what there is."""


@define(eq=False, slots=True, weakref_slot=False)
class WokenSides:
    """Side records that came with the object when it was woken, each until it is read or written:
    the reader keeps it as long as it is needed."""

    keyspace: int
    _values: dict[bytes, bytes]
    _are_all: bool
    # Those that the disk is to be asked for.
    _gone: set[bytes] = field(factory=set, init=False)

    def take(self, key: bytes, keyspace: int) -> SideValue | Literal[OnDisk.ON_DISK]:
        if keyspace != self.keyspace or key in self._gone:
            return ON_DISK
        value = self._values.get(key)
        if value is None:
            return None if self._are_all else ON_DISK
        self.forget(key)
        return value

    def forget(self, key: bytes) -> None:
        self._values.pop(key, None)
        self._gone.add(key)


@define(eq=False, slots=True, weakref_slot=False)
class SideWrites:
    """The side records that were written and are not on the disk yet."""

    # Each with the batch that it is part of.
    _dirty: dict[bytes, tuple[SideValue, int]] = field(factory=dict, init=False)
    # The keyspace from before everything was deleted: what the disk has under it is the object's no
    # more. The object's new one comes when the batch of the deletion leaves, and then the disk is
    # right again.
    _dead_keyspace: int = field(default=0, init=False)
    woken: WokenSides | None = field(default=None, init=False)

    def lookup(self, key: bytes, keyspace: int) -> SideValue | Literal[OnDisk.ON_DISK]:
        """The value of *key*, or that the disk knows it, under *keyspace*."""
        if key in self._dirty:
            return self._dirty[key][0]
        if not keyspace or keyspace == self._dead_keyspace:
            return None
        return ON_DISK if self.woken is None else self.woken.take(key, keyspace)

    def is_on_disk(self, keyspace: int) -> bool:
        """Whether what the disk has under *keyspace* is the object's."""
        return keyspace not in {0, self._dead_keyspace}

    def between(self, lower: bytes, upper: bytes) -> Mapping[bytes, SideValue]:
        """The writes of keys from *lower* on, *upper* excluded."""
        return {key: value for key, (value, _) in self._dirty.items() if lower <= key < upper}

    def before(self, key: bytes) -> SideBefore:
        return self._dirty.get(key)

    def write(self, key: bytes, value: SideValue) -> None:
        self._dirty[key] = value, UNSEALED
        if self.woken is not None:
            self.woken.forget(key)

    def restore(self, key: bytes, before: SideBefore, durable: int) -> None:
        """Undo writes of *key*, back to *before*; batches up to *durable* are durable by now."""
        if before is not None and before[1] > durable:
            self._dirty[key] = before
        else:
            self._dirty.pop(key, None)

    def sealed(self, writes: Mapping[bytes, SideValue], seqno: int) -> None:
        """*writes* are batch *seqno* now; those that `write` has not seen are written by that."""
        for key, value in writes.items():
            self._dirty[key] = value, seqno
            if self.woken is not None:
                self.woken.forget(key)

    def durable(self, keys: Iterable[bytes], seqno: int) -> None:
        """Batch *seqno* is on disk: those of its *keys* not written again since are clean."""
        for key in keys:
            write = self._dirty.get(key)
            if write is not None and write[1] == seqno:
                del self._dirty[key]

    def clear(self, keyspace: int) -> None:
        """All is deleted, what the disk has under *keyspace* too."""
        self._dirty.clear()
        self.leave(keyspace)

    def leave(self, keyspace: int) -> None:
        """What the disk has under *keyspace*, or will have, is the object's no more."""
        self._dead_keyspace = keyspace
