"""Timers as side records of their object: one each, under the timer's name."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import ormsgpack
from attrs import frozen

from .side_records import OWN
from .view import Malformed

# The prefix of the keys of these side records; the name follows.
TIMERS: Final = OWN + b"timer "
PAST_TIMERS: Final = OWN + b"timer!"


@frozen
class Every:
    """A schedule: again and again after so long."""

    period_us: int


@frozen
class Cron:
    """A schedule: at the times that an expression of cron describes, in a time zone."""

    expression: str
    zone: str


Schedule: TypeAlias = Every | Cron | None
"""None: once."""


@frozen
class StoredTimer:
    """One timer of an object, in microseconds since 1970."""

    name: str
    due_us: int  # when it rings next
    scheduled_us: int  # the time that it is for, which a retry does not change
    payload: bytes  # encoded
    schedule: Schedule = None
    retry_count: int = 0
    backoff: int = 0

    @property
    def key(self) -> bytes:
        return TIMERS + self.name.encode()


def write_timer(timer: StoredTimer) -> bytes:
    """The timer as it is stored: an array, whose last item is the schedule if it has one."""
    fields: list[Any] = [
        timer.due_us,
        timer.scheduled_us,
        timer.retry_count,
        timer.backoff,
        timer.payload,
    ]
    schedule = timer.schedule
    if isinstance(schedule, Every):
        fields.append(schedule.period_us)
    elif schedule is not None:
        fields.append([schedule.expression, schedule.zone])
    return ormsgpack.packb(fields)


def read_timer(key: bytes, raw: bytes) -> StoredTimer:
    """The timer of a side record. Raises Malformed."""
    if not key.startswith(TIMERS):
        raise Malformed(f"{key!r:.80} is not the key of a timer")
    try:
        name = key.removeprefix(TIMERS).decode()
        fields = ormsgpack.unpackb(raw)
    except ValueError as error:
        raise Malformed(f"{key!r:.80} is not a timer: {error}") from error
    schedule: Schedule
    match fields:
        case [int(), int(), int(), int(), bytes()]:
            schedule = None
        case [int(), int(), int(), int(), bytes(), int(period_us)] if period_us > 0:
            schedule = Every(period_us)
        case [int(), int(), int(), int(), bytes(), [str(expression), str(zone)]]:
            schedule = Cron(expression, zone)
        case _:
            raise Malformed(f"{raw[:80].hex()} is not a timer")
    due_us, scheduled_us, retry_count, backoff, payload = fields[:5]
    if min(due_us, scheduled_us, retry_count, backoff) < 0:
        raise Malformed(f"{raw[:80].hex()} is not a timer")
    return StoredTimer(name, due_us, scheduled_us, payload, schedule, retry_count, backoff)
