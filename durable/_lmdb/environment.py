"""The environment: one store in LMDB, as an engine.

One process owns the folder and writes, in one thread at a time. `handle.py` does what LMDB needs to
stay usable.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, ClassVar, TypeVar

from attrs import define, field

from durable._engine.batch import Batch, DueAlarm, ObjectRecord, size_of
from durable._engine.catalog import Catalog, ClassRecord
from durable._engine.engine import ANY_NUMBER, GARBAGE_STEP
from durable._engine.engine import Reader as Records
from durable._engine.measures import Measures
from durable._model.clock import Clock

from . import class_records, layout
from .create import make_folder, unmake_folder
from .folder import MAP_SIZE_MAX, Found
from .handle import Handle
from .lmdb_errors import (
    WouldWait,
)
from .lmdb_files import (
    look_beside,
    open_owned,
)
from .long_keys import Transaction
from .measuring import measure
from .ownership import Ownership, inspect_free
from .questions import Questions
from .reader import Reader
from .write_transaction import Changes, Databases

__all__ = ["ClassRecord", "DueAlarm", "Environment", "ObjectRecord"]

T = TypeVar("T")


@define(eq=False, repr=False)
class Environment(Questions):
    """An open store. `commit` and its kin block; reads are in-line and fast."""

    handle: Handle
    clock: Clock
    keeps_histories: ClassVar[bool] = True
    group_max: ClassVar[int] = ANY_NUMBER
    has_garbage: bool = field(default=False, init=False)
    _keyspaces: count[int] = field(factory=count, init=False)
    _next_keyspace_saved: int = field(default=1, init=False)
    _reader: Reader = field(init=False)
    in_line: Records = field(init=False)

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], *, clock: Clock, map_size_max: int = MAP_SIZE_MAX
    ) -> Environment:
        """Own the store in the folder *path*, made if it does not exist.

        Raises StoreInUse, StoreDamaged, FormatTooNew, StoreFull, and an OSError for a folder that
        cannot be used; then nothing was created or changed.
        """
        folder = os.path.abspath(os.fspath(path))
        found = inspect_free(folder)
        made = make_folder(folder) if found is not Found.STORE else None
        try:
            ownership = Ownership(folder)
            try:
                env, databases = open_owned(folder, ownership.lock_store_file, map_size_max)
                try:
                    return cls(Handle(folder, env, databases, ownership, map_size_max), clock)
                except BaseException:
                    env.close()
                    raise
            except BaseException:
                ownership.release(undo=True)
                raise
        except BaseException:
            unmake_folder(folder, made)
            raise

    @classmethod
    def open_to_read(cls, path: str | os.PathLike[str], *, clock: Clock) -> Environment:
        """Open the store to read only, beside its owner if there is one; not in its process.

        If LMDB's lock cannot be had here, as on a read-only mount, this opens the folder as the
        owner's control socket passes it on, or a copy. Raises FileNotFoundError, StoreDamaged,
        FormatTooNew, and an OSError that says what to do if neither is possible.
        """
        folder = os.path.abspath(os.fspath(path))
        env, databases = look_beside(folder)
        try:
            return cls(Handle(folder, env, databases, None, MAP_SIZE_MAX), clock)
        except BaseException:
            env.close()
            raise

    def __attrs_post_init__(self) -> None:
        self._reader = self.new_reader()
        self.in_line = self._reader
        meta, garbage = self.handle.databases.meta, self.handle.databases.garbage
        raw = self._reader.read(lambda txn: txn.get(layout.META_NEXT_KEYSPACE, db=meta))
        self._next_keyspace_saved = 1 if raw is None else layout.read_number(raw)
        self._keyspaces = count(self._next_keyspace_saved)
        self.has_garbage = self._reader.read(lambda txn: txn.cursor(db=garbage).first())
        self._reader.release()
        _environments.add(self)

    @property
    def path(self) -> str:
        return self.handle.path

    # Reading, on the loop's thread

    def refresh(self) -> None:
        """From now on reads see every commit that was made before."""
        self._reader.release()

    def new_reader(self) -> Reader:
        """A reader for one more thread."""
        return self.handle.new_reader()

    def classes(self) -> list[ClassRecord]:
        """Every class of the store, in the order in which they were registered."""
        return [record for record in self.catalog().records if not record.is_deleted]

    def measure(self) -> Measures:
        """The measures of the file; costs the same for a small store and a large one."""
        return self.handle.read(self.measure_in)

    def measure_in(self, txn: Transaction, databases: Databases) -> Measures:
        return measure(txn, databases, self.handle.env, self.path)

    def find(self, class_number: int, base: bytes) -> ObjectRecord | None:
        # By itself, without the function that others give to `_ask`: each object that wakes is
        # looked up.
        handle = self.handle
        handle.check_usable()
        key = layout.object_key(class_number, base)
        return self._reader.find(key, handle.objects, layout.read_object)

    def _ask(self, look: Callable[..., T], *args: Any) -> T:
        handle = self.handle
        handle.check_usable()
        return self._reader.read(lambda txn: look(txn, handle.databases, *args))

    # Writing

    def next_keyspace(self) -> int:
        """A keyspace that no object has had. A commit that uses it records it as assigned."""
        return next(self._keyspaces)

    def commit(self, group: Sequence[Batch], *, may_wait: bool = True) -> bool:
        """Make every batch durable in one transaction, as `Engine.commit` says. Blocks on fsync."""
        size = sum(map(size_of, group))
        now_us = int(self.clock.now() * 1_000_000)
        changes: Changes | None = None

        def change(txn: Transaction) -> Changes:
            nonlocal changes
            if changes is not None:
                changes.take_back()  # of an attempt that found the map full
            changes = Changes(txn, self.handle.databases, now_us)
            changes.apply(group)
            if changes.keyspace_max >= self._next_keyspace_saved:
                changes.save_next_keyspace(changes.keyspace_max + 1)
            return changes

        try:
            done = self.handle.write(
                change, size, lambda: all(batch.frees for batch in group), may_wait=may_wait
            )
        except BaseException as error:
            if changes is not None:
                changes.take_back()
            if isinstance(error, WouldWait):
                return False
            raise
        done.settle()
        self._next_keyspace_saved = max(self._next_keyspace_saved, done.keyspace_max + 1)
        self.has_garbage |= done.makes_garbage
        return True

    def change_classes(self, before: Catalog, after: Catalog) -> None:
        """Replace the catalog *before* by *after*. Blocks on fsync.

        The objects of classes that are deleted by it become garbage.
        """

        def change(txn: Transaction) -> None:
            class_records.write_catalog(txn, self.handle.databases, before, after)
            self.has_garbage |= any(record.is_deleted for record in after.records)

        self.handle.write(change)
        self.refresh()

    def collect_garbage(self, count_max: int = GARBAGE_STEP) -> int:
        """Free up to *count_max* records and objects of what was cleared or deleted with its class.

        Returns how many; blocks on fsync.
        """
        databases = self.handle.databases

        def step(txn: Transaction) -> int:
            freed = class_records.collect_some(txn, databases, count_max)
            # Set within the transaction, since other transactions make garbage.
            self.has_garbage = freed == count_max
            return freed

        return self.handle.write(step, frees=lambda: True)

    # The end

    def close(self) -> None:
        """Release the folder. Reads and writes must have ended."""
        self.handle.close()

    def __repr__(self) -> str:
        handle = self.handle
        state = "foreign" if handle.is_foreign else "open" if handle.is_open else "closed"
        return f"<Environment {state} {self.path!r}>"


def opened_here(path: str) -> Environment | None:
    """The environment of the folder *path* that this process has open, or None."""
    for environment in list(_environments):
        if environment.path == path and environment.handle.is_open:
            return environment
    return None


_environments: weakref.WeakSet[Environment] = weakref.WeakSet()
