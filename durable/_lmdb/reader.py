"""A reader: reads records under one long-lived transaction, for one thread at a time.

The transaction is released when it has grown old, and a new one begun at the next use. So a get
costs little more than LMDB's own, no old pages are pinned between reads, and there are as many
reader slots as readers.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Container, Iterable, Sequence
from itertools import islice
from typing import Any, NoReturn, TypeVar
from zlib import crc32

from attrs import define, field

from durable._engine.checksums import WHOLE
from durable._engine.view import Malformed

from . import long_keys
from .layout import NUMBER_SIZE, PIECE, identity, side_key, top_level
from .lmdb_errors import GivenUp
from .long_keys import Transaction

T = TypeVar("T")


PAUSE_S = 0.000_2


class Interrupted(Exception):
    """The map had to grow while one snapshot was being read."""


@define(eq=False, slots=True)
class Reader:
    """An `OwnReader` of `_engine`: what is stored, as it was when its transaction began."""

    _begin: Callable[[], Transaction]
    _wait_for_write: Callable[[], None]  # the one that has made LMDB give up
    _refuse: Callable[[Exception], NoReturn]  # raises the error's meaning for the callers
    _drop: Callable[[Reader], None]  # removes this reader from the engine's list
    # The value of a record whose checksum does not match, by the keyspace, the key and the record.
    _unprotected: Callable[[int, bytes, bytes], bytes]
    _txn: Transaction | None = field(default=None, init=False)
    # Growing the map takes the locks of all readers.
    lock: threading.Lock = field(factory=threading.Lock, init=False)

    def get(self, keyspace: int, key: str) -> bytes | None:
        encoded = key.encode()
        whose = top_level(keyspace) + encoded
        try:
            with self.lock:
                txn = self._txn or self._renew()
                if len(encoded) <= PIECE:
                    record = txn.get(whose)
                else:
                    record = long_keys.find(txn, keyspace, encoded)
        except Exception as error:
            self._refuse(error)
        if record is None:
            return None
        # is_complete() and what follows from it, without the call.
        if crc32(record, crc32(whose)) == WHOLE:
            return record[1:-4]
        return self._unprotected(keyspace, encoded, record)

    def find(
        self, key: bytes, database: Callable[[], Any], parse: Callable[[bytes, bytes], T]
    ) -> T | None:
        """What *parse* makes of the record of *key* in another database than that of the records.
        That is asked for once the transaction is there, for which LMDB may be opened anew."""
        try:
            with self.lock:
                txn = self._txn or self._renew()
                raw = txn.get(key, db=database())
            return None if raw is None else parse(key, raw)
        except Exception as error:
            self._refuse(error)

    def get_many(self, keyspace: int, keys: Iterable[str]) -> dict[str, bytes]:
        found = {}
        try:
            with self.lock:
                txn = self._txn or self._renew()
                for key in keys:
                    encoded = key.encode()
                    record = long_keys.find(txn, keyspace, encoded)
                    if record is not None:
                        found[key] = self._value(keyspace, encoded, record)
        except Exception as error:
            self._refuse(error)
        return found

    def count_present(self, keyspace: int, keys: Iterable[str]) -> int:
        try:
            with self.lock:
                txn = self._txn or self._renew()
                found = [long_keys.find(txn, keyspace, key.encode()) for key in keys]
        except Exception as error:
            self._refuse(error)
        return len(found) - found.count(None)

    def scan_some(
        self,
        keyspace: int,
        lower: str = "",
        upper: str | None = None,
        *,
        reverse: bool = False,
        count_max: int | None,
        size_max: int | None = None,
    ) -> tuple[list[tuple[str, bytes]], bool]:
        until = None if upper is None else upper.encode()
        found: list[tuple[str, bytes]] = []
        room = size_max
        try:
            with self.lock:
                txn = self._txn or self._renew()
                for key, record in long_keys.scan(txn, keyspace, lower.encode(), until, reverse):
                    if len(found) == count_max or (room is not None and room <= 0):
                        return found, False
                    value = self._value(keyspace, key, record)
                    found.append((key.decode(), value))
                    if room is not None:
                        room -= len(value)
        except Exception as error:
            self._refuse(error)
        return found, True

    def keys_some(
        self,
        keyspace: int,
        lower: str = "",
        upper: str | None = None,
        *,
        reverse: bool = False,
        count_max: int,
    ) -> tuple[list[str], bool]:
        until = None if upper is None else upper.encode()
        try:
            with self.lock:
                txn = self._txn or self._renew()
                keys = long_keys.keys(txn, keyspace, lower.encode(), until, reverse)
                some = [key.decode() for key in islice(keys, count_max)]
                return some, len(some) < count_max or next(keys, None) is None
        except Exception as error:
            self._refuse(error)

    def count_some(
        self,
        keyspace: int,
        lower: str,
        upper: str | None,
        without: Container[bytes],
        count_max: int,
    ) -> tuple[int, str | None]:
        until = None if upper is None else upper.encode()
        try:
            with self.lock:
                txn = self._txn or self._renew()
                keys = long_keys.keys(txn, keyspace, lower.encode(), until)
                some = list(islice(keys, count_max))
                count = sum([key not in without for key in some]) if without else len(some)
                return count, some[-1].decode() + "\0" if len(some) == count_max else None
        except Exception as error:
            self._refuse(error)

    def get_side(self, keyspace: int, key: bytes) -> bytes | None:
        whose = side_key(keyspace, key)
        try:
            with self.lock:
                record = (self._txn or self._renew()).get(whose)
        except Exception as error:
            self._refuse(error)
        if record is None:
            return None
        # As `_side` has it: a query that reads much comes here once for each page.
        if crc32(record, crc32(whose)) != WHOLE:
            return self._side(whose, record)
        return record[1:-4]

    def get_sides(self, keyspace: int, keys: Sequence[bytes]) -> list[bytes | None]:
        first = side_key(keyspace, b"")
        whose = [first + key for key in keys]
        try:
            with self.lock:
                records = list(map((self._txn or self._renew()).get, whose))
        except Exception as error:
            self._refuse(error)
        return [
            None if record is None
            else record[1:-4] if crc32(record, crc32(key)) == WHOLE  # as above
            else self._side(key, record)
            for key, record in zip(whose, records, strict=True)
        ]  # fmt: skip

    def scan_sides(
        self,
        keyspace: int,
        lower: bytes,
        upper: bytes,
        *,
        reverse: bool = False,
        count_max: int,
    ) -> list[tuple[bytes, bytes]]:
        first, until = side_key(keyspace, lower), side_key(keyspace, upper)
        try:
            with self.lock:
                txn = self._txn or self._renew()
                pairs = long_keys.between(txn.cursor(), first, until, reverse)
                found = list(islice(pairs, count_max))
        except Exception as error:
            self._refuse(error)
        return [(whose[NUMBER_SIZE:], self._side(whose, record)) for whose, record in found]

    def _side(self, whose: bytes, record: bytes) -> bytes:
        if crc32(record, crc32(whose)) != WHOLE:  # no format has side records without checksums
            self._refuse(Malformed(f"the side record {whose.hex()} is damaged"))
        return record[1:-4]

    def _value(self, keyspace: int, key: bytes, record: bytes) -> bytes:
        if crc32(record, crc32(identity(keyspace, key))) == WHOLE:
            return record[1:-4]
        return self._unprotected(keyspace, key, record)

    def read(self, look: Callable[[Transaction], T]) -> T:
        """The result of *look*. The map cannot grow meanwhile."""
        try:
            with self.lock:
                return look(self._txn or self._renew())
        except Exception as error:
            self._refuse(error)

    def read_long(self, look: Callable[[Transaction, Callable[[], None]], T]) -> T:
        """The result of *look* on one snapshot. It is given a function to call now and then, so
        that the map can grow: then the snapshot is lost, and Interrupted is raised."""
        try:
            with self.lock:
                txn = self._txn or self._renew()

                def pause() -> None:
                    self.lock.release()
                    try:
                        # Not 0, so that a thread that waits for the lock gets it.
                        time.sleep(PAUSE_S)
                    finally:
                        self.lock.acquire()
                    if self._txn is not txn:
                        raise Interrupted

                return look(txn, pause)
        except Exception as error:
            self._refuse(error)

    def release(self) -> None:
        with self.lock:
            self.release_locked()

    def close(self) -> None:
        """The thread reads no more."""
        self.release()
        self._drop(self)

    def release_locked(self) -> None:
        txn, self._txn = self._txn, None
        if txn is not None:
            txn.abort()

    def abandon(self) -> None:
        """In a forked child: the transaction is the parent's, and the lock may stay taken."""
        self._txn = None
        self.lock = threading.Lock()

    def _renew(self) -> Transaction:
        try:
            self._txn = self._begin()
        except GivenUp:
            # Without the lock, which is taken to open LMDB anew; no transaction is lost by that.
            self.lock.release()
            try:
                self._wait_for_write()
            finally:
                self.lock.acquire()
            self._txn = self._begin()
        return self._txn
