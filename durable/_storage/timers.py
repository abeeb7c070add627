"""`ctx.timers`: many alarms of one object, each with a name and something to bring along."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from attrs import evolve, frozen

from durable._engine.stored_timer import StoredTimer
from durable._gates.futures import Answer, ReadyAnswer
from durable._gates.input_gate import InputGate
from durable._gates.refusing import refusing
from durable._model.clock import Clock
from durable._model.instances import is_value
from durable._model.limits import Limits
from durable._model.storage_errors import TooManyTimers, ValueTooLarge

from .arguments import alarm_time_us, check_text, to_datetime
from .records import Records
from .schedules import first_us, schedule_of, shown
from .timer_table import TimerTable


@is_value
@frozen
class Timer:
    """One timer of an object, as it is set."""

    name: str
    due: datetime
    """When `timer()` is called next, in UTC."""
    payload: Any
    schedule: str | timedelta | None
    """What `every()` was given; None for a timer that rings once."""
    time_zone: str | None
    """Of a schedule by an expression of cron."""
    scheduled_time: datetime
    """The time that it is set for: an earlier one than `due` while it is retried."""
    retry_count: int
    """How many runs for that time have failed."""


def timer_of(stored: StoredTimer, decode: Callable[[bytes], Any]) -> Timer:
    """The timer as it is shown."""
    schedule, zone = shown(stored.schedule)
    return Timer(
        stored.name,
        to_datetime(stored.due_us),
        decode(stored.payload),
        schedule,
        zone,
        to_datetime(stored.scheduled_us),
        stored.retry_count,
    )


class Timers:
    """The timers of one object, by name: at its time `timer(self, name, payload)` is called.

    **Promises** are those of the alarm (P12), for each timer by itself: it is stored with the
    writes beside it, undone with the transaction that it is part of, and gone with `delete_all()`;
    it rings at least once, never early, on time after a restart, and never beside itself. When its
    handler raises it is retried after 2, 4, 8 ... s, up to `Limits.alarm_retries_max` times, while
    the others ring on. An object uses timers or `alarm()`, not both.

    **Sizes** (`Limits`): an object has up to 1,000 timers, a name up to 256 bytes of UTF-8, a
    payload up to 16 KiB once encoded.

    Every call acts when it is made; awaiting it is optional. Bad arguments raise at the call. The
    first use reads the object's timers in-line. Cloudflare's runtime has no timers.

        self.ctx.timers.set("reminder", timedelta(hours=1), {"text": "tea"})
        self.ctx.timers.every("report", "0 8 * * MON-FRI", time_zone="Europe/Berlin")

        async def timer(self, name: str, payload: Any) -> None: ...
    """

    __slots__ = ("_clock", "_has_handler", "_records", "_table")

    def __init__(
        self, table: TimerTable, records: Records, clock: Clock, *, has_handler: bool
    ) -> None:
        self._table = table
        self._records = records
        self._clock = clock
        self._has_handler = has_handler

    @property
    def table(self) -> TimerTable:
        """What is kept of them; not for users."""
        return self._table

    @refusing
    def set(
        self,
        name: str,
        when: datetime | timedelta | float,
        payload: Any = None,
        *,
        allow_concurrency: bool = False,
    ) -> Answer[None]:
        """Call `timer(name, payload)` once at *when*, in place of any timer of this name.

        *when* is a datetime (a naive one is local time), a timedelta from now, or POSIX seconds; a
        time that has passed becomes now. Raises TypeError for a class without `timer()`, ValueError
        for a time <= 0 or a name that is too long, ValueTooLarge, UnstorableValue, TooManyTimers.
        """
        self._begin("set()")
        name = self._checked(name)
        due_us = alarm_time_us(when, self._clock.now(), "timers.set()")
        timer = StoredTimer(name, due_us, due_us, self._encoded(name, payload))
        self._check_count(name)
        self._table.forget_running(name)
        self._table.put(timer)
        return self._records.buffer.wait_room(None, holds=not allow_concurrency)

    @refusing
    def every(
        self,
        name: str,
        schedule: str | timedelta,
        payload: Any = None,
        *,
        time_zone: str | ZoneInfo | None = None,
        allow_concurrency: bool = False,
    ) -> Answer[None]:
        """Call `timer(name, payload)` again and again, until `delete(name)`.

        *schedule* is an expression of cron with five fields, or six with the second first, for
        which `durable-objects[cron]` must be installed; its times are those of *time_zone*, UTC if
        there is none. Or it is a timedelta: the first call comes after so long, and the others on
        the grid that begins there, however long each takes.

        A timer that has this schedule already keeps its time, and gets the new payload: so the
        constructor may call this whenever the object wakes. Times that have passed while the
        program was down or the handler ran are made up for by one call. Raises as `set` does, and
        MissingExtra without cronsim.
        """
        self._begin("every()")
        name = self._checked(name)
        now_us = round(self._clock.now() * 1_000_000)
        wanted = schedule_of(schedule, time_zone, now_us)
        encoded = self._encoded(name, payload)
        before = self._table.stored(name)
        if before is not None and before.schedule == wanted:
            if before.payload != encoded:
                timer = evolve(before, payload=encoded)
                self._table.put(timer)
        else:
            self._check_count(name)
            due_us = first_us(wanted, now_us)
            self._table.forget_running(name)
            self._table.put(StoredTimer(name, due_us, due_us, encoded, wanted))
        return self._records.buffer.wait_room(None, holds=not allow_concurrency)

    @refusing
    def delete(self, name: str, *, allow_concurrency: bool = False) -> Answer[bool]:
        """Unset the timer *name*; returns whether it was set. A handler that runs for it goes on,
        but is not retried."""
        self._records.gate.check()
        name = check_text(name, "timer's name")
        was_set = self._table.seen(name) is not None
        self._table.remove(name)
        self._table.forget_running(name)
        return self._records.buffer.wait_room(was_set, holds=not allow_concurrency)

    @refusing
    def get(self, name: str) -> Answer[Timer | None]:
        """The timer *name*; None if there is none. While its handler runs: one that rings once is
        gone, one with a schedule is set for its next time."""
        self._records.gate.check()
        timer = self._table.seen(check_text(name, "timer's name"))
        return ReadyAnswer(None if timer is None else self._shown(timer))

    @refusing
    def list(self) -> Answer[builtins.list[Timer]]:
        """All timers, as `get` gives them, the first to ring first."""
        self._records.gate.check()
        return ReadyAnswer([self._shown(timer) for timer in self._table.all_seen()])

    def _begin(self, call: str) -> None:
        self._records.gate.check()
        if not self._has_handler:
            raise TypeError(
                f"a class must have a handler of timers to call timers.{call}; define `async def "
                f"timer(self, name, payload)` in it"
            )

    @property
    def _gate(self) -> InputGate[Any]:
        return self._records.gate

    @property
    def _limits(self) -> Limits:
        return self._records.limits

    def _checked(self, name: str) -> str:
        name = check_text(name, "timer's name")
        size, size_max = len(name.encode()), self._limits.timer_name_size_max
        if size > size_max:
            raise ValueError(
                f"the name of a timer takes up to {size_max} bytes of UTF-8, and {name[:80]!r} "
                f"takes {size:,}; put what it says into the payload"
            )
        return name

    def _encoded(self, name: str, payload: Any) -> bytes:
        encoded = self._records.encode(payload)
        size_max = self._limits.timer_payload_size_max
        if len(encoded) > size_max:
            raise ValueTooLarge(
                name,
                len(encoded),
                size_max,
                advice="store it under a key, or raise Limits.timer_payload_size_max",
            )
        return encoded

    def _check_count(self, name: str) -> None:
        if self._table.stored(name) is None and len(self._table) >= self._limits.timers_max:
            raise TooManyTimers(
                f"an object can have {self._limits.timers_max:,} timers; spread them over more "
                f"objects, or raise Limits.timers_max"
            )

    def _shown(self, timer: StoredTimer) -> Timer:
        return timer_of(timer, self._records.decode)

    def __repr__(self) -> str:
        return f"<Timers {len(self._table)} set>"
