"""A reader: reads records under one long-lived transaction, for one thread at a time.

The transaction is given back when it has grown old, and a new one begun at the next use. So a get
costs little more than LMDB's own, no old pages are pinned while nobody reads, and there are as many
reader slots as readers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import NoReturn, TypeVar

from attrs import define, field

from . import long_keys
from .layout import PIECE, top_level
from .long_keys import Transaction

T = TypeVar("T")


@define(eq=False, slots=True)
class Reader:
    """What is stored, as it was when the transaction began."""

    _begin: Callable[[], Transaction]
    _refuse: Callable[[Exception], NoReturn]  # raises what an error means to those above
    _drop: Callable[[Reader], None]  # the engine need not know of it any more
    _txn: Transaction | None = field(default=None, init=False)
    # Growing the map takes the locks of all readers.
    lock: threading.Lock = field(factory=threading.Lock, init=False)

    def get(self, number: int, key: str) -> bytes | None:
        encoded = key.encode()
        try:
            with self.lock:
                txn = self._txn or self._renew()
                if len(encoded) <= PIECE:
                    return txn.get(top_level(number) + encoded)
                return long_keys.find(txn, number, encoded)
        except Exception as error:
            self._refuse(error)

    def get_many(self, number: int, keys: Iterable[str]) -> dict[str, bytes]:
        """The values of those that are there."""
        found = {}
        try:
            with self.lock:
                txn = self._txn or self._renew()
                for key in keys:
                    value = long_keys.find(txn, number, key.encode())
                    if value is not None:
                        found[key] = value
        except Exception as error:
            self._refuse(error)
        return found

    def scan(
        self,
        number: int,
        lower: str = "",
        upper: str | None = None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[tuple[str, bytes]]:
        """The keys from *lower*, *upper* excluded, in UTF-8 order; read at the call."""
        until = None if upper is None else upper.encode()
        try:
            with self.lock:
                txn = self._txn or self._renew()
                pairs = long_keys.scan(txn, number, lower.encode(), until, reverse)
                return iter([(key.decode(), value) for key, value in islice(pairs, limit)])
        except Exception as error:
            self._refuse(error)

    def read(self, look: Callable[[Transaction], T]) -> T:
        """What *look* finds. The map cannot grow meanwhile."""
        try:
            with self.lock:
                return look(self._txn or self._renew())
        except Exception as error:
            self._refuse(error)

    def release(self) -> None:
        """See what was committed since, from the next read on."""
        with self.lock:
            self.release_locked()

    def close(self) -> None:
        """The thread that reads has no more use for it."""
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
        self._txn = self._begin()
        return self._txn
