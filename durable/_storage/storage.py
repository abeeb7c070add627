"""`ctx.storage`: what one object remembers.

Rule: every call acts when it is made. What it gives back may be awaited, late or never; that
changes nothing of what was done or read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar, overload

from durable._disk.batch import Alarm
from durable._gates.answers import Answer, Ready

from .arguments import UNSET, alarm_time_us, to_datetime
from .cache import UNKNOWN
from .kv import KeyValues
from .records import Miss
from .transaction import Transaction, run_transaction
from .write_buffer import DONE

if TYPE_CHECKING:
    from .shelf import Shelf

T = TypeVar("T")


class Storage:
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
    ObjectAborted). A write that fails later resets the object: no code of it sees that (P9).

        count = await self.ctx.storage.get("count", 0) + 1
        self.ctx.storage.put("count", count)          # acts here; awaiting is optional
    """

    __slots__ = (
        "_buffer",
        "_cache",
        "_decode",
        "_entries",
        "_gate",
        "_kv",
        "_records",
        "_shelf",
    )

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._cache = shelf.cache
        self._buffer = shelf.buffer
        self._records = shelf.records
        self._gate = shelf.gate
        self._kv: KeyValues | None = None
        # What a hit needs, without a detour.
        self._entries = shelf.cache.entries
        self._decode = shelf.decode

    # Reading

    @overload
    def get(
        self,
        key: str,
        default: Any = None,
        *,
        allow_concurrency: bool = False,
        no_cache: bool = False,
    ) -> Answer[Any]: ...
    @overload
    def get(
        self, key: Iterable[str], *, allow_concurrency: bool = False, no_cache: bool = False
    ) -> Answer[dict[str, Any]]: ...
    def get(
        self,
        key: str | Iterable[str],
        default: Any = None,
        *,
        allow_concurrency: bool = False,
        no_cache: bool = False,
    ) -> Answer[Any]:
        """The value of *key*, or *default* if there is none.

        With many keys (a list, tuple, set or the like; up to 128): a dict of those that are there,
        in the order of the keys' UTF-8 bytes whatever the order asked for.
        """
        # A hit costs a dict's get and a decode, and little more: no checks before it. What is no
        # valid key, many keys included, is not in the dict, or cannot be asked for.
        try:
            encoded = self._entries.get(key, UNKNOWN)  # type: ignore[arg-type]
        except TypeError:
            encoded = UNKNOWN
        if encoded is not UNKNOWN:
            if self._gate.broken is not None:
                self._gate.check()
            return Ready(default if encoded is None else self._decode(encoded))
        records = self._records
        return records.answer(
            records.find(key, default, no_cache=no_cache), holds=not allow_concurrency
        )

    def list(
        self,
        *,
        start: str | None = None,
        start_after: str | None = None,
        end: str | None = None,
        prefix: str | None = None,
        reverse: bool = False,
        limit: int | None = None,
        allow_concurrency: bool = False,
        no_cache: bool = False,
    ) -> Answer[dict[str, Any]]:
        """The pairs whose keys lie within the bounds, as a dict in the order of UTF-8 bytes.

        *start* is inclusive, *start_after* and *end* are exclusive; *prefix* is what keys begin
        with. *reverse* turns the order, and so which end *limit* cuts; it does not swap the bounds.
        All that is listed is in memory at once: for many keys go by pages of *limit* and
        *start_after*. Bounds that leave nothing answer an empty dict. As in Cloudflare's runtime.
        """
        records = self._records
        found = records.find_list(
            start=start,
            start_after=start_after,
            end=end,
            prefix=prefix,
            reverse=reverse,
            limit=limit,
            no_cache=no_cache,
        )
        return records.answer(found, holds=not allow_concurrency)

    # Writing

    @overload
    def put(
        self,
        key: str,
        value: Any,
        *,
        allow_concurrency: bool = False,
        allow_unconfirmed: bool = False,
        no_cache: bool = False,
    ) -> Answer[None]: ...
    @overload
    def put(
        self,
        key: Mapping[str, Any],
        *,
        allow_concurrency: bool = False,
        allow_unconfirmed: bool = False,
        no_cache: bool = False,
    ) -> Answer[None]: ...
    def put(
        self,
        key: str | Mapping[str, Any],
        value: Any = UNSET,
        *,
        allow_concurrency: bool = False,
        allow_unconfirmed: bool = False,
        no_cache: bool = False,
    ) -> Answer[None]:
        """Store *value* under *key*, or all pairs of a mapping (up to 128) or none of them.

        The answer comes at once, unless more than `Limits.dirty_bytes_max` bytes of this object are
        on their way to the disk: then awaiting it waits for room. To store what is stored already
        writes nothing.
        """
        self._records.put(key, value, allow_unconfirmed=allow_unconfirmed, no_cache=no_cache)
        buffer = self._buffer
        if buffer.sealed_bytes > buffer.dirty_bytes_max:
            return buffer.wait_room(None, holds=not allow_concurrency)
        return DONE

    @overload
    def delete(  # pyright: ignore[reportOverlappingOverload]
        self,
        key: str,
        *,
        allow_concurrency: bool = False,
        allow_unconfirmed: bool = False,
        no_cache: bool = False,
    ) -> Answer[bool]: ...
    @overload
    def delete(
        self,
        key: Iterable[str],
        *,
        allow_concurrency: bool = False,
        allow_unconfirmed: bool = False,
        no_cache: bool = False,
    ) -> Answer[int]: ...
    def delete(
        self,
        key: str | Iterable[str],
        *,
        allow_concurrency: bool = False,
        allow_unconfirmed: bool = False,
        no_cache: bool = False,
    ) -> Answer[Any]:
        """Delete *key*: answers whether it was there. Of many keys (up to 128): how many were.

        Where that is not in memory awaiting the answer may wait for the disk, or for room as with
        `put`; the deletion has happened by then.
        """
        records = self._records
        holds = not allow_concurrency
        found = records.delete(key, allow_unconfirmed=allow_unconfirmed, no_cache=no_cache)
        if isinstance(found, Miss):
            return records.answer(found, holds=holds)
        return self._buffer.wait_room(found, holds=holds)

    def delete_all(
        self, *, allow_concurrency: bool = False, allow_unconfirmed: bool = False
    ) -> Answer[None]:
        """Delete every key, and the alarm. Not within a transaction: that raises DurableError.

        Writes made before it in the same turn never happen; those made after it stay.
        """
        self._records.delete_all(allow_unconfirmed=allow_unconfirmed)
        return self._buffer.wait_room(None, holds=not allow_concurrency)

    def sync(self) -> Answer[None]:
        """Wait until all that was written before this call is on disk, `allow_unconfirmed` too.

        Other events are delivered meanwhile. It does not hurry anything: a turn's writes are
        committed when the turn ends. Within a transaction the writes of the transaction itself are
        not waited for, since they wait for its end.
        """
        self._gate.check()
        return self._buffer.wait_durable()

    # The alarm

    def get_alarm(self, *, allow_concurrency: bool = False) -> Answer[datetime | None]:
        """When the alarm is set for, in UTC; None if it is not, or while its handler runs."""
        self._gate.check()
        alarm = None if self._buffer.rings else self._buffer.alarm
        return Ready(None if alarm is None else to_datetime(alarm.scheduled_us))

    def set_alarm(
        self,
        time: datetime | timedelta | float,
        *,
        allow_concurrency: bool = False,
        allow_unconfirmed: bool = False,
    ) -> Answer[None]:
        """Call the object's `alarm()` at *time*, in place of any alarm that was set before.

        *time* is a datetime (a naive one is local time), a timedelta from now, or POSIX seconds;
        kept to the microsecond; one that has passed becomes now. Raises ValueError for a time <= 0,
        TypeError for a class without `alarm()`; the constructor may set one all the same.
        """
        self._gate.check()
        if not self._shelf.may_set_alarm:
            raise TypeError(
                "Your Durable Object class must have an alarm() handler in order to call "
                "set_alarm(). Define `async def alarm(self, info)` in it"
            )
        time_us = alarm_time_us(time, self._shelf.clock.now())
        self._buffer.write_alarm(Alarm(time_us, time_us), confirmed=not allow_unconfirmed)
        return self._buffer.wait_room(None, holds=not allow_concurrency)

    def delete_alarm(
        self, *, allow_concurrency: bool = False, allow_unconfirmed: bool = False
    ) -> Answer[None]:
        """Unset the alarm, if one is set. A handler that runs goes on, but is not retried."""
        self._gate.check()
        if self._buffer.alarm is not None:
            self._buffer.write_alarm(None, confirmed=not allow_unconfirmed)
        else:
            self._buffer.note_nothing_left(confirmed=not allow_unconfirmed)
        return self._buffer.wait_room(None, holds=not allow_concurrency)

    # Transactions

    def transaction(self, closure: Callable[[Transaction], Awaitable[T]]) -> Answer[T]:
        """Run `closure(txn)` once, alone, when this turn ends; answers what it returns (P11).

        Its writes are kept whole, or not at all if it raises (the exception passes to whoever
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
        return self._shelf.run_section(lambda: run_transaction(self, closure), resets=False)

    @property
    def kv(self) -> KeyValues:
        """The same records without `await`."""
        if self._kv is None:
            self._kv = KeyValues(self._records)
        return self._kv

    def __repr__(self) -> str:
        return f"<Storage {self._cache!r} {self._buffer!r}>"
