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

from durable._engine.batch import Batch, DueAlarm, ObjectRecord
from durable._engine.catalog import Catalog, ClassRecord
from durable._engine.engine import GARBAGE_STEP
from durable._engine.engine import Reader as Records
from durable._engine.measures import Measures
from durable._engine.merged import Merged
from durable._model.clock import Clock
from durable._model.errors import StoreInUse

from . import class_records, layout
from .create import make_folder, unmake_folder
from .folder import MAP_SIZE_MAX, Found
from .handle import Handle
from .journal.applying import apply_merged
from .journal.marking import Mark, change_mark, read_mark
from .journal.recovery import remove_journal, unapplied
from .lmdb_errors import WouldWait, not_brought_in
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
                    handle = Handle(folder, env, databases, ownership, map_size_max)
                    environment = cls(handle, clock)
                    environment._recover()
                    return environment
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

        If its program died with a journal, what that has is brought into the file first.
        """
        folder = os.path.abspath(os.fspath(path))
        environment = cls._look_at(folder, clock)
        if environment.has_journal and not environment._is_owned():
            environment.close()
            try:
                cls.open(folder, clock=clock).close()
            except StoreInUse:
                pass  # since just now
            except OSError as error:
                raise not_brought_in(folder, error) from error
            environment = cls._look_at(folder, clock)
        return environment

    @classmethod
    def _look_at(cls, folder: str, clock: Clock) -> Environment:
        env, databases = look_beside(folder)
        try:
            return cls(Handle(folder, env, databases, None, MAP_SIZE_MAX), clock)
        except BaseException:
            env.close()
            raise

    def _is_owned(self) -> bool:
        try:
            inspect_free(self.path)
        except StoreInUse:
            return True
        return False

    def __attrs_post_init__(self) -> None:
        self._reader = self.new_reader()
        self.in_line = self._reader
        self._look_at_counters()
        _environments.add(self)

    def _look_at_counters(self) -> None:
        meta, garbage = self.handle.databases.meta, self.handle.databases.garbage
        raw = self._reader.read(lambda txn: txn.get(layout.META_NEXT_KEYSPACE, db=meta))
        self._next_keyspace_saved = 1 if raw is None else layout.read_number(raw)
        self._keyspaces = count(self._next_keyspace_saved)
        self.has_garbage = self._reader.read(lambda txn: txn.cursor(db=garbage).first())
        self._reader.release()

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
        size = sum([batch.size for batch in group])
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

    # A journal in front of it, see `journal.journaled`

    def apply(
        self, merged: Merged, journal: bytes | None, position: int, *, frees: bool = False
    ) -> None:
        """Bring *merged* into the file in one transaction, which says that all before *position* of
        *journal* is in; None: the file has no journal any more. Blocks on fsync.

        Raises what `commit` raises, and then nothing has changed. *frees*: it leaves no more stored
        than before, however full the disk is.
        """
        next_keyspace = merged.keyspace_max + 1

        def change(txn: Transaction) -> bool:
            databases = self.handle.databases
            makes_garbage = apply_merged(txn, databases, merged)
            if next_keyspace > self._next_keyspace_saved:
                number = layout.write_number(next_keyspace)
                txn.put(layout.META_NEXT_KEYSPACE, number, db=databases.meta)
            change_mark(txn, databases.meta, journal, position)
            return makes_garbage

        self.has_garbage |= self.handle.write(change, merged.size, lambda: frees)
        self._next_keyspace_saved = max(self._next_keyspace_saved, next_keyspace)

    @property
    def has_journal(self) -> bool:
        """Whether something that is confirmed may be in a journal and not yet in the file."""
        return self.handle.read(_mark_in) is not None

    def _recover(self) -> None:
        """What a journal has that is not in the file is brought into it, and the journal ends."""
        mark = self.handle.read(_mark_in)
        if mark is not None:
            self.apply(unapplied(self.path, mark), None, 0)
            self._look_at_counters()
        # Without a mark they are of a program that died when it had just made them.
        remove_journal(self.path)

    # The end

    def close(self) -> None:
        """Release the folder. Reads and writes must have ended."""
        self.handle.close()

    def __repr__(self) -> str:
        handle = self.handle
        state = "foreign" if handle.is_foreign else "open" if handle.is_open else "closed"
        return f"<Environment {state} {self.path!r}>"


def _mark_in(txn: Transaction, databases: Databases) -> Mark | None:
    return read_mark(txn, databases.meta)


def opened_here(path: str) -> Environment | None:
    """The environment of the folder *path* that this process has open, or None."""
    for environment in list(_environments):
        if environment.path == path and environment.handle.is_open:
            return environment
    return None


_environments: weakref.WeakSet[Environment] = weakref.WeakSet()
