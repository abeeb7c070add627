"""`ctx.storage`: what one object remembers.

Rule: every call acts when it is made. What it gives back may be awaited, late or never; that
changes nothing of what was done or read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

from durable._disk.batch import Alarm, Batch, Place
from durable._disk.codec import Codec
from durable._gates.answers import Answer, Ready
from durable._gates.input_gate import InputGate
from durable._gates.output_gate import OutputGate
from durable._model.clock import Clock
from durable._model.errors import DurableError
from durable._model.limits import Limits

from .arguments import UNSET, alarm_time_us, to_datetime
from .cache import UNKNOWN, Cache
from .cache_budget import CacheBudget
from .kv import KeyValues
from .records import Miss, Records
from .spans import EVERYTHING, NOTHING
from .transaction import Transaction, run_transaction
from .write_buffer import DONE, WriteBuffer

if TYPE_CHECKING:
    from durable._disk.reads import Reads

T = TypeVar("T")


class RunSection(Protocol):
    """Runs code alone in its object: `Sections.run`."""

    def __call__(self, fn: Callable[[], Awaitable[T]], /, *, resets: bool) -> Answer[T]: ...


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
        "_clock",
        "_decode",
        "_entries",
        "_gate",
        "_has_alarm_handler",
        "_kv",
        "_records",
        "_run_section",
        "constructing",
    )

    def __init__(
        self,
        *,
        place: Place,
        reads: Reads,
        submit: Callable[[Batch], None],
        next_number: Callable[[], int],
        gate: InputGate,
        output: OutputGate,
        codec: Codec,
        limits: Limits,
        clock: Clock,
        budget: CacheBudget,
        run_section: RunSection,
        has_alarm_handler: bool,
        on_failed: Callable[[DurableError], None],
    ) -> None:
        is_new = not place.number
        self._cache = cache = Cache(budget, EVERYTHING if is_new else NOTHING, is_new)
        self._buffer = WriteBuffer(
            place, cache, gate, output, submit, next_number, on_failed, limits.dirty_bytes_max
        )
        self._records = Records(
            cache, self._buffer, gate, reads, limits, codec.encode, codec.decode
        )
        self._gate = gate
        self._clock = clock
        self._run_section = run_section
        self._has_alarm_handler = has_alarm_handler
        self._kv: KeyValues | None = None
        # What a hit needs, without a detour.
        self._entries = cache.entries
        self._decode = codec.decode
        # The host sets it while the object's constructor runs, which may set an alarm whatever
        # handlers the class has.
        self.constructing = False

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
            encoded = self._entries.get(key, UNKNOWN)  # type: ignore[call-overload]
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
        if not self._has_alarm_handler and not self.constructing:
            raise TypeError(
                "Your Durable Object class must have an alarm() handler in order to call "
                "set_alarm(). Define `async def alarm(self, info)` in it"
            )
        time_us = alarm_time_us(time, self._clock.now())
        self._buffer.write_alarm(Alarm(time_us, time_us), confirmed=not allow_unconfirmed)
        return self._buffer.wait_room(None, holds=not allow_concurrency)

    def delete_alarm(
        self, *, allow_concurrency: bool = False, allow_unconfirmed: bool = False
    ) -> Answer[None]:
        """Unset the alarm, if one is set. A handler that runs goes on, but is not retried."""
        self._gate.check()
        if self._buffer.alarm is not None:
            self._buffer.write_alarm(None, confirmed=not allow_unconfirmed)
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
        return self._run_section(lambda: run_transaction(self, closure), resets=False)

    @property
    def kv(self) -> KeyValues:
        """The same records without `await`."""
        if self._kv is None:
            self._kv = KeyValues(self._records)
        return self._kv

    # For the object's host

    def touch(self) -> None:
        """A delivery comes: the object's cache is now the most recently used."""
        self._cache.budget.touch(self._cache)

    def seal(self) -> None:
        """The turn has ended: make a batch of what it wrote."""
        self._buffer.seal()

    def wait_room(self) -> Answer[None] | None:
        """What a new delivery has to wait for, if too much is on its way to the disk."""
        return None if self._buffer.has_room else self._buffer.wait_room(None, holds=False)

    def discard(self) -> None:
        """The object leaves memory: what was not sealed is gone, its cache is given back."""
        self._buffer.close(self._gate.broken)
        self._cache.discard()

    @property
    def alarm(self) -> Alarm | None:
        """The alarm as stored, or about to be; the one whose handler runs is still there."""
        return self._buffer.alarm

    def begin_alarm(self) -> None:
        """The handler starts: from now on the alarm is not to be seen, unless one is set anew."""
        assert self._buffer.alarm is not None
        self._buffer.rings = True

    def end_alarm(self, success: bool, retry: Alarm | None = None) -> bool:
        """The handler has ended. Answers whether the alarm that rang was still the object's.

        On success it is deleted, in the turn under way. Else it is to be seen again; with *retry*
        that is stored in its place. An alarm that the handler set or deleted stays as it is.
        """
        buffer = self._buffer
        if not buffer.rings:
            return False
        buffer.rings = False
        if success or retry is not None:
            buffer.write_alarm(None if success else retry, confirmed=True)
        return True

    def amend_alarm(self, expected: Alarm, alarm: Alarm | None) -> None:
        """Store *alarm* in the place of *expected*, outside of any turn; not if it is another one."""
        if self._buffer.alarm == expected and not self._buffer.rings:
            self._buffer.write_alarm(alarm, confirmed=True)

    def __repr__(self) -> str:
        return f"<Storage {self._cache!r} {self._buffer!r}>"
