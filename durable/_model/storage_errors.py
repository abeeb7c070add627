"""What an object's storage refuses: keys, values, calls and statements of SQL.

Rule: as for all errors (`errors`). Where a value is sent and not stored, the same ones are raised.
"""

from __future__ import annotations

from .errors import DurableError

# Keys and values


class KeyTooLarge(DurableError, ValueError):
    """A key, in UTF-8, takes more than `size_max` bytes."""

    size: int
    size_max: int

    def __init__(self, size: int, size_max: int) -> None:
        super().__init__(
            f"Keys cannot be larger than {size_max} bytes. A key of size {size} was provided. "
            f"Shorten it, for instance by storing a hash of it"
        )
        self.size, self.size_max = size, size_max


class ValueTooLarge(DurableError, ValueError):
    """The value of `key`, once encoded, takes more than `size_max` bytes."""

    key: str
    size: int
    size_max: int

    def __init__(
        self,
        key: str,
        size: int,
        size_max: int,
        advice: str = "split it over several keys or raise Limits.value_size_max",
    ) -> None:
        super().__init__(
            f"Values cannot be larger than {size_max} bytes. A value of size {size} was provided "
            f"for {_shorten(key)}; {advice}"
        )
        self.key, self.size, self.size_max = key, size, size_max


class TooManyKeys(DurableError, ValueError):
    """A single call has more than `count_max` keys."""

    count: int
    count_max: int

    def __init__(self, count: int, count_max: int) -> None:
        super().__init__(
            f"Maximum number of key value pairs is {count_max}. {count} pairs were provided. "
            f"Split them over several calls: those made with no other await in between are still "
            f"committed together"
        )
        self.count, self.count_max = count, count_max


class TooManyTimers(DurableError, ValueError):
    """An object has as many timers already as it can have."""


class UnstorableValue(DurableError, TypeError):
    """The value, or one inside it at `where`, is of a type that is not stored or sent."""

    def __init__(self, why: str, where: str = "", *, instead: str | None = None) -> None:
        place = f" (at {where})" if where else ""
        if instead is None:
            instead = (
                "values are made of None, bool, int, float, str, bytes, bytearray, list, tuple, "
                "dict, set, frozenset, datetime, date, time, timedelta, Decimal and UUID, and of "
                "the dataclasses, attrs classes, NamedTuples, enums and pydantic models that the "
                "object class declares"
            )
        super().__init__(f"{why}{place}; {instead}")
        self.where = where


class UnreadableValue(DurableError, ValueError):
    """A stored value is of a class that the object class does not declare, or that has changed so
    that it cannot be made of what is stored. What is stored stays as it is."""


class TransactionOver(DurableError):
    """A call on a transaction that was rolled back or has ended."""


# SQL


class SqlError(DurableError):
    """SQLite refuses a statement, or it has no such result as was asked for.

    `code` is SQLite's name for the reason, such as "SQLITE_CONSTRAINT_UNIQUE", where it is one;
    `offset` is the place in the statement, in bytes, where it says one.
    """

    code: str | None
    offset: int | None

    def __init__(self, message: str, *, code: str | None = None, offset: int | None = None) -> None:
        super().__init__(message)
        self.code, self.offset = code, offset


class SqlConstraint(SqlError):
    """A constraint of a table does not allow it; nothing of the statement was done."""


class SqlForbidden(SqlError):
    """A statement that SQL in an object may not make."""


def _shorten(text: str, size_max: int = 80) -> str:
    return repr(text) if len(text) <= size_max else repr(text[:size_max]) + "…"
