"""Schedules of timers: what their authors write, checked, and the times that they stand for.

Times of cron are those of a time zone. Where its clocks go forward, a job whose time is skipped
comes right after the gap; where they go back, one with a fixed hour and minute comes once, at the
first of the two. One whose hour or minute begins with a star goes by real time: it comes in both.
That is what Debian's cron does, which `cronsim` follows.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final
from zoneinfo import ZoneInfo

from durable._engine.stored_timer import Cron, Every, Schedule
from durable._model.errors import MissingExtra

from .arguments import to_datetime

_MICROSECOND: Final = timedelta(microseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def shown(schedule: Schedule) -> tuple[str | timedelta | None, str | None]:
    """What `every()` was given, and the name of the time zone."""
    if isinstance(schedule, Every):
        return schedule.period_us * _MICROSECOND, None
    return (None, None) if schedule is None else (schedule.expression, schedule.zone)


def schedule_of(
    schedule: str | timedelta, time_zone: str | ZoneInfo | None, now_us: int
) -> Every | Cron:
    """What `every()` was given. Raises TypeError, ValueError, and MissingExtra without cronsim."""
    if isinstance(schedule, timedelta):
        if time_zone is not None:
            raise TypeError("every() takes a time zone only with an expression of cron")
        if schedule <= timedelta(0):
            raise ValueError(f"every() takes a timedelta above zero, not {schedule!r}")
        return Every(schedule // _MICROSECOND)
    if not isinstance(schedule, str):
        raise TypeError(
            f"every() takes an expression of cron, such as '0 3 * * *', or a timedelta, not "
            f"{schedule!r}"
        )
    cron = Cron(str.__str__(schedule), _zone_name(time_zone))
    if next(_times(cron, now_us), None) is None:
        raise ValueError(f"the time of {schedule!r} never comes; change the day or the month")
    return cron


def first_us(schedule: Every | Cron, now_us: int) -> int:
    """The first time of a schedule that begins now."""
    first = next_us(schedule, now_us, now_us)
    assert first is not None  # it was looked for when the schedule was checked
    return first


def next_us(schedule: Schedule, scheduled_us: int, after_us: int) -> int | None:
    """The first time of *schedule* after *after_us*, where it has *scheduled_us*; None: there is no
    further one. Raises what `schedule_of` raises, where the machine has lost what it needs."""
    if schedule is None:
        return None
    if isinstance(schedule, Every):
        return scheduled_us + schedule.period_us * max(
            1, (after_us - scheduled_us) // schedule.period_us + 1
        )
    return next(_times(schedule, after_us), None)


def _times(cron: Cron, after_us: int) -> Iterator[int]:
    """The times after *after_us*."""
    zone = _zone(cron.zone)
    for time in _simulated(cron, to_datetime(after_us).astimezone(zone)):
        time_us = (time.astimezone(UTC) - _EPOCH) // _MICROSECOND
        # In an hour that comes twice a fixed time is the first of the two, and may have passed.
        if time_us > after_us:
            yield time_us


def _simulated(cron: Cron, after: datetime) -> Iterator[datetime]:
    try:
        # By name, and not before it is needed: only programs that use cron have it.
        cronsim: Any = importlib.import_module("cronsim")
    except ImportError:
        raise MissingExtra(
            "timers by an expression of cron need cronsim (every() takes a timedelta too)", "cron"
        ) from None
    try:
        times: Iterator[datetime] = cronsim.CronSim(cron.expression, after)
    except cronsim.CronSimError as error:
        raise ValueError(
            f"{cron.expression!r} is no expression of cron: {error}. It has five fields: minute, "
            f"hour, day of the month, month, day of the week; or six, with the second first"
        ) from None
    return times


def _zone_name(time_zone: str | ZoneInfo | None) -> str:
    if time_zone is None:
        return "UTC"
    if isinstance(time_zone, ZoneInfo):
        if time_zone.key is None:
            raise ValueError(f"{time_zone!r} has no name to be stored; give one by its name")
        return time_zone.key
    if not isinstance(time_zone, str):
        raise TypeError(
            f"a time zone is a name, such as 'Europe/Berlin', or a ZoneInfo, not {time_zone!r}"
        )
    _zone(time_zone)
    return time_zone


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        raise ValueError(
            f"there is no time zone {name!r} on this machine; correct the name, or install tzdata"
        ) from None
