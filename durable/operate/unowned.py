"""A store that no program has, and one object of it: this process writes to it, and is the owner
meanwhile. No code of the object runs.

Rule: what the object's history needs is written too, so that this can be undone.
"""

from __future__ import annotations

import os
import re
from contextlib import closing
from datetime import datetime
from typing import Final, TypeAlias

from durable._engine.batch import UNCHANGED, Batch, Callbacks, ObjectHandle
from durable._engine.codec import MsgpackCodec
from durable._engine.going_back import note_images
from durable._engine.history_records import WISH, write_bookmark
from durable._model.clock import SystemClock
from durable._model.errors import DurableError, StoreInUse
from durable._model.ids import BASE_SIZE, IdFactory, name_to_keep
from durable._runtime.engines import open_to_write

from .found import Found, StoredClass, UnknownObject, Unreadable
from .histories import Reading, with_history
from .looking import Store, look

_CODEC = MsgpackCodec()
_HEX_ID = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)

HOW_TO_REACH = (
    "the program that has it takes no orders: it must have opened the store with "
    "durable.open(..., operate=True), or run with DURABLE_OPERATE=1, as this user"
)

Where: TypeAlias = str | os.PathLike[str]


def find_in(store: Store, cls: str, name_or_id: str) -> Found | None:
    try:
        return store.find(cls, name_or_id)
    except UnknownObject:
        return None


class Unowned:
    """A store that no program has, and one object of it; this process is the owner meanwhile."""

    def __init__(self, store: Where, cls: str, name_or_id: str) -> None:
        with look(store) as looked:  # a folder that is not a store must not become one
            looked.cls(cls)
        try:
            self._environment = open_to_write(os.fspath(store), SystemClock())
        except StoreInUse as error:
            error.add_note(f"Otherwise {HOW_TO_REACH}.")
            raise
        try:
            self._store = Store(self._environment, _CODEC, is_ours=False)
            self._cls = self._store.cls(cls)
            self._name_or_id = name_or_id
            self._found = find_in(self._store, cls, name_or_id)
            self._handle = self._handle_of(self._cls, name_or_id)
        except BaseException:
            self._environment.close()
            raise

    def __enter__(self) -> Unowned:
        return self

    def __exit__(self, *_: object) -> None:
        with closing(self._environment):
            self._store.close()

    def put(self, key: str, encoded: bytes) -> None:
        self._check_codec()
        if not self._handle.keyspace:
            self._handle.keyspace = self._environment.next_keyspace()
        self._commit({key: encoded})

    def delete(self, key: str | None) -> bool:
        """Delete the key, or everything; returns whether it existed."""
        if self._found is None:
            return False
        if key is None:
            self._handle.keyspace = self._environment.next_keyspace()
            self._commit({}, clears=True)
            while self._environment.has_garbage:
                self._environment.collect_garbage()
            return True
        items = self._store.encoded(self._found, start=key, end=key + "\0")
        if next(items, None) is None:
            return False
        self._commit({key: None})
        return True

    def restore(self, to: str | datetime) -> str:
        """Go back; returns a bookmark that undoes it."""
        found = self._with_history()
        reading = Reading(self._store, found)
        handle = self._handle
        past = reading.past(reading.checked(to))
        undo = write_bookmark(reading.last() + 1)
        history: dict[bytes, bytes | None] = {WISH: None, **past.shared}
        batch = Batch(
            handle, False, past.puts, past.alarm, _ORIGIN, 0, sides=past.sides, history=history
        )
        if past.ended_by is not None and past.keyspace != handle.keyspace:
            batch.clears = True
            batch.goes_back = past.keyspace != 0
            handle.keyspace = past.keyspace or self._environment.next_keyspace()
            if batch.goes_back:
                batch.created_us = past.ended_by.created_us
        self._commit_batch(batch)
        return undo

    def fork(self, to: str | datetime, name: str) -> None:
        """Make a new object that is what this one was. Raises DurableError if it exists."""
        found = self._with_history()
        if find_in(self._store, self._cls.label, name) is not None:
            raise DurableError(f"there is an object {name!r} already; give another name")
        reading = Reading(self._store, found)
        whole = reading.at(to)
        id = IdFactory(self._cls.unique_key).from_name(name)
        number = self._environment.next_keyspace()
        base = id.raw[:BASE_SIZE]
        handle = ObjectHandle(self._cls.number, base, number, name_to_keep(name), None, None)
        self._environment.commit(
            [Batch(handle, False, whole.puts, whole.alarm, _ORIGIN, whole.size, sides=whole.sides)]
        )

    def _with_history(self) -> Found:
        return with_history(self._store, self._cls.label, self._name_or_id)

    def _handle_of(self, cls: StoredClass, name_or_id: str) -> ObjectHandle:
        found = self._found
        if found is not None:
            base = found.id.raw[:BASE_SIZE]
            return ObjectHandle(
                cls.number, base, found.number, found.name, None, None, history=found.history
            )
        ids = IdFactory(cls.unique_key)
        is_id = _HEX_ID.fullmatch(name_or_id)
        id = ids.from_string(name_or_id) if is_id else ids.from_name(name_or_id)
        return ObjectHandle(cls.number, id.raw[:BASE_SIZE], 0, name_to_keep(id.name), None, None)

    def _check_codec(self) -> None:
        """Refuse to write what the program of the store could not read."""
        first = None if self._found is None else next(self._store.items(self._found), None)
        if first is not None and isinstance(first[1], Unreadable) and not first[1].is_damaged:
            raise DurableError(
                f"the values of the store are not written by the library's codec ({first[1].why}); "
                f"let the program that has this codec do it: open the store with it, and with "
                f"operate=True"
            )

    def _commit(self, puts: dict[str, bytes | None], *, clears: bool = False) -> None:
        size = sum(len(key) + len(value or b"") for key, value in puts.items())
        alarm = None if clears else UNCHANGED
        self._commit_batch(Batch(self._handle, clears, puts, alarm, _ORIGIN, size))

    def _commit_batch(self, batch: Batch) -> None:
        record = None if self._found is None else self._store.record(self._found)
        if batch.handle.history and record is not None:
            note_images(batch, self._environment.in_line, record, _now_us())
        self._environment.commit([batch])


def _now_us() -> int:
    return round(SystemClock().now() * 1_000_000)


def _nothing(*_: object) -> None:
    """The callback of a batch: each commit is waited for, and needs no notice."""


_ORIGIN: Final = Callbacks(_nothing, _nothing)
