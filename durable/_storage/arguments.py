"""Arguments: keys, pairs and times as the storage's callers give them, checked and made plain.

Rule: everything that can be wrong with a call is found here, before anything of it is done.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Any, Final, final

from durable._model.storage_errors import KeyTooLarge, TooManyKeys

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LAST_US = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND


@final
class Unset:
    """No argument was given: None is a value like any other."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<unset>"


UNSET: Final = Unset()

HOW_TO_PUT: Final = (
    "put() may only be called with a single key-value pair and optional options as put(key, value) "
    "or with multiple key-value pairs and optional options as put(mapping)"
)


def check_text(text: str, what: str) -> str:
    """*text* as a plain str. Raises TypeError (no str) and ValueError (lone surrogates)."""
    if not isinstance(text, str):
        raise TypeError(f"a {what} must be a str, not {type(text).__name__}")
    if not text.isascii():
        _encoded_size(text, what)
    return str.__str__(text)


def check_key(key: str, size_max: int) -> str:
    """*key* as a plain str. Raises KeyTooLarge, else as `check_text`."""
    if type(key) is str and key.isascii() and len(key) <= size_max:  # as a rule
        return key
    if not isinstance(key, str):
        raise TypeError(f"a key must be a str, not {type(key).__name__}")
    size = len(key) if key.isascii() else _encoded_size(key, "key")
    if size > size_max:
        raise KeyTooLarge(size, size_max)
    return str.__str__(key)


def check_keys(keys: Iterable[str], call: str, size_max: int, count_max: int) -> list[str]:
    """*keys* in byte order, each once. Raises TooManyKeys, else as `check_key`."""
    if isinstance(keys, bytes | bytearray | Mapping) or not isinstance(keys, Iterable):
        raise TypeError(f"{call} takes a key or a list of keys, not {type(keys).__name__}")
    listed = list(keys)
    if len(listed) > count_max:
        raise TooManyKeys(len(listed), count_max)
    return sorted({check_key(key, size_max) for key in listed})


def check_pairs(pairs: Mapping[str, Any], size_max: int, count_max: int) -> list[tuple[str, Any]]:
    """The pairs of a multi-key put. Raises TypeError and TooManyKeys, else as `check_key`."""
    if isinstance(pairs, str):
        raise TypeError(
            f"put() called with undefined value. Give one for {pairs!r}, None if need be, or call "
            f"delete()"
        )
    if not isinstance(pairs, Mapping):
        raise TypeError(f"{HOW_TO_PUT}; {type(pairs).__name__} was given")
    if len(pairs) > count_max:
        raise TooManyKeys(len(pairs), count_max)
    return [(check_key(key, size_max), value) for key, value in pairs.items()]


def alarm_time_us(
    time: datetime | timedelta | float, now_s: float, call: str = "set_alarm()"
) -> int:
    """When to ring, in microseconds of POSIX time; a time that has passed becomes now.

    A naive datetime is local time, a timedelta counts from now, a number is POSIX seconds. Raises
    TypeError (not a time) and ValueError (at or before 1970, not finite, beyond year 9999).
    """
    now_us = round(now_s * 1_000_000)
    try:
        time_us = _to_us(time, now_us, call)
    except (OverflowError, OSError) as error:
        raise ValueError(f"{call} cannot convert the time {time!r}: {error}") from None
    if time_us <= 0:
        raise ValueError(
            f"{call} cannot be called with an alarm time <= 0. {time!r} was given; times are "
            f"a datetime, a timedelta from now, or seconds since 1970"
        )
    if time_us > _LAST_US:
        raise ValueError(f"{call} cannot be called with {time!r}, a time after year 9999")
    return max(time_us, now_us)


def time_us(time: datetime, call: str) -> int:
    """A point in time, in microseconds of POSIX time; a naive datetime is local time. Raises
    TypeError."""
    if not isinstance(time, datetime):
        raise TypeError(f"{call} takes a datetime, not {type(time).__name__}")
    return _to_us(time, 0, call)


def to_datetime(time_us: int) -> datetime:
    return _EPOCH + time_us * _MICROSECOND


def _to_us(time: datetime | timedelta | float, now_us: int, call: str) -> int:
    if isinstance(time, datetime):
        return (time.astimezone(UTC) - _EPOCH) // _MICROSECOND
    if isinstance(time, timedelta):
        return now_us + time // _MICROSECOND
    if isinstance(time, bool) or not isinstance(time, int | float):
        raise TypeError(
            f"{call} takes a datetime, a timedelta or POSIX seconds, not {type(time).__name__}"
        )
    if isinstance(time, int):
        return time * 1_000_000
    if not isfinite(time):
        raise ValueError(f"{call} cannot be called with {time!r}")
    return round(time * 1_000_000)


def _encoded_size(text: str, what: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the {what} must be valid Unicode, and {text[:80]!r} has a lone surrogate at "
            f"{error.start}"
        ) from None
