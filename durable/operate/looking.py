"""Looking into a store: its classes, objects, values and alarms, also while it is in use.

Rule: nothing here writes, wakes an object, or asks the owner of the store for anything. Listings
are read in steps, so that a million objects take no more memory than a few; and between two steps
nothing is held, so that a slow reader does not make the owner's file grow.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from types import TracebackType
from typing import Any

from attrs import define, field

from durable._engine.batch import DueAlarm, ObjectRecord
from durable._engine.checksums import is_protected
from durable._engine.codec import Codec, MsgpackCodec
from durable._engine.engine import Engine
from durable._engine.measures import Measures
from durable._engine.side_records import AREAS, end_of
from durable._engine.stored_timer import PAST_TIMERS, TIMERS, StoredTimer, read_timer
from durable._engine.view import Damaged, Malformed, Row, View, object_of
from durable._model.clock import SystemClock
from durable._model.errors import StoreDamaged, UnknownClass
from durable._model.ids import BASE_SIZE, IdFactory, ObjectId
from durable._runtime.engines import open_to_read
from durable._runtime.runtime import Runtime
from durable._runtime.store_files import view_of
from durable._storage.timers import Timer, timer_of

from .found import (
    DamagedObject,
    Found,
    StoredClass,
    UnknownObject,
    Unreadable,
    Weight,
    class_of,
    found_of,
    has_prefix,
)
from .weighing import weigh

OBJECTS_PER_STEP = 1_000
OBJECTS_PER_COUNT = 10_000

_HEX_ID = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)


def look(store: str | os.PathLike[str] | Runtime, *, codec: Codec | None = None) -> Store:
    """Look into the store in a folder, or that of an open runtime; a context manager.

        with look("state") as store:
            for found in store.objects("Counter"):
                print(found.name, dict(store.items(found)))

    The process that owns the store passes its runtime, all others the folder. *codec*: the one that
    the store was opened with. Raises FileNotFoundError, StoreDamaged, FormatTooNew.
    """
    if isinstance(store, Runtime):
        own = store._services.codec if codec is None else codec
        return Store(store._engine, own, is_ours=store._is_of_shards)
    engine = open_to_read(os.fspath(store), SystemClock())
    return Store(engine, codec or MsgpackCodec(), is_ours=True)


@define(eq=False, repr=False)
class Store:
    """A store to look into, for one thread at a time.

    Each step of a listing is a snapshot of its own, and what is committed meanwhile may be seen by
    the next one: a listing of something that is deleted meanwhile ends there.

    A listing leaves out objects whose record is damaged; they are then in `damaged`.
    """

    _engine: Engine
    _codec: Codec
    _is_ours: bool
    _view: View = field(init=False)
    _damaged: dict[ObjectId, DamagedObject] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self._view = view_of(self._engine)

    @property
    def path(self) -> str:
        return self._engine.path

    @property
    def damaged(self) -> list[DamagedObject]:
        """The objects that were left out so far since their records are damaged."""
        return list(self._damaged.values())

    def _pass_over(self, cls: StoredClass, ids: IdFactory, base: bytes, why: str) -> None:
        id = ids.from_base(base, None)
        self._damaged[id] = DamagedObject(cls, id, why)

    @contextmanager
    def one_moment(self) -> Iterator[None]:
        """Within the block, everything is read from the snapshot of its beginning.

        While it lasts, the owner cannot reuse the pages of the snapshot: its file grows by what it
        writes meanwhile. Reading raises MomentLost if the store is that of a runtime and its map
        had to grow.
        """
        before = self._view
        self._view = view_of(self._engine, is_of_one_moment=True)
        try:
            yield
        finally:
            self._view.close()
            self._view = before

    def close(self) -> None:
        self._view.close()
        if self._is_ours:
            self._engine.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # Classes

    def classes(self) -> list[StoredClass]:
        """All classes, in the order in which they were registered."""
        records = self._view.catalog().records
        return [class_of(record) for record in records if not record.is_deleted]

    def cls(self, name: str) -> StoredClass:
        """The class called *name*, or `SCRIPT:NAME`; UnknownClass if there is none, or several."""
        classes = self.classes()
        named = [cls for cls in classes if cls.label == name] or [
            cls for cls in classes if cls.name == name
        ]
        if len(named) == 1:
            return named[0]
        known = ", ".join(cls.label for cls in named or classes) or "none"
        what = "there are several classes" if named else "there is no class"
        raise UnknownClass(f"{what} {name!r} in the store {self.path!r}; known are: {known}")

    def count(self, cls: StoredClass) -> int:
        """How many objects the class has; a pass over all of them."""
        count = 0
        after: bytes | None = None
        while step := self._view.count(cls.number, after, OBJECTS_PER_COUNT):
            count += len(step)
            after = step[-1]
        return count

    # Objects

    def objects(self, cls: str | None = None, prefix: str | None = None) -> Iterator[Found]:
        """All objects, or those of one class, in the order of their ids; with *prefix*, those whose
        name begins with it, which are found by a pass over all objects of the class."""
        for each in self.classes() if cls is None else [self.cls(cls)]:
            ids = IdFactory(each.unique_key)
            for step in self._rows(each, weigh=False):
                for base, fields, _ in step:
                    if prefix is None or has_prefix(fields, prefix):
                        yield found_of(each, ids, base, object_of(fields))

    def _rows(self, cls: StoredClass, *, weigh: bool) -> Iterator[list[Row]]:
        """The objects of a class as the disk has them, step by step."""
        step = self._view.listed(cls.number, None, OBJECTS_PER_STEP, weigh=weigh)
        while step.last is not None:
            for base, why in step.damaged:
                self._pass_over(cls, IdFactory(cls.unique_key), base, why)
            yield step.rows
            step = self._view.listed(cls.number, step.last, OBJECTS_PER_STEP, weigh=weigh)

    def find(self, cls: str, name_or_id: str) -> Found:
        """The object of this name or, if it is 64 hex digits, this id. Raises UnknownClass,
        UnknownObject, InvalidId."""
        known = self.cls(cls)
        ids = IdFactory(known.unique_key)
        base = self._base(ids, name_or_id)
        record = self._view.find(known.number, base)
        if record is None and _HEX_ID.fullmatch(name_or_id):
            base = ids.from_name(name_or_id).raw[:BASE_SIZE]  # a name may look like an id
            record = self._view.find(known.number, base)
        if record is None:
            raise UnknownObject(
                f"the store {self.path!r} has no object {name_or_id!r} of the class {known.label}; "
                f"an object exists once it has stored a key or set an alarm"
            )
        return found_of(known, ids, base, record)

    def record(self, found: Found) -> ObjectRecord | None:
        """The present record of an object; None: it has nothing stored any more."""
        return self._view.find(found.cls.number, found.id.raw[:BASE_SIZE])

    def _base(self, ids: IdFactory, name_or_id: str) -> bytes:
        if _HEX_ID.fullmatch(name_or_id):
            return ids.from_string(name_or_id).raw[:BASE_SIZE]
        return ids.from_name(name_or_id).raw[:BASE_SIZE]

    # What an object has stored

    def items(
        self,
        found: Found,
        *,
        prefix: str = "",
        start: str | None = None,
        end: str | None = None,
        limit: int | None = None,
    ) -> Iterator[tuple[str, Any]]:
        """Keys and decoded values in the order of the keys, from *start*, *end* excluded. A value
        that cannot be decoded is an `Unreadable`."""
        for key, encoded in self.encoded(found, prefix=prefix, start=start, end=end, limit=limit):
            yield key, self.decoded(encoded)

    def encoded(
        self,
        found: Found,
        *,
        prefix: str = "",
        start: str | None = None,
        end: str | None = None,
        limit: int | None = None,
    ) -> Iterator[tuple[str, bytes]]:
        """The same with the values as the codec wrote them; for a damaged one, the bytes of the
        whole record."""
        lower = prefix if start is None else max(prefix, start, key=str.encode)
        for key, encoded in islice(self._records(found.number, lower, end), limit):
            if not key.startswith(prefix):
                return
            yield key, encoded

    def sides(
        self, found: Found, lower: bytes = AREAS[0], upper: bytes = end_of(AREAS[-1])
    ) -> Iterator[tuple[bytes, bytes]]:
        """The side records from *lower* on, *upper* excluded, in the order of their keys; for a
        damaged one a `Damaged`."""
        while step := self._view.sides(found.number, lower, upper):
            yield from step
            lower = step[-1][0] + b"\0"

    def timers(self, found: Found) -> list[Timer]:
        """The timers of an object, the next one to ring first. A payload that cannot be decoded is
        an `Unreadable`; a damaged timer is left out, and `check` reports it."""
        timers: list[StoredTimer] = []
        lower = TIMERS
        while step := self._view.sides(found.number, lower, PAST_TIMERS):
            lower = step[-1][0] + b"\0"
            for key, stored in step:
                with suppress(Malformed):
                    if not isinstance(stored, Damaged):
                        timers.append(read_timer(key, stored))
        timers.sort(key=lambda timer: (timer.due_us, timer.name))
        return [timer_of(timer, self.decoded) for timer in timers]

    def _records(
        self, number: int, lower: str = "", end: str | None = None
    ) -> Iterator[tuple[str, bytes]]:
        is_last = False
        while not is_last:
            step, is_last = self._view.scan(number, lower, end)
            yield from step
            if step:
                lower = step[-1][0] + "\0"

    def decoded(self, encoded: bytes) -> Any:
        """A value as `encoded` returns it, decoded; an `Unreadable` if that is not possible."""
        if isinstance(encoded, Damaged):
            return Unreadable(bytes(encoded), "its checksum does not match", is_damaged=True)
        try:
            return self._codec.decode(encoded)
        except StoreDamaged as error:
            return Unreadable(encoded, str(error), is_damaged=is_protected(encoded))

    def weigh(self, found: Found) -> Weight:
        """How many keys and bytes, and how large the database and the history are; reads all but
        the database."""
        return weigh(self._view, found.number, found.history)

    # Alarms, and the file

    def alarms(self, cls: str | None = None) -> Iterator[Found]:
        """The objects that have an alarm, the next one to ring first."""
        for step in self._alarm_steps(cls):
            yield from step

    def _alarm_steps(self, cls: str | None) -> Iterator[list[Found]]:
        only = None if cls is None else self.cls(cls).number
        classes = {each.number: (each, IdFactory(each.unique_key)) for each in self.classes()}
        after: DueAlarm | None = None
        while step := self._view.alarmed(after, OBJECTS_PER_STEP):
            after = step[-1][0]
            found: list[Found] = []
            for due, record in step:
                if due.class_number not in classes or only not in {None, due.class_number}:
                    continue
                cls_and_ids = classes[due.class_number]
                if isinstance(record, Malformed):
                    self._pass_over(*cls_and_ids, due.base, str(record))
                elif record is not None:
                    found.append(found_of(*cls_and_ids, due.base, record))
            yield found

    def measure(self) -> Measures:
        """The file: its size, free pages, map, readers, and how much is in it."""
        return self._view.measure()

    def __repr__(self) -> str:
        return f"<Store {self.path!r}, looked at>"
