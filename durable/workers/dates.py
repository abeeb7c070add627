"""JavaScript's Date: an instant, in milliseconds."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any, ClassVar

from .javascript import JsProxy, JsRangeError


class JsDate(JsProxy):
    """An instant. Python's datetimes become one on their way out, to the millisecond."""

    js_name: ClassVar[str] = "Date"

    def __init__(self, *parts: Any) -> None:
        first = parts[0] if parts else self.now()
        if len(parts) > 1:
            self._ms = self.UTC(*parts)
        elif isinstance(first, str):
            self._ms = self.parse(first)
        elif isinstance(first, JsDate):
            self._ms = first.getTime()
        elif isinstance(first, datetime):
            self._ms = milliseconds(first)
        else:
            self._ms = int(first)

    @staticmethod
    def now() -> int:
        return int(time.time() * 1000)

    @staticmethod
    def parse(text: str) -> int:
        try:
            found = datetime.fromisoformat(text)
        except ValueError:
            raise JsRangeError(f"Invalid Date: {text!r}") from None
        return milliseconds(found if found.tzinfo else found.replace(tzinfo=UTC))

    @staticmethod
    def UTC(year: int, month: int = 0, day: int = 1, *rest: int) -> int:
        hours, minutes, seconds, ms = (*rest, 0, 0, 0, 0)[:4]
        at = datetime(year, month + 1, day, hours, minutes, seconds, tzinfo=UTC)
        return milliseconds(at) + ms

    def getTime(self) -> int:
        return self._ms

    valueOf = getTime

    @property
    def instant(self) -> datetime:
        return datetime.fromtimestamp(self._ms / 1000, UTC)

    def toISOString(self) -> str:
        return f"{self.instant:%Y-%m-%dT%H:%M:%S}.{self._ms % 1000:03}Z"

    toJSON = toISOString

    def getUTCFullYear(self) -> int:
        return self.instant.year

    def getUTCMonth(self) -> int:
        return self.instant.month - 1

    def getUTCDate(self) -> int:
        return self.instant.day

    def getUTCDay(self) -> int:
        return self.instant.isoweekday() % 7

    def getUTCHours(self) -> int:
        return self.instant.hour

    def getUTCMinutes(self) -> int:
        return self.instant.minute

    def getUTCSeconds(self) -> int:
        return self.instant.second

    # A Worker's time zone is UTC.
    getFullYear = getUTCFullYear
    getMonth = getUTCMonth
    getDate = getUTCDate
    getDay = getUTCDay
    getHours = getUTCHours
    getMinutes = getUTCMinutes
    getSeconds = getUTCSeconds

    def __str__(self) -> str:
        return f"{self.instant:%a %b %d %Y %H:%M:%S} GMT+0000 (Coordinated Universal Time)"


def milliseconds(at: datetime) -> int:
    """The instant in POSIX milliseconds; what has no zone is local time, as in Python."""
    return int(at.timestamp() * 1000)
