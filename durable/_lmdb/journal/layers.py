"""What is confirmed and not yet in the store's file, in two layers, and readers that see both.

What is committed goes to the active layer. When it is to be brought into the file it becomes the
one that is applied, and does not change any more; a new one is active then.

Rule: what a reader sees is the file of one transaction and the layers of the same moment; an active
layer that was seen does not change any more. If a layer has gone to the file meanwhile, the reader
still has it, above a transaction that may have it too: that changes nothing.
"""

from __future__ import annotations

import threading
from collections import ChainMap
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from attrs import define, field

from durable._engine.batch import DueAlarm, ObjectRecord
from durable._engine.merged import Merged, ObjectKey
from durable._engine.overlay import OverlayReader

from ..handle import Handle
from ..long_keys import Transaction
from ..reader import Reader

K = TypeVar("K", str, bytes)
T = TypeVar("T")


@define(eq=False)
class Layers:
    """The layers of one moment. Only an active one that was not seen changes."""

    active: Merged
    applied: Merged | None  # being brought into the file
    records: _Keyspaces[str] = field(init=False)
    sides: _Keyspaces[bytes] = field(init=False)

    def __attrs_post_init__(self) -> None:
        below = self.applied
        self.records = _Keyspaces(self.active.records, None if below is None else below.records)
        self.sides = _Keyspaces(self.active.sides, None if below is None else below.sides)

    def find(self, key: ObjectKey) -> tuple[bool, ObjectRecord | None]:
        """Whether a layer knows of an object, and its record; None: it is gone."""
        if key in self.active.objects:
            return True, self.active.objects[key]
        if self.applied is not None and key in self.applied.objects:
            return True, self.applied.objects[key]
        return False, None

    def objects(self) -> Mapping[ObjectKey, ObjectRecord | None]:
        """All objects that a layer knows of."""
        active = self.active.objects
        return active if self.applied is None else {**self.applied.objects, **active}

    def alarms(self) -> list[DueAlarm]:
        """Those that a layer has, the earliest first."""
        return sorted(
            DueAlarm(record.alarm.due_us, *key)
            for key, record in self.objects().items()
            if record is not None and record.alarm is not None
        )


@define(eq=False)
class _Keyspaces(Generic[K]):
    """What the layers have of each keyspace."""

    _active: dict[int, dict[K, bytes | None]]
    _applied: dict[int, dict[K, bytes | None]] | None

    def get(self, keyspace: int, default: Mapping[K, bytes | None]) -> Mapping[K, bytes | None]:
        active = self._active.get(keyspace)
        if self._applied is None:
            return default if active is None else active
        applied = self._applied.get(keyspace)
        if active is None:
            return default if applied is None else applied
        return active if applied is None else ChainMap(active, applied)


@define(eq=False)
class _Moment:
    """Begins transactions, and knows which layers lay above the file then."""

    handle: Handle
    latest: Callable[[], Layers]
    adding: threading.Lock | None
    layers: Layers | None = None

    def begin(self) -> Transaction:
        while True:
            layers = self.latest()
            if self.adding is not None:
                with self.adding:
                    layers = self.latest()
                    layers.active.is_seen = True
            txn = self.handle.begin_read()
            if self.latest() is layers:
                self.layers = layers
                return txn
            txn.abort()


@define(eq=False)
class LayeredReader(OverlayReader[Layers]):
    """Reads the layers above the file, each time at one moment."""

    _moment: _Moment = field(kw_only=True)
    _file: Reader = field(kw_only=True)

    @classmethod
    def of(
        cls, handle: Handle, latest: Callable[[], Layers], adding: threading.Lock | None
    ) -> LayeredReader:
        """*adding*: a lock that is held while something is added to a layer; None: the reader is
        used only where nothing is."""
        moment = _Moment(handle, latest, adding)
        file = handle.new_reader(moment.begin)
        return cls(latest, file, file, moment=moment, file=file)

    @property
    def seen(self) -> Layers:
        # The map of the file may have grown, and the transaction be gone.
        if not self._file.is_begun:
            self._file.begin()
        layers = self._moment.layers
        assert layers is not None
        return layers

    def read(self, look: Callable[[Transaction], T]) -> T:
        """What *look* finds in the file, of the moment that is seen."""
        return self._file.read(look)
