"""The calls on an object's storage that `ctx.storage` and a transaction have in common.

Rule: every call acts when it is made. What it gives back may be awaited, late or never; that
changes nothing of what was done or read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol, TypeVar, overload

from durable._engine.batch import Alarm
from durable._gates.ending import Stopped
from durable._gates.futures import Answer, FoundAnswer, ReadyAnswer
from durable._gates.refusing import refusing
from durable._loop import here
from durable._model.clock import Clock

from .arguments import UNSET, alarm_time_us, to_datetime
from .cache import UNKNOWN
from .records import Keys, Miss, Nothing, Records
from .sealed_batches import DONE

V = TypeVar("V")


class AlarmRules(Protocol):
    """Which alarms an object may set: implemented by `ObjectStorage`."""

    def may_set_alarm(self) -> bool:
        """Whether it may set one now. Raises TypeError for a class that has timers."""


class Operations:
    """Reads and writes of one object's records, and of its alarm."""

    __slots__ = (
        "_alarms",
        "_buffer",
        "_clock",
        "_decode",
        "_entries",
        "_gate",
        "_records",
    )

    def __init__(self, records: Records, clock: Clock, alarms: AlarmRules) -> None:
        self._records = records
        self._clock = clock
        self._alarms = alarms
        self._buffer = records.buffer
        self._gate = records.gate
        # What a hit needs, without a detour.
        self._entries = records.cache.entries
        self._decode = records.decode

    # Reading

    @overload
    def get(
        self,
        key: str,
        default: Nothing = None,
        *,
        allow_concurrency: bool = False,
        no_cache: bool = False,
    ) -> Answer[Any]: ...
    @overload
    def get(
        self,
        key: str,
        default: V,
        *,
        allow_concurrency: bool = False,
        no_cache: bool = False,
    ) -> Answer[V]: ...
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
        if encoded is not UNKNOWN and here.thread() == self._gate.thread:
            answer: FoundAnswer[Any] = FoundAnswer()
            answer._value = default if encoded is None else self._decode(encoded)
            return answer
        try:
            found = self._records.find(key, default, no_cache=no_cache)
        except Stopped as stopped:
            return self._gate.refuse(stopped)
        if type(found) is Miss:
            return self._records.answer(found, holds=not allow_concurrency)
        return ReadyAnswer(found)

    @overload
    def list(
        self,
        *,
        start: str | None = None,
        start_after: str | None = None,
        end: str | None = None,
        prefix: str | None = None,
        reverse: bool = False,
        limit: int | None = None,
        keys_only: Literal[False] = False,
        allow_concurrency: bool = False,
        no_cache: bool = False,
    ) -> Answer[dict[str, Any]]: ...
    @overload
    def list(
        self,
        *,
        start: str | None = None,
        start_after: str | None = None,
        end: str | None = None,
        prefix: str | None = None,
        reverse: bool = False,
        limit: int | None = None,
        keys_only: Literal[True],
        allow_concurrency: bool = False,
        no_cache: bool = False,
    ) -> Answer[Keys]: ...
    @refusing
    def list(
        self,
        *,
        start: str | None = None,
        start_after: str | None = None,
        end: str | None = None,
        prefix: str | None = None,
        reverse: bool = False,
        limit: int | None = None,
        keys_only: bool = False,
        allow_concurrency: bool = False,
        no_cache: bool = False,
    ) -> Answer[Any]:
        """The pairs whose keys lie within the bounds, as a dict in the order of UTF-8 bytes.

        *start* is inclusive, *start_after* and *end* are exclusive; *prefix* is what keys begin
        with. *reverse* turns the order, and so which end *limit* cuts; it does not swap the bounds.
        Bounds that leave nothing give an empty dict. As in Cloudflare's runtime. With *keys_only*
        a list of the keys is what is returned, read 10,000 at a time without their values.

        What is listed is of the moment of the call, and in memory at once. A list of more than
        1,000 keys or 1 MiB of values is read in parts, between which other objects run; this one
        is kept for itself until the end, unless *allow_concurrency* is set. To go over many keys
        with little memory, take pages:

            page = await storage.list(limit=1_000)
            while page:
                ...
                page = await storage.list(start_after=next(reversed(page)), limit=1_000)
        """
        records = self._records
        found = records.find_list(
            start=start,
            start_after=start_after,
            end=end,
            prefix=prefix,
            reverse=reverse,
            limit=limit,
            keys_only=keys_only,
            no_cache=no_cache,
        )
        return records.answer_parts(found, holds=not allow_concurrency)

    @refusing
    def count(
        self,
        *,
        start: str | None = None,
        start_after: str | None = None,
        end: str | None = None,
        prefix: str | None = None,
        allow_concurrency: bool = False,
    ) -> Answer[int]:
        """How many keys lie within the bounds, which are those of `list`.

        A pass over the keys, without their values, 10,000 at a time. Cloudflare's runtime has no
        such call.
        """
        records = self._records
        found = records.count(start=start, start_after=start_after, end=end, prefix=prefix)
        return records.answer_parts(found, holds=not allow_concurrency)

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
        try:
            self._records.put(key, value, allow_unconfirmed=allow_unconfirmed, no_cache=no_cache)
        except Stopped as stopped:
            return self._gate.refuse(stopped)
        buffer = self._buffer
        if buffer.sealed_bytes > buffer.dirty_bytes_max:
            return buffer.wait_room(None, holds=not allow_concurrency)
        return DONE

    @overload
    def update(
        self,
        key: str,
        fn: Callable[[Any], V],
        default: Nothing = None,
        *,
        allow_concurrency: bool = False,
        allow_unconfirmed: bool = False,
        no_cache: bool = False,
    ) -> Answer[V]: ...
    @overload
    def update(
        self,
        key: str,
        fn: Callable[[V], V],
        default: V,
        *,
        allow_concurrency: bool = False,
        allow_unconfirmed: bool = False,
        no_cache: bool = False,
    ) -> Answer[V]: ...
    @refusing
    def update(
        self,
        key: str,
        fn: Callable[[Any], Any],
        default: Any = None,
        *,
        allow_concurrency: bool = False,
        allow_unconfirmed: bool = False,
        no_cache: bool = False,
    ) -> Answer[Any]:
        """Store what `fn(value)` returns under *key*, and return that: `update("n", add_one, 0)`.

        *fn* is a plain function, called at once with the value of *key*, or with *default* if there
        is none. Where the value is not in memory it is read in-line, also where `reads="thread"`
        sends other reads to a thread. If *fn* raises, nothing is stored. Cloudflare's runtime has
        no such call.
        """
        new = self._records.update(
            key,
            fn,
            default,
            allow_unconfirmed=allow_unconfirmed,
            no_cache=no_cache,
            check=self._check_update,
        )
        return self._buffer.wait_room(new, holds=not allow_concurrency)

    def _check_update(self) -> None:
        """What was called may have ended what this belongs to."""

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
    @refusing
    def delete(
        self,
        key: str | Iterable[str],
        *,
        allow_concurrency: bool = False,
        allow_unconfirmed: bool = False,
        no_cache: bool = False,
    ) -> Answer[Any]:
        """Delete *key*: returns whether it was there. Of many keys (up to 128): how many were.

        Where that is not in memory awaiting the answer may wait for the disk, or for room as with
        `put`; the deletion has happened by then.
        """
        records = self._records
        holds = not allow_concurrency
        found = records.delete(key, allow_unconfirmed=allow_unconfirmed, no_cache=no_cache)
        if isinstance(found, Miss):
            return records.answer(found, holds=holds)
        return self._buffer.wait_room(found, holds=holds)

    # The alarm

    @refusing
    def get_alarm(self, *, allow_concurrency: bool = False) -> Answer[datetime | None]:
        """When the alarm is set for, in UTC; None if it is not, or while its handler runs."""
        self._gate.check()
        alarm = None if self._buffer.alarm_runs else self._buffer.alarm
        return ReadyAnswer(None if alarm is None else to_datetime(alarm.scheduled_us))

    @refusing
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
        TypeError for a class without `alarm()`; the constructor may set one all the same, unless
        the class has timers.
        """
        self._gate.check()
        if not self._alarms.may_set_alarm():
            raise TypeError(
                "Your Durable Object class must have an alarm() handler in order to call "
                "set_alarm(). Define `async def alarm(self, info)` in it; or define `async def "
                "timer(self, name, payload)`, and call ctx.timers.set()"
            )
        time_us = alarm_time_us(time, self._clock.now())
        self._buffer.write_alarm(Alarm(time_us, time_us), confirmed=not allow_unconfirmed)
        return self._buffer.wait_room(None, holds=not allow_concurrency)

    @refusing
    def delete_alarm(
        self, *, allow_concurrency: bool = False, allow_unconfirmed: bool = False
    ) -> Answer[None]:
        """Unset the alarm, if one is set. A handler that runs goes on, but is not retried."""
        self._gate.check()
        self._alarms.may_set_alarm()  # which refuses where there are timers
        if self._buffer.alarm is not None:
            self._buffer.write_alarm(None, confirmed=not allow_unconfirmed)
        else:
            self._buffer.note_nothing_left(confirmed=not allow_unconfirmed)
        return self._buffer.wait_room(None, holds=not allow_concurrency)
