"""LMDB's own environment of one store, kept usable: it grows, and is reopened when it has failed.

One write transaction at a time, begun and committed in one call. The map grows by itself, during
which no transaction may be open: growing takes the write lock and the locks of all readers. So does
reopening LMDB, when it has become unusable after a failed write.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, NoReturn, TypeVar

import lmdb
from attrs import define, field

from durable._engine.view import Malformed
from durable._model.errors import DurableError, RuntimeClosed, StoreFull, WrongLoop

from . import lmdb_files
from .create import lengthen
from .folder import DATA_FILE
from .lmdb_errors import (
    GivenUp,
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
    open_databases,
    open_lmdb,
)
from .long_keys import Transaction
from .ownership import Ownership
from .reader import Reader
from .spare import Spare
from .upgrading import Protection, protected_from, upgrade
from .write_transaction import Databases

T = TypeVar("T")


@define(eq=False, repr=False)
class Handle:
    """An open store as LMDB has it: transactions to read and to write it."""

    path: str
    env: lmdb.Environment
    databases: Databases
    ownership: Ownership | None  # None: it is only read
    map_size_max: int
    protection: Protection = field(init=False)
    page_size: int = field(default=0, init=False)
    map_size: int = field(default=0, init=False)
    is_open: bool = field(default=True, init=False)
    is_foreign: bool = field(default=False, init=False)  # in a child of the process it belongs to
    write_lock: threading.Lock = field(factory=threading.Lock, init=False)
    # LMDB is unusable, or its lock file was removed: the next commit reopens it.
    _must_reopen: bool = field(default=False, init=False)
    is_reopened: bool = field(default=True, init=False)  # else there is nothing to read from
    _folder_seen: tuple[int, int, int] = field(default=(0, 0, 0), init=False)
    _lock_file_seen: tuple[int, int] = field(default=(0, 0), init=False)
    _spare: Spare = field(init=False)
    _pages_filled: int = field(default=0, init=False)
    _map_lock: threading.Lock = field(factory=threading.Lock, init=False)
    _held_lock: threading.Lock = field(factory=threading.Lock, init=False)  # the first to be taken
    _readers: list[Reader] = field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        self.page_size = self.env.stat()["psize"]
        self.map_size = self.env.info()["map_size"]
        self._lock_file_seen = lock_file_of(self.path)
        self.protection = Protection(self.path)
        self.protection.first = self.read(protected_from)
        self._spare = Spare(self.path)
        _open_handles.add(self)

    # Reading

    def new_reader(self, begin: Callable[[], Transaction] | None = None) -> Reader:
        """A reader for one more thread; *begin* makes its transactions, if that is given."""
        reader = Reader(
            begin or self.begin_read,
            self._wait_for_write,
            self._refuse,
            self._drop_reader,
            self.protection.value,
        )
        with self._map_lock:
            self._readers.append(reader)
        return reader

    def objects(self) -> Any:
        """The database of the objects, which is another one once LMDB was opened anew."""
        return self.databases.objects

    def _drop_reader(self, reader: Reader) -> None:
        with self._map_lock:
            self._readers.remove(reader)

    def read(self, look: Callable[[Transaction, Databases], T]) -> T:
        """The result of *look* in one transaction, on any thread. The map cannot grow meanwhile."""
        self.check_usable()
        reader = self.new_reader()
        try:
            return reader.read(lambda txn: look(txn, self.databases))
        finally:
            reader.close()

    @contextmanager
    def held(self) -> Iterator[lmdb.Environment]:
        """LMDB itself, whose map stays where it is meanwhile: a commit that must grow waits."""
        with self._held_lock:
            self.check_usable()
            yield self.env

    def check_usable(self) -> None:
        """Raise WrongLoop in a forked child, RuntimeClosed when it is closed."""
        if self.is_foreign:
            raise WrongLoop(f"the store {self.path!r}")
        if not self.is_open:
            raise RuntimeClosed(f"the store {self.path!r} is closed; open it again")

    def begin_read(self) -> Transaction:
        self.check_usable()
        if not self.is_reopened:
            self._come_back()
        if self.ownership is None and self._lock_file_seen != lock_file_of(self.path):
            raise lock_replaced(self.path)
        try:
            txn: Transaction = begin_read(self.env, self.path, db=self.databases.records)
        except lmdb.PanicError as error:
            raise GivenUp from error
        return txn

    def _wait_for_write(self) -> None:
        """Wait until the write under way has ended, or failed and opened LMDB anew."""
        with self.write_lock:
            pass

    def _refuse(self, error: Exception) -> NoReturn:
        if isinstance(error, GivenUp) and error.__cause__ is not None:
            raise not_read(self.path, error.__cause__) from error
        if isinstance(error, lmdb.Error | Malformed | UnicodeDecodeError):
            raise (unreadable if is_damage(error) else not_read)(self.path, error) from error
        raise error

    # Writing

    def write(
        self,
        change: Callable[[Transaction], T],
        size: int = 0,
        frees: Callable[[], bool] = bool,
        *,
        may_wait: bool = True,
    ) -> T:
        """Run *change* in one transaction, again whenever the map was too small for it, or the disk
        was too small for one that *frees*. Raises WouldWait if it would have to and may not."""
        self.check_usable()
        assert self.ownership is not None  # a store that is only read is not written
        never_waits(not may_wait and self.write_lock.locked())
        with self.write_lock:
            self._check_folder()
            if self._must_reopen:
                never_waits(not may_wait)
                self._reopen()
            while True:
                try:
                    with self.env.begin(write=True, db=self.databases.records) as txn:
                        first = self.protection.first
                        if first is None:
                            first = upgrade(txn, self.databases)
                        result = change(txn)
                    self.protection.first = first
                    self._fill_file()
                    return result
                except lmdb.MapFullError as error:
                    never_waits(not may_wait)  # while the map is being copied
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
        """Raise CommitFailed if the folder is another one by now. One look, unless it was changed:
        each system call may cost this thread its turn."""
        assert self.ownership is not None
        try:
            found = os.stat(self.path)
            seen = (found.st_dev, found.st_ino, found.st_mtime_ns)
            if seen == self._folder_seen:
                return
            self.ownership.check()
            if self._lock_file_seen != lock_file_of(self.path):
                self._must_reopen = True  # else new readers have locks that LMDB does not see
            self._folder_seen = seen
        except OSError as error:
            raise taken_away(self.path, error) from error

    def _recover(self) -> None:
        """LMDB makes an environment unusable if the last write of a commit, its meta page, fails:
        then reopen it, with what was committed before."""
        try:
            self.env.begin().abort()
        except lmdb.PanicError:
            self._must_reopen = True
            with suppress(DurableError, OSError):  # the next commit tries again
                self._reopen()
        except lmdb.Error:
            pass

    def _reopen(self) -> None:
        with self._held_lock, self._map_lock, ExitStack() as stack:
            if self.is_reopened:  # else no reader has a transaction, and one may wait for this lock
                self._let_go_of_readers(stack)
            self._open_anew()

    def _open_anew(self) -> None:
        self._must_reopen, self.is_reopened = True, False
        self.env.close()
        try:
            handle = open_lmdb(self.path, map_size=self.map_size)
            self.databases = open_databases(handle, self.path, is_new=False)
        except (DurableError, OSError) as error:
            raise not_reopened(self.path, error) from error
        self.env = handle
        self._lock_file_seen = lock_file_of(self.path)
        self._pages_filled = 0
        self._must_reopen, self.is_reopened = False, True

    def _come_back(self) -> None:
        """Reopen LMDB for a read, after that has failed. Raises CommitFailed if it fails again."""
        while not self.is_reopened:
            # In steps, since the reader that asks holds its lock: a thread that holds this one may
            # wait for that, but only while the store is open.
            if self._held_lock.acquire(timeout=0.01):
                try:
                    if not self.is_reopened:
                        self._open_anew()
                finally:
                    self._held_lock.release()

    def _let_go_of_readers(self, stack: ExitStack) -> None:
        for reader in self._readers:
            stack.enter_context(reader.lock)
            reader.release_locked()

    def _grow(self, size: int, cause: Exception) -> None:
        if self.map_size >= self.map_size_max:
            raise at_its_limit(self.path, self.map_size_max) from cause
        larger = max(2 * self.map_size, self.map_size + 2 * size + lmdb_files.GROWTH_SPARE)
        with self._held_lock, self._map_lock, ExitStack() as stack:
            self._let_go_of_readers(stack)
            try:
                self.env.set_mapsize(min(larger, self.map_size_max))
                self.map_size = self.env.info()["map_size"]
            except lmdb.Error as error:
                self._open_anew()  # LMDB has no map at all now
                raise no_address_space(self.path, larger, error) from error

    def _fill_file(self) -> None:
        """Make the file as long as LMDB takes it to be: the last pages of a transaction may be
        unused and then are not written, and at the next open the file would look cut off."""
        info = self.env.info()
        if info["num_readers"] > READERS_MAX // 2:
            self.env.reader_check()
        if (pages := info["last_pgno"] + 1) > self._pages_filled:
            lengthen(os.path.join(self.path, DATA_FILE), pages * self.page_size)
            self._pages_filled = pages
            # It may have grown because a killed reader's slot still keeps old pages.
            self.env.reader_check()
            self._spare.keep()
        elif self._spare.is_given_back:
            self._spare.keep()

    # The end

    def close(self) -> None:
        """Release the folder. Reads and writes must have ended."""
        if not self.is_open or self.is_foreign:
            return
        self.is_open = False
        _open_handles.discard(self)
        with self.write_lock:
            for reader in self._readers:
                reader.release()
            self.env.close()
        if self.ownership is not None:
            self.ownership.release()

    def abandon(self) -> None:
        """In a forked child: the environment is the parent's, and cannot be used here."""
        self.is_foreign = True
        for reader in self._readers:
            reader.abandon()


_open_handles: weakref.WeakSet[Handle] = weakref.WeakSet()


def _abandon_in_child() -> None:
    for handle in list(_open_handles):
        handle.abandon()


os.register_at_fork(after_in_child=_abandon_in_child)
