"""`ctx.storage`: what one object remembers."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Protocol, TypeVar

from durable._gates.critical_section import Sections
from durable._gates.futures import Answer, ReadyAnswer
from durable._gates.refusing import refusing
from durable._model.clock import Clock

from .bookmarks import Bookmarks
from .kv import KeyValues
from .operations import AlarmRules, Operations
from .records import Records
from .savepoint import Savepoint
from .transaction import Scope, Transaction, run_transaction

if TYPE_CHECKING:
    from .sql.sql import Sql

T = TypeVar("T")


class SqlOwner(Protocol):
    """The object whose storage it is: implemented by `Activation`."""

    def open_sql(self, records: Records) -> Sql:
        """The object's SQLite database, from its first use on."""


class Storage(Operations):
    """The durable memory of one object: values by key, and one alarm.

    **Promises.** Calls act in the order in which they are made, and each sees all before it and
    none after it, whenever its answer is awaited (P6). What is written with no wait on the outside
    in between is committed together or not at all, the alarm included (P7); nothing leaves the
    object before it is on disk (P8). Values are copied at the call, in and out (P10). While a read
    waits for the disk no other event is delivered (P4).

    **Sizes** (`Limits`): a key takes up to 2,048 bytes of UTF-8 (`""` is one), a value up to 2 MiB
    once encoded, and one get, put or delete up to 128 keys.

    **Options.** `allow_concurrency`: other events may be delivered while this call waits for the
    disk. `allow_unconfirmed`: what leaves the object need not wait for this write. `no_cache`: keep
    nothing of this call in memory; it changes only the speed.

    **Errors** are raised at the call, before anything is written: KeyTooLarge, ValueTooLarge,
    TooManyKeys, UnstorableValue; TypeError for what is of the wrong type, ValueError for what is
    out of range or no valid Unicode; the reason once the object is broken (ObjectReset,
    ObjectAborted). A write that fails later resets the object, and so does the reading of a value
    that is damaged on the disk: no code of it sees that (P9, P18).

        count = await self.ctx.storage.get("count", 0) + 1
        self.ctx.storage.put("count", count)          # acts here; awaiting is optional
    """

    __slots__ = ("_kv", "_owner", "_sections")

    def __init__(
        self,
        records: Records,
        clock: Clock,
        alarms: AlarmRules,
        sections: Sections,
        owner: SqlOwner,
    ) -> None:
        super().__init__(records, clock, alarms)
        self._sections = sections
        self._owner = owner
        self._kv: KeyValues | None = None

    @refusing
    def delete_all(
        self,
        *,
        allow_concurrency: bool = False,
        allow_unconfirmed: bool = False,
        no_cache: bool = False,
    ) -> Answer[None]:
        """Delete every key, and the alarm. Not within a transaction: that raises DurableError.

        Writes made before it in the same turn never happen; those made after it stay. `no_cache` is
        taken as by all writes; there is nothing to keep.
        """
        self._records.delete_all(allow_unconfirmed=allow_unconfirmed)
        return self._buffer.wait_room(None, holds=not allow_concurrency)

    @refusing
    def sync(self) -> Answer[None]:
        """Wait until all that was written before this call is on disk, `allow_unconfirmed` too.

        Other events are delivered meanwhile. It does not hurry anything: a turn's writes are
        committed when the turn ends. Within a transaction the writes of the transaction itself are
        not waited for, since they wait for its end.
        """
        self._gate.check_loop()
        return self._buffer.wait_durable()

    # Going back

    @refusing
    def get_current_bookmark(self) -> Answer[str]:
        """A bookmark of this moment, to which the object can go back as long as its class's
        `history` says. Bookmarks are texts that sort by time.

        What the turn wrote before the call is committed by itself. Raises DurableError where the
        class keeps no history, and within a transaction.
        """
        self._gate.check()
        return ReadyAnswer(self._bookmarks.current("get_current_bookmark()"))

    @refusing
    def get_bookmark_for_time(self, time: datetime) -> Answer[str]:
        """A bookmark of *time*, or of up to a minute earlier, never later; a naive datetime is
        local time.

        Raises UnknownBookmark where that is before the history begins, ValueError for a time to
        come, TypeError for what is no datetime, else as `get_current_bookmark`.
        """
        self._gate.check()
        return ReadyAnswer(self._bookmarks.at(time, "get_bookmark_for_time()"))

    @refusing
    def on_next_session_restore_bookmark(self, bookmark: str) -> Answer[str]:
        """Go back to *bookmark* when the object is built next, before its constructor runs: keys,
        alarm, timers and SQL become what they were, in one commit. Returns a bookmark of this
        moment, which undoes it; it comes when all that is on disk, while other events are
        delivered. Of several calls the last one counts.

            undo = await self.ctx.storage.on_next_session_restore_bookmark(bookmark)
            self.ctx.abort("going back")

        Raises UnknownBookmark for one that is too old or no bookmark, else as
        `get_current_bookmark`.
        """
        self._gate.check()
        return self._bookmarks.wish(bookmark, "on_next_session_restore_bookmark()")

    @property
    def _bookmarks(self) -> Bookmarks:
        return Bookmarks(self._buffer, self._records.reads, self._clock)

    # Transactions

    @refusing
    def transaction(self, closure: Callable[[Transaction], Awaitable[T]]) -> Answer[T]:
        """Run `closure(txn)` once, alone, when this turn ends; returns what that returns (P11).

        Its writes are kept whole, or not at all if it raises (the exception passes to the code that
        awaits the answer; the object is not reset) or calls `txn.rollback()`. They are seen inside
        at once and become durable together after the end. Every call on `ctx.storage` and its `kv`
        that is made meanwhile belongs to it. Transactions nest: an inner one that has ended is
        undone with the outer. Nothing else is delivered to the object meanwhile, and the object is
        reset after `Limits.critical_section_s_max` seconds.
        """
        self._gate.check()
        if not callable(closure):
            raise TypeError(
                f"transaction() takes an async function of one argument, txn; "
                f"{type(closure).__name__} was given"
            )
        return self._sections.run(
            lambda: run_transaction(
                self._buffer,
                lambda savepoint: closure(self._begin(savepoint)),
            ),
            resets=False,
        )

    def transaction_sync(self, closure: Callable[[], T]) -> T:
        """Run `closure()`, which takes nothing and does not wait, here and now; returns what it
        returns.

        What it writes, keys, alarm and SQL, is kept if it returns and undone if it raises, which
        passes on. It is part of this turn: what is kept is committed with what the turn writes
        before and after it. Transactions of this kind nest, and run within `transaction()` too.
        """
        self._gate.check()
        if not callable(closure) or inspect.iscoroutinefunction(closure):
            raise TypeError(
                f"transaction_sync() takes a plain function without arguments, not {closure!r}; "
                f"transaction() takes an async one"
            )
        buffer = self._buffer
        with Scope(buffer, buffer.begin_within_turn()):
            value = closure()
            # What the storage's own calls return has acted already.
            if inspect.isawaitable(value) and not isinstance(value, Answer):
                if inspect.iscoroutine(value):
                    value.close()
                raise TypeError(
                    "transaction_sync() takes a plain function; what it was given returned "
                    "something to await. Use transaction()"
                )
            return value

    def _begin(self, savepoint: Savepoint) -> Transaction:
        return Transaction(self._records, self._clock, self._alarms, savepoint)

    @property
    def kv(self) -> KeyValues:
        """The same records without `await`."""
        if self._kv is None:
            self._kv = KeyValues(self._records)
        return self._kv

    @property
    def sql(self) -> Sql:
        """The object's SQLite database; MissingExtra without `durable-objects[sql]`."""
        database = self._buffer.database
        opened: Sql = self._owner.open_sql(self._records) if database is None else database.sql
        return opened

    def __repr__(self) -> str:
        return f"<Storage {self._records.cache!r} {self._buffer!r}>"
