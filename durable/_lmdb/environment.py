"""The environment: the LMDB files of one store, as those above use them.

One process owns the folder and writes; one write transaction at a time, begun and committed in one
call. The map grows by itself, which no transaction may see: growing takes the write lock and the
locks of all readers. So does opening LMDB anew, when it has given up after a failed write.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from typing import Any, NoReturn, TypeVar

import lmdb
from attrs import define, field

from durable._engine.batch import Batch, DueAlarm, ObjectRecord
from durable._engine.catalog import Catalog, ClassRecord, Weight
from durable._engine.engine import GARBAGE_STEP
from durable._engine.engine import Reader as Records
from durable._engine.measures import Measures
from durable._engine.view import Malformed
from durable._model.clock import Clock
from durable._model.errors import DurableError, RuntimeClosed, StoreFull, WrongLoop

from . import class_records, layout, lmdb_files, object_index
from .create import lengthen, make_folder, unmake_folder
from .folder import DATA_FILE, MAP_SIZE_MAX, Found
from .lmdb_errors import (
    WouldWait,
    at_its_limit,
    lock_replaced,
    never_waits,
    no_address_space,
    not_read,
    not_reopened,
    not_written,
    taken_away,
    unreadable,
)
from .lmdb_files import (
    READERS_MAX,
    begin_read,
    errno_of,
    is_damage,
    lock_file_of,
    look_beside,
    open_databases,
    open_lmdb,
    open_owned,
)
from .long_keys import Transaction
from .measuring import measure
from .ownership import Ownership, inspect_free
from .reader import Reader, Scan
from .spare import Spare
from .upgrading import Protection, protected_from, upgrade
from .write_transaction import Changes, Databases

__all__ = ["ClassRecord", "DueAlarm", "Environment", "ObjectRecord"]

T = TypeVar("T")


@define(eq=False, repr=False)
class Environment:
    """An open store. `commit` and its kin block; reads are in-line and fast."""

    path: str
    _clock: Clock
    _lmdb: lmdb.Environment
    _databases: Databases
    _ownership: Ownership | None  # None: it is only looked at
    _map_size_max: int
    has_garbage: bool = field(default=False, init=False)
    protection: Protection = field(init=False)
    _keyspaces: count[int] = field(factory=count, init=False)
    _next_keyspace_saved: int = field(default=1, init=False)
    _write_lock: threading.Lock = field(factory=threading.Lock, init=False)
    _is_open: bool = field(default=True, init=False)
    # LMDB has given up, or its lock file was taken away: the next commit opens it anew.
    _must_reopen: bool = field(default=False, init=False)
    _is_reopened: bool = field(default=True, init=False)  # else there is nothing to read from
    _folder_seen: tuple[int, int, int] = field(default=(0, 0, 0), init=False)
    _lock_file_seen: tuple[int, int] = field(default=(0, 0), init=False)
    _map_size: int = field(default=0, init=False)
    _spare: Spare = field(init=False)
    _is_foreign: bool = field(default=False, init=False)  # in a child of the process it belongs to
    _page_size: int = field(default=0, init=False)
    _pages_filled: int = field(default=0, init=False)
    _map_lock: threading.Lock = field(factory=threading.Lock, init=False)
    _held_lock: threading.Lock = field(factory=threading.Lock, init=False)  # the first to be taken
    _readers: list[Reader] = field(factory=list, init=False)
    _reader: Reader = field(init=False)
    # The loop's reads are the hottest calls of the store: its reader's own methods.
    get: Callable[[int, str], bytes | None] = field(init=False)
    get_many: Callable[[int, Iterable[str]], dict[str, bytes]] = field(init=False)
    scan: Scan = field(init=False)
    in_line: Records = field(init=False)

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], *, clock: Clock, map_size_max: int = MAP_SIZE_MAX
    ) -> Environment:
        """Own the store in the folder *path*, which is made if it is not there.

        Raises StoreInUse, StoreDamaged, FormatTooNew, StoreFull, and an OSError for a folder that
        cannot be used; then nothing was created or changed.
        """
        folder = os.path.abspath(os.fspath(path))
        found = inspect_free(folder)
        made = make_folder(folder) if found is not Found.STORE else None
        try:
            ownership = Ownership(folder)
            try:
                handle, databases = open_owned(folder, ownership.lock_store_file, map_size_max)
                try:
                    return cls(folder, clock, handle, databases, ownership, map_size_max)
                except BaseException:
                    handle.close()
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

        Where LMDB's lock cannot be had here, as on a read-only mount, what is looked at is the
        folder as the owner's control socket hands it out, or a copy. Raises FileNotFoundError,
        StoreDamaged, FormatTooNew, and an OSError that says what to do where there is neither.
        """
        folder = os.path.abspath(os.fspath(path))
        handle, databases = look_beside(folder)
        try:
            return cls(folder, clock, handle, databases, None, MAP_SIZE_MAX)
        except BaseException:
            handle.close()
            raise

    def __attrs_post_init__(self) -> None:
        self._page_size = self._lmdb.stat()["psize"]
        self._map_size = self._lmdb.info()["map_size"]
        self._lock_file_seen = lock_file_of(self.path)
        self.protection = Protection(self.path)
        self.protection.first = self.read(protected_from)
        self._spare = Spare(self.path)
        self._reader = self.new_reader()
        self.get = self._reader.get
        self.get_many = self._reader.get_many
        self.scan = self._reader.scan
        self.in_line = self._reader
        meta, garbage = self._databases.meta, self._databases.garbage
        raw = self._reader.read(lambda txn: txn.get(layout.META_NEXT_KEYSPACE, db=meta))
        self._next_keyspace_saved = 1 if raw is None else layout.read_number(raw)
        self._keyspaces = count(self._next_keyspace_saved)
        self.has_garbage = self._reader.read(lambda txn: txn.cursor(db=garbage).first())
        self._reader.release()
        _open_environments.add(self)

    # Reading, on the loop's thread

    def refresh(self) -> None:
        """From now on reads see every commit that was made before."""
        self._reader.release()

    def new_reader(self, begin: Callable[[], Transaction] | None = None) -> Reader:
        """A reader for one more thread; its transactions are *begin*'s, if that is given."""
        reader = Reader(
            begin or self._begin_read, self._refuse, self._drop_reader, self.protection.value
        )
        with self._map_lock:
            self._readers.append(reader)
        return reader

    def _drop_reader(self, reader: Reader) -> None:
        with self._map_lock:
            self._readers.remove(reader)

    def read(self, look: Callable[[Transaction, Databases], T]) -> T:
        """What *look* finds in one transaction, on any thread. The map cannot grow meanwhile."""
        self._check_usable()
        reader = self.new_reader()
        try:
            return reader.read(lambda txn: look(txn, self._databases))
        finally:
            reader.close()

    @contextmanager
    def held(self) -> Iterator[lmdb.Environment]:
        """LMDB itself, whose map stays where it is meanwhile: a commit that must grow waits."""
        with self._held_lock:
            self._check_usable()
            yield self._lmdb

    def find(self, class_number: int, base: bytes) -> ObjectRecord | None:
        """What is known of an object; None if it has neither a key nor an alarm."""
        return self._ask(object_index.find, class_number, base)

    def objects(
        self, class_number: int, *, after: bytes | None = None, count_max: int
    ) -> list[tuple[bytes, ObjectRecord]]:
        """Up to *count_max* objects of a class behind the base *after*, in the order of bases."""
        return self._ask(object_index.objects, class_number, after, count_max)

    def alarms(self, *, after: DueAlarm | None = None, count_max: int) -> list[DueAlarm]:
        """Up to *count_max* alarms of all objects behind *after*, the earliest first."""
        return self._ask(object_index.alarms, after, count_max)

    def next_alarm_us(self) -> int | None:
        """When the earliest alarm is due."""
        first = self.alarms(count_max=1)
        return first[0].due_us if first else None

    def classes(self) -> list[ClassRecord]:
        """Every class of the store, in the order in which they were registered."""
        return [record for record in self.catalog().records if not record.is_deleted]

    def catalog(self) -> Catalog:
        """All that is known of classes, those that were deleted included, and of migrations."""
        return self._ask(class_records.read_catalog)

    def weigh_class(self, class_number: int) -> Weight:
        """What a class holds; reads all of it."""
        return self._ask(class_records.weigh, class_number)

    def measure(self) -> Measures:
        """What the file is like; costs the same for a small store and a large one."""
        return self.read(self.measure_in)

    def measure_in(self, txn: Transaction, databases: Databases) -> Measures:
        return measure(txn, databases, self._lmdb, self.path)

    def _ask(self, look: Callable[..., T], *args: Any) -> T:
        self._check_usable()
        if not self._is_reopened:
            self._come_back()
        return self._reader.read(lambda txn: look(txn, self._databases, *args))

    # Writing

    def next_keyspace(self) -> int:
        """A keyspace that no object has had. Commits that use it remember that it was given out."""
        return next(self._keyspaces)

    def commit(self, group: Sequence[Batch], *, may_wait: bool = True) -> bool:
        """Make every batch durable in one transaction, as `Engine.commit` says. Blocks on fsync."""
        size = sum([batch.size for batch in group])
        now_us = int(self._clock.now() * 1_000_000)
        changes: Changes | None = None

        def change(txn: Transaction) -> Changes:
            nonlocal changes
            if changes is not None:
                changes.take_back()  # of a try that found the map full
            changes = Changes(txn, self._databases, now_us)
            changes.apply(group)
            if changes.keyspace_max >= self._next_keyspace_saved:
                changes.save_next_keyspace(changes.keyspace_max + 1)
            return changes

        try:
            done = self._write(
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
        """Know *after* of classes and migrations, where *before* was known. Blocks on fsync.

        The objects of classes that are deleted by it become garbage.
        """

        def change(txn: Transaction) -> None:
            class_records.write_catalog(txn, self._databases, before, after)
            self.has_garbage |= any(record.is_deleted for record in after.records)

        self._write(change)
        self.refresh()

    def collect_garbage(self, count_max: int = GARBAGE_STEP) -> int:
        """Free up to *count_max* records and objects of what was wiped, or deleted with its class.

        Answers how many; blocks on fsync.
        """
        databases = self._databases

        def step(txn: Transaction) -> int:
            freed = class_records.collect_some(txn, databases, count_max)
            # Within the transaction, since others make garbage in theirs.
            self.has_garbage = freed == count_max
            return freed

        return self._write(step, frees=lambda: True)

    def _write(
        self,
        change: Callable[[Transaction], T],
        size: int = 0,
        frees: Callable[[], bool] = bool,
        *,
        may_wait: bool = True,
    ) -> T:
        """Do *change* in one transaction, once more whenever the map was too small for it, or the
        disk for one that *frees*. Raises WouldWait where it may not and would."""
        self._check_usable()
        assert self._ownership is not None  # who only looks does not write
        never_waits(not may_wait and self._write_lock.locked())
        with self._write_lock:
            self._check_folder()
            if self._must_reopen:
                never_waits(not may_wait)
                self._reopen()
            while True:
                try:
                    with self._lmdb.begin(write=True, db=self._databases.records) as txn:
                        if self.protection.first is None:
                            upgrade(txn, self._databases, self._next_keyspace_saved)
                        result = change(txn)
                    if self.protection.first is None:
                        self.protection.first = self._next_keyspace_saved
                    self._fill_file()
                    return result
                except lmdb.MapFullError as error:
                    never_waits(not may_wait)  # as long as somebody copies the map
                    self._grow(size, error)
                except (lmdb.CorruptedError, lmdb.PageNotFoundError, Malformed) as error:
                    raise unreadable(self.path, error) from error
                except lmdb.Error as error:
                    failure = not_written(self.path, errno_of(error), error, size)
                    self._recover()
                    if isinstance(failure, StoreFull) and frees() and self._spare.give_back():
                        continue
                    raise failure from error

    def _check_folder(self) -> None:
        """Raise CommitFailed if the folder is not ours any more. One look, unless it was changed:
        each call of the system may cost this thread its turn."""
        assert self._ownership is not None
        try:
            found = os.stat(self.path)
            seen = (found.st_dev, found.st_ino, found.st_mtime_ns)
            if seen == self._folder_seen:
                return
            self._ownership.check()
            if self._lock_file_seen != lock_file_of(self.path):
                self._must_reopen = True  # else lookers have locks that LMDB does not see
            self._folder_seen = seen
        except OSError as error:
            raise taken_away(self.path, error) from error

    def _recover(self) -> None:
        """LMDB gives up an environment when the last write of a commit, its meta page, failed: then
        open it anew, with what was committed before."""
        try:
            self._lmdb.begin().abort()
        except lmdb.PanicError:
            self._must_reopen = True
            with suppress(DurableError, OSError):  # the next commit tries again
                self._reopen()
        except lmdb.Error:
            pass

    def _reopen(self) -> None:
        with self._held_lock, self._map_lock, ExitStack() as stack:
            self._let_go_of_readers(stack)
            self._open_anew()

    def _open_anew(self) -> None:
        self._must_reopen, self._is_reopened = True, False
        self._lmdb.close()
        try:
            handle = open_lmdb(self.path, map_size=self._map_size)
            self._databases = open_databases(handle, self.path, is_new=False)
        except (DurableError, OSError) as error:
            raise not_reopened(self.path, error) from error
        self._lmdb = handle
        self._lock_file_seen = lock_file_of(self.path)
        self._pages_filled = 0
        self._must_reopen, self._is_reopened = False, True

    def _come_back(self) -> None:
        """Reads find an environment that could not be opened anew: perhaps nobody writes."""
        if not self._is_reopened and self._write_lock.acquire(blocking=False):
            try:
                with suppress(DurableError, OSError):
                    self._reopen()
            finally:
                self._write_lock.release()

    def _let_go_of_readers(self, stack: ExitStack) -> None:
        for reader in self._readers:
            stack.enter_context(reader.lock)
            reader.release_locked()

    def _grow(self, size: int, cause: Exception) -> None:
        if self._map_size >= self._map_size_max:
            raise at_its_limit(self.path, self._map_size_max) from cause
        larger = max(2 * self._map_size, self._map_size + 2 * size + lmdb_files.GROWTH_SPARE)
        with self._held_lock, self._map_lock, ExitStack() as stack:
            self._let_go_of_readers(stack)
            try:
                self._lmdb.set_mapsize(min(larger, self._map_size_max))
                self._map_size = self._lmdb.info()["map_size"]
            except lmdb.Error as error:
                self._open_anew()  # LMDB has no map at all now
                raise no_address_space(self.path, larger, error) from error

    def _fill_file(self) -> None:
        """Make the file as long as LMDB says it is: the last pages of a transaction may be unused
        and then are not written, and at the next open the file would seem to be cut off."""
        info = self._lmdb.info()
        if info["num_readers"] > READERS_MAX // 2:
            self._lmdb.reader_check()
        if (pages := info["last_pgno"] + 1) > self._pages_filled:
            lengthen(os.path.join(self.path, DATA_FILE), pages * self._page_size)
            self._pages_filled = pages
            # Perhaps it grew since somebody who only looked was killed, and still has old pages.
            self._lmdb.reader_check()
            self._spare.keep()
        elif self._spare.is_given_back:
            self._spare.keep()

    # The end

    def close(self) -> None:
        """Release the folder. Reads and writes must have ended."""
        if not self._is_open or self._is_foreign:
            return
        self._is_open = False
        _open_environments.discard(self)
        with self._write_lock:
            for reader in self._readers:
                reader.release()
            self._lmdb.close()
        if self._ownership is not None:
            self._ownership.release()

    def abandon(self) -> None:
        """In a forked child: this is the parent's, and cannot be used here."""
        self._is_foreign = True
        for reader in self._readers:
            reader.abandon()

    def __repr__(self) -> str:
        state = "foreign" if self._is_foreign else "open" if self._is_open else "closed"
        return f"<Environment {state} {self.path!r}>"

    # What goes wrong

    def _check_usable(self) -> None:
        if self._is_foreign:
            raise WrongLoop(f"the store {self.path!r}")
        if not self._is_open:
            raise RuntimeClosed(f"the store {self.path!r} is closed; open it again")

    def _begin_read(self) -> Transaction:
        self._check_usable()
        if not self._is_reopened:
            raise not_reopened(self.path, None)
        if self._ownership is None and self._lock_file_seen != lock_file_of(self.path):
            raise lock_replaced(self.path)
        txn: Transaction = begin_read(self._lmdb, self.path, db=self._databases.records)
        return txn

    def _refuse(self, error: Exception) -> NoReturn:
        self._come_back()  # for the read that comes next
        if isinstance(error, lmdb.Error | Malformed | UnicodeDecodeError):
            raise (unreadable if is_damage(error) else not_read)(self.path, error) from error
        raise error


_open_environments: weakref.WeakSet[Environment] = weakref.WeakSet()


def _abandon_in_child() -> None:
    for environment in list(_open_environments):
        environment.abandon()


os.register_at_fork(after_in_child=_abandon_in_child)
